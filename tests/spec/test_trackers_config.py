"""``wandb_config`` and ``clearml_config`` of an experiment, and the key that nobody may see."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest

from taomagic.errors import SpecProblem
from taomagic.spec.ssd import ClearMLSettings, Secret, SSDExperiment, VisualizerSettings, WandBSettings

from .conftest import add

Read = Callable[..., SSDExperiment]
Problem = Callable[..., SpecProblem]

KEY = "0123456789abcdef0123456789abcdef01234567"


def with_visualizer(text: str, lines: str) -> str:
    return add(text, f"visualizer {{\n{lines}\n}}", block="training_config")


def visualizer(experiment: SSDExperiment) -> VisualizerSettings:
    assert experiment.training is not None
    assert experiment.training.visualizer is not None
    return experiment.training.visualizer


def test_weights_and_biases_is_resolved(documented: str, read: Read) -> None:
    lines = (
        'wandb_config { enabled: true key: "k" project: "p" entity: "e" reinit: true name: "n" tags: ["a", "b"] '
        'wandb_dir: "/d" notes: "o" mode: OFFLINE }'
    )
    found = visualizer(read(with_visualizer(documented, lines))).wandb
    assert found == WandBSettings(
        key=Secret(""), project="p", entity="e", reinit=True, name="n", tags=("a", "b"), wandb_dir="/d", notes="o",
        mode="offline",
    )  # fmt: skip
    assert found is not None
    assert found.key is not None
    assert found.key.reveal() == "k"


def test_weights_and_biases_has_defaults(documented: str, read: Read) -> None:
    assert visualizer(read(with_visualizer(documented, "wandb_config { enabled: true }"))).wandb == WandBSettings(
        key=None, project="TAO Toolkit", entity=None, reinit=False, name=None, tags=(), wandb_dir=None, notes=None,
        mode=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("block", "note"),
    [
        ('wandb_config { project: "p" }', "wandb_config has no effect: it doesn't say enabled: true"),
        ("wandb_config { enabled: true mode: DISABLED }", "mode: DISABLED reports nothing"),
        ("wandb_config { enabled: false mode: DISABLED }", ""),
        ("wandb_config { }", ""),
    ],
)
def test_weights_and_biases_that_is_off_is_noted_where_that_may_surprise(
    documented: str, read: Read, block: str, note: str
) -> None:
    experiment = read(with_visualizer(documented, block))
    assert visualizer(experiment).wandb is None
    notes = [text for text in experiment.notes if "wandb" in text]
    assert len(notes) == bool(note)
    assert not note or note in notes[0]


def test_clearml_is_switched_on_by_its_block_alone(documented: str, read: Read) -> None:
    assert visualizer(read(with_visualizer(documented, "clearml_config { }"))).clearml == ClearMLSettings(
        project="TAO Toolkit", task=None, tags=(), reuse_last_task_id=False, continue_last_task=False,
        deferred_init=False,
    )  # fmt: skip
    assert visualizer(read(with_visualizer(documented, "enabled: true"))).clearml is None


@pytest.mark.parametrize(
    ("written", "value"), [("true", True), ("False", False), ("1", True), ("0", False), ("", False)]
)
def test_clearml_is_resolved(documented: str, read: Read, written: str, value: bool) -> None:
    lines = (
        'clearml_config { project: "p" task: "t" tags: "a" tags: "b" reuse_last_task_id: true '
        f'continue_last_task: true deferred_init: "{written}" }}'
    )
    found = visualizer(read(with_visualizer(documented, lines))).clearml
    assert found == ClearMLSettings("p", "t", ("a", "b"), True, True, value)


def test_deferred_init_is_a_truth_value(documented: str, problem: Problem) -> None:
    found = problem(with_visualizer(documented, 'clearml_config { deferred_init: "later" }'))
    assert "deferred_init should be one of true, false, but" in found.message
    assert found.line is not None


SPELLINGS = [
    f'key: "{KEY}"',
    f"key:'{KEY}'",
    f'key : "{KEY[:20]}" "{KEY[20:]}"',
    f"key:  # mine\n  \"{KEY[:20]}\"\n  '{KEY[20:]}'\n",
    'key: "' + "".join(f"\\x{ord(c):02x}" for c in KEY) + '"',
    f'key: "{KEY}"  # {KEY}\n',
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_key_is_handed_on_and_never_shown(documented: str, read: Read, spelling: str) -> None:
    text = with_visualizer(documented, f"wandb_config {{ enabled: true {spelling} }}")
    experiment = read(text)
    wandb = visualizer(experiment).wandb
    assert wandb is not None
    assert wandb.key is not None
    assert wandb.key.reveal() == KEY
    stored = wandb.key.reveal()[:20], KEY[20:], "\\x30\\x31\\x32"
    for shown in (
        repr(experiment),
        str(dataclasses.asdict(experiment)),
        experiment.text,
        experiment.summary(),
        "\n".join(experiment.notes),
    ):
        assert not any(part in shown for part in stored)
    assert KEY.encode() not in pickle.dumps(experiment.training.visualizer)  # type: ignore[union-attr]
    # Everything else stays where it is, the classes' keys among it.
    assert experiment.text.count("\n") == text.count("\n")
    assert 'key: "car"' in experiment.text
    assert any("WANDB_API_KEY" in note for note in experiment.notes)


def test_the_key_is_found_in_a_file_of_one_line(documented: str, read: Read) -> None:
    text = with_visualizer(documented, f'wandb_config {{ enabled: true key: "{KEY}" }}')
    text = " ".join(line.partition("#")[0].strip() for line in text.split("\n"))
    experiment = read(text)
    assert KEY not in experiment.text
    assert KEY not in experiment.summary()


def test_a_short_key_does_not_change_what_has_nothing_to_do_with_it(documented: str, read: Read) -> None:
    experiment = read(with_visualizer(documented, 'wandb_config { enabled: true key: "a" }'))
    assert 'key: "***"' in experiment.text
    assert "target_class_mapping" in experiment.text
    assert experiment.summary()


@pytest.mark.parametrize(
    "lines",
    [
        f"key: {KEY}",
        f'key: "{KEY}',
        f"key “{KEY}”",
        f"key:\n  {KEY}",
        f'key: "{KEY}" key: "{KEY}"',
        f'key: "{KEY}" key "{KEY}',
    ],
)
def test_a_message_about_the_key_does_not_show_it(documented: str, problem: Problem, lines: str) -> None:
    found = problem(with_visualizer(documented, f"wandb_config {{\n enabled: true {lines}\n}}"))
    assert KEY not in f"{found}{found.__dict__}"
    assert "key" in found.message
    assert found.hint
    assert found.line is not None


def test_messages_about_other_keys_show_the_line(documented: str, problem: Problem) -> None:
    text = with_visualizer(documented, f'wandb_config {{ enabled: true key: "{KEY}" }}')
    assert 'key: "car' in problem(text.replace('key: "car"', 'key: "car', 1)).message


def test_secrets_look_alike_and_are_kept_when_copied() -> None:
    one, other = Secret("one"), Secret("other")
    assert one == other
    assert hash(one) == hash(other)
    assert one != "one"
    assert repr(one) == repr(other) == "Secret('***')"
    assert f"{one}" == "***"
    assert copy.deepcopy(one).reveal() == copy.copy(one).reveal() == "one"
    assert pickle.loads(pickle.dumps(one)).reveal() == ""
