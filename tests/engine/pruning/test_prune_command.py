"""``prune`` with every flag: what it writes and says, and how it refuses."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest
import torch

from taomagic.engine import cli
from taomagic.engine.backbones.base import keras_name
from taomagic.engine.detectnet_v2 import weights as detectnet_weights
from taomagic.engine.ssd import weights
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import ModelFileProblem

from .nets import detectnet, ssd

KEY = "a key of ours"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in both forms."""
    folder = tmp_path_factory.mktemp("models")
    model = ssd("resnet", 10)
    weights.save(folder / "whole.tlt", model, KEY)
    weights.save(folder / "whole.hdf5", model, "")
    grid = detectnet("resnet", 10)
    grid.pretrained_layers = frozenset({"conv1"})
    detectnet_weights.save(folder / "grid.tlt", grid, KEY, epoch=3, optimizer={"step": 7})
    return folder


@pytest.fixture
def folder(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with both files, in which commands run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAUNCHER_MOUNTS", raising=False)
    monkeypatch.delenv("TAOMAGIC_KEY", raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logger = logging.getLogger("taomagic")
    state = list(logger.handlers), logger.level, logger.propagate
    for file in models.iterdir():
        shutil.copy2(file, tmp_path)
    yield tmp_path
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logger.handlers[:], logger.propagate = state[0], state[2]
    logger.setLevel(state[1])


@pytest.fixture
def prune(folder: Path) -> Callable[..., tuple[int, str]]:
    """Run ``prune``; return its exit code and what it printed."""

    def run(*words: str, task: str = "ssd") -> tuple[int, str]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = cli.main([task, "prune", *words])
        return code, printed.getvalue()

    return run


def widths(path: Path, key: str = "") -> dict[str, int]:
    """Return the filters of each convolution of a stored model."""
    model, _ = weights.model_from_file(path, key)
    return {keras_name(p): m.out_channels for p, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)}


def test_every_flag_counts(folder: Path, prune: Callable[..., tuple[int, str]]) -> None:
    code, said = prune(
        "-m", "whole.tlt", "-o", "deep/down/small.tlt", "-k", KEY, "-n", "L2", "-eq", "arithmetic_mean", "-pg", "3",
        "-pth", "0.7", "-nf", "5", "-el", "block_1a_conv_1", "conv1", "--results_dir", "results", "-v",
    )  # fmt: skip
    assert code == 0, said
    whole, small = widths(folder / "whole.tlt", KEY), widths(folder / "deep/down/small.tlt", KEY)
    assert small["block_1a_conv_1"] == whole["block_1a_conv_1"]
    assert small["conv1"] == whole["conv1"]
    cut = {name: count for name, count in small.items() if count < whole[name]}
    assert cut
    assert all(count % 3 == 0 and count >= 5 for count in cut.values())
    assert f"kept {small['block_2a_conv_1']} of {whole['block_2a_conv_1']} filters" in said

    before, _ = weights.model_from_file(folder / "whole.tlt", KEY)
    after, file = weights.model_from_file(folder / "deep/down/small.tlt", KEY)
    ratio = parameter_count(after) / parameter_count(before)
    assert f"Pruning ratio (pruned model / original model): {ratio}" in said.splitlines()
    assert file.optimizer is None
    record = json.loads((folder / "results/status.json").read_text().splitlines()[-1])
    assert record["status"] == "SUCCESS"
    assert record["kpi"] == {
        "pruning_ratio": ratio,
        "size": (folder / "deep/down/small.tlt").stat().st_size / 2**20,
        "param_count": parameter_count(after) / 1e6,
    }
    assert KEY not in said


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (("-n", "max"), ("-n", "L2")),
        (("-pth", "0.1"), ("-pth", "0.5")),
        (("-pg", "1"), ("-pg", "16")),
        (("-nf", "1"), ("-nf", "32")),
        (("-eq", "union"), ("-eq", "intersection")),
    ],
)
def test_each_number_and_word_changes_the_outcome(
    folder: Path, prune: Callable[..., tuple[int, str]], settings: tuple[str, ...], more: tuple[str, ...]
) -> None:
    base = ("-pth", "0.3", "-pg", "1", "-nf", "1")
    for name, words in (("a", settings), ("b", more)):
        code, said = prune("-m", "whole.hdf5", "-o", name, *base, *words)
        assert code == 0, said
    assert widths(folder / "a.hdf5") != widths(folder / "b.hdf5")


@pytest.mark.parametrize(
    ("output", "key", "written"),
    [
        ("small", KEY, "small.tlt"),
        ("small", "", "small.hdf5"),
        ("small.v2", "", "small.v2.hdf5"),
        ("small.hdf5", KEY, "small.hdf5"),
    ],
)
def test_a_name_without_a_suffix_gets_the_one_of_the_key(
    folder: Path, prune: Callable[..., tuple[int, str]], output: str, key: str, written: str
) -> None:
    source = "whole.tlt" if key else "whole.hdf5"
    code, said = prune("-m", source, "-o", output, *(("-k", key) if key else ()))
    assert code == 0, said
    assert f"Saved: {written}" in said or f"/{written}" in said
    weights.model_from_file(folder / written, key)


def test_a_pruned_file_is_pruned_further(folder: Path, prune: Callable[..., tuple[int, str]]) -> None:
    few = ("-pg", "1", "-nf", "1")
    assert prune("-m", "whole.hdf5", "-o", "once", "-pth", "0.2", *few)[0] == 0
    assert prune("-m", "once.hdf5", "-o", "twice", "-pth", "0.6", *few)[0] == 0
    once, twice = widths(folder / "once.hdf5"), widths(folder / "twice.hdf5")
    assert all(twice[name] <= once[name] for name in once)
    assert sum(twice.values()) < sum(once.values())


def test_a_threshold_above_all_leaves_the_minimum_and_says_so(
    folder: Path, prune: Callable[..., tuple[int, str]]
) -> None:
    code, said = prune("-m", "whole.hdf5", "-o", "least", "-pth", "5", "-nf", "0", "-pg", "1")
    assert code == 0, said
    assert "each layer keeps what -nf and -pg demand" in said
    small = widths(folder / "least.hdf5")
    assert {count for name, count in small.items() if not name.startswith(("ssd_conf", "ssd_loc"))} == {1}


def test_when_nothing_goes_that_is_said(folder: Path, prune: Callable[..., tuple[int, str]]) -> None:
    code, said = prune("-m", "whole.hdf5", "-o", "same", "-pth", "0")
    assert code == 0
    assert "Nothing was pruned" in said
    assert "original model): 1.0" in said


def test_what_nvidia_excludes_may_be_excluded(prune: Callable[..., tuple[int, str]]) -> None:
    code, said = prune("-m", "whole.hdf5", "-o", "small", "-el", "ssd_predictions", "ssd_conf_0")
    assert code == 0, said


def test_detectnet_v2_is_pruned_by_the_same_command(
    folder: Path, prune: Callable[..., tuple[int, str]]
) -> None:
    code, said = prune(
        "-m", "grid.tlt", "-o", "final/small", "-k", KEY, "-eq", "intersection", "-pth", "0.5", "-pg", "4", "-nf", "4",
        "-el", "block_2a_conv_1", "--results_dir", "results", task="detectnet_v2",
    )  # fmt: skip
    assert code == 0, said
    before, _ = detectnet_weights.model_from_file(folder / "grid.tlt", KEY)
    after, file = detectnet_weights.model_from_file(folder / "final/small.hdf5", "")
    assert file.optimizer is None
    assert after.heads["output_cov"].out_channels == 2
    assert after.heads["output_bbox"].out_channels == 8
    assert after.heads["output_cov"].in_channels < before.heads["output_cov"].in_channels
    kept = after.architecture.channels
    assert kept
    assert "block_2a_conv_1" not in kept
    assert not {"output_cov", "output_bbox"} & set(kept)
    assert all(count % 4 == 0 for count in kept.values())
    ratio = parameter_count(after) / parameter_count(before)
    lines = [line.rpartition("] ")[2] for line in said.splitlines()]
    said_in_order = [
        "Exploring graph for retainable indices",
        "Pruning model and appending pruned nodes to new graph",
        f"Pruning ratio (pruned model / original model): {ratio}",
        "Execution status: PASS",
    ]
    places = [next(i for i, line in enumerate(lines) if line.endswith(text)) for text in said_in_order]
    assert places == sorted(places)
    record = json.loads((folder / "results/status.json").read_text().splitlines()[-1])
    assert record["message"] == "Pruning finished successfully."
    assert record["kpi"]["pruning_ratio"] == ratio
    assert record["kpi"]["param_count"] == parameter_count(after) / 1e6
    assert set(record["kpi"]) == {"pruning_ratio", "size", "param_count"}


@pytest.mark.parametrize(
    ("task", "file", "other"), [("ssd", "grid.tlt", "detectnet_v2"), ("detectnet_v2", "whole.tlt", "ssd")]
)
def test_a_model_of_another_network_is_called_what_it_is(
    folder: Path, prune: Callable[..., tuple[int, str]], task: str, file: str, other: str
) -> None:
    code, said = prune("-m", file, "-o", "small", "-k", KEY, task=task)
    assert code == 1
    assert f"this is a model of '{other}', not of '{task}'" in said
    assert f"{task} train or {task} prune" in said


def test_what_is_loaded_remembers_its_pretrained_layers_and_damage_is_told(folder: Path) -> None:
    model, file = detectnet_weights.model_from_file(folder / "grid.tlt", KEY)
    assert model.pretrained_layers == {"conv1"}
    assert (file.epoch, file.optimizer) == (3, {"step": 7})
    with pytest.raises(ModelFileProblem, match="key"):
        detectnet_weights.model_from_file(folder / "grid.tlt", "other")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-el", "block_1a_conv1"), "Did you mean block_1a_conv_1"),
        (("-el", "qqqq"), "There are conv1"),
        (("-el", "ssd_expand_block_1"), "Did you mean ssd_expand_block_1_"),
        (("-n", "l2"), "L2"),
        (("-eq", "mean"), "arithmetic_mean"),
        (("-pg", "0"), "whole number above 0"),
        (("-pth", "nan"), "at least 0"),
        (("-nf", "-1"), "at least 0"),
        (("-k", "another key", "-m", "whole.tlt"), "key"),
        (("-m", "missing.hdf5"), "missing.hdf5"),
        (("-o", "results"), "names a folder"),
        (("-o", "whole.hdf5"), "which would be lost"),
        (("-m", "weights.hdf5"), "not the network they belong to"),
    ],
)
def test_what_cannot_be_done_is_told_once_with_a_hint(
    folder: Path, prune: Callable[..., tuple[int, str]], words: tuple[str, ...], message: str
) -> None:
    (folder / "results.hdf5").mkdir()
    with h5py.File(folder / "whole.hdf5") as source, h5py.File(folder / "weights.hdf5", "w") as bare:
        for name in source:
            source.copy(name, bare)
    given = {"-m": "whole.hdf5", "-o": "out"}
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, said = prune(
        *(w for flag, value in given.items() if flag not in words for w in (flag, value)), *words
    )
    assert code == 1
    assert sum(line.startswith("ERROR: ") for line in said.splitlines()) == 1
    assert message in said
    assert "HINT: " in said
    assert "Traceback" not in said
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
