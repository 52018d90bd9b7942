"""A random walk over valid experiment files: all of them are read, in every spelling, and say the same again."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.spec.parse import parse_spec
from taomagic.spec.settings import Purpose, Secret
from taomagic.spec.ssd import SSDExperiment, read_experiment
from taomagic.spec.ssd_pb2 import Experiment

from .valid_specs import experiments, plain, spellings

#: TAOMAGIC_RANDOM_SPECS=2000 walks further than the suite has time for.
EXAMPLES = int(os.environ.get("TAOMAGIC_RANDOM_SPECS", "30"))

walk = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def read(folder: Path, text: str, purpose: Purpose = "train") -> SSDExperiment:
    path = folder / "spec.txt"
    path.write_text(text, encoding="utf-8")
    return read_experiment(path, purpose=purpose, shown_as="spec.txt")


def without_text(experiment: SSDExperiment) -> dict[str, Any]:
    """Return what an experiment says, its secret made visible."""
    values = dataclasses.asdict(experiment)
    del values["text"]
    wandb = ((values["training"] or {}).get("visualizer") or {}).get("wandb") or {}
    if isinstance(wandb.get("key"), Secret):
        wandb["key"] = wandb["key"].reveal()
    return values


@given(data=st.data())
@walk
def test_every_valid_experiment_is_read_and_shown(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    text = plain(data.draw(experiments()))
    folder = tmp_path_factory.getbasetemp()
    experiment = read(folder, text)
    shown = experiment.summary()
    assert shown.startswith("Experiment spec.txt\n")
    assert all(note in shown for note in experiment.notes)
    # What NVIDIA's own tools would write from the same message says the same, notes included.
    written = text_format.MessageToString(parse_spec(text, Experiment, name="spec.txt").message)
    assert without_text(read(folder, written)) == without_text(experiment)
    # The text that is kept has no secret, and is still the same experiment in every other respect.
    kept = read(folder, experiment.text)
    assert without_text(kept)["model"] == without_text(experiment)["model"]
    assert kept.training == experiment.training
    assert kept.summary() == shown


@given(data=st.data())
@walk
def test_every_spelling_of_an_experiment_says_the_same(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(experiments())
    folder = tmp_path_factory.getbasetemp()
    spelled = read(folder, data.draw(spellings(content)))
    expected = read(folder, plain(content))
    assert {**without_text(spelled), "notes": ()} == {**without_text(expected), "notes": ()}
    assert sorted(spelled.notes) == sorted(expected.notes)
    assert spelled.summary().split("\nnotes\n")[0] == expected.summary().split("\nnotes\n")[0]


@given(data=st.data(), purpose=st.sampled_from(["evaluate", "inference", "export"]))
@walk
def test_what_is_right_for_training_is_right_for_the_rest(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, purpose: Purpose
) -> None:
    content = data.draw(experiments())
    if purpose == "evaluate" and "validation_data_sources" not in plain(content):
        return
    folder = tmp_path_factory.getbasetemp()
    experiment, trained = read(folder, plain(content), purpose), read(folder, plain(content))
    assert experiment.model == trained.model
    assert experiment.nms == trained.nms
    assert experiment.summary()
