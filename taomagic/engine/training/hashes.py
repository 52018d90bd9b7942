"""Short hashes that tell whether two trainings are of one kind."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from typing import Any


def hash_of_settings(experiment: Any) -> str:
    """Return a short hash of an experiment; its path and its comments don't matter, its values do."""
    settings = {k: v for k, v in asdict(experiment).items() if k not in {"path", "text", "notes"}}
    return hash_of(repr(settings))


def hash_of(text: str) -> str:
    """Return a short hash of a text, for fingerprints."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
