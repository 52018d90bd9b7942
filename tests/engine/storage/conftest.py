from __future__ import annotations

import pytest

from taomagic.engine.storage import container


@pytest.fixture(autouse=True)
def _cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make keys cheap to derive; one test of the container checks the real cost."""
    monkeypatch.setattr(container, "SCRYPT_COST", (10, 1, 1))
