"""Damaged experiment and data set export files: each is read, or refused in one clear message; nothing else happens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.errors import SpecProblem
from taomagic.spec import detectnet_v2, settings_detectnet_v2
from taomagic.spec.dataset_export import Network, read_dataset_export
from taomagic.spec.settings import Purpose
from taomagic.spec.ssd import read_experiment

from .conftest import DOCUMENTED

#: TAOMAGIC_RANDOM_SPECS=2000 walks further than the suite has time for.
EXAMPLES = int(os.environ.get("TAOMAGIC_RANDOM_SPECS", "150"))

EXPERIMENT = DOCUMENTED.read_text(encoding="utf-8")
VISUALIZER = """\
visualizer {
enabled: true
wandb_config {
enabled: true
key: "0123456789abcdef0123456789abcdef01234567"
tags: ["a", "b"]
}
clearml_config {
deferred_init: "true"
}
}
optimizer {
adam {
beta1: 0.9
}
}
"""
FULL = EXPERIMENT.replace("training_config {\n", f"training_config {{\n{VISUALIZER}").encode()
KITTI = b"""\
kitti_config {
root_directory_path: "/data"
image_dir_name: "image_2"
label_dir_name: "label_2"
image_extension: ".jpg"
partition_mode: "random"
num_partitions: 2
num_shards: 4
val_split: 14
}
image_directory_path: "/data"
target_class_mapping {
key: "van"
value: "car"
}
sample_modifier_config {
filter_samples_containing_only: "car"
dominant_target_classes: ["car"]
num_duplicates: 1
max_training_samples: 100
}
"""
COCO = b"""\
coco_config {
root_directory_path: "/data"
img_dir_names: ["val", "train"]
annotation_files: ["val.json", "train.json"]
num_partitions: 2
num_shards: [2, 4]
}
"""
GRID_SPECS = Path(__file__).parents[2] / "specs" / "detectnet_v2"
#: NVIDIA's training file, with the blocks that it doesn't have.
GRID = (
    (GRID_SPECS / "detectnet_v2_train_resnet18_kitti.txt").read_bytes()
    + b"""\
loss_mask_label_filter {
objective_label_filter_configs {
label_filter {
bbox_dimensions_label_filter {
min_width: 4
}
}
target_class_names: "car"
objective_names: ["cov", "bbox"]
}
objective_label_filter_configs {
label_filter {
source_class_label_filter {
source_class_names: ["van"]
}
}
}
mask_multiplier: 0.5
preserve_ground_truth: true
}
dataset_export_config {
kitti_config {
root_directory_path: "/data"
}
}
"""
)
GRID_INFERENCE = (GRID_SPECS / "detectnet_v2_inference_kitti_etlt_qat.txt").read_bytes()
NUMBERS = [
    b"nan", b"inf", b"-inf", b"1e400", b"-1e400", b"1e39", b"99999999999999999999999", b"-1", b"0", b"-0.0",
    b"4294967295", b"2147483648", b"0x7fffffff", b"1e-46", b"077", b"1_000", b"1,5", b"--1", b"\xef\xbc\x91",
    b"9" * 5000, b"0." + b"0" * 400 + b"1",
]  # fmt: skip
TEXTS = [
    b'""', b"''", b'"', b'"\\"', b'"\\x"', b'"\\xff"', b'"\\777"', b'"\\ud800"', b'"\\U00110000"', b'"\n"',
    b'"[1.0/0]"', b'"[]"', b'"None"', b'"[[[[[[]]]]]]"', b'"' + b"[" * 3000 + b'"', b'"[' + b"1.0," * 4000 + b']"',
    b'"1e999"', b'"__import__(\'os\')"', b'"\\0"', "“car”".encode(), "\u202ecar".encode(),
]  # fmt: skip
PIECES = [
    b"\0", b"\xff\xfe", b"\xc3", b"\r", b"\x0b", b"{", b"}", b"<", b">", b"[", b"]", b"#", b";", b":", b"\\",
    b"\xef\xbb\xbf", b"ssd_config { ssd_config { ssd_config {", b"dataset_config { data_sources: [ {}, {} ] }",
    b"dssd_config {}", b"[type.googleapis.com/taomagic.ssd.SSDConfig] { }", b"[a.b]: 1", b"training_config <",
    b"{ " * 3000, b"< " * 500, b"training_config { " * 300, b"target_class_mapping { key: 1 }", b"eval_config: 3",
    b"nms_config: []", b"random_seed { }",
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, original: bytes) -> bytes:
    """Return a file in which some lines are deleted, doubled, swapped, cut or changed."""
    lines = original.split(b"\n")
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(
            st.sampled_from(["delete", "double", "swap", "cut", "number", "text", "insert", "join", "bytes"])
        )
        line = lines[at]
        name, colon, _ = line.partition(b":")
        if change == "delete":
            lines[at : at + draw(st.integers(1, 5))] = []
        elif change == "double":
            lines[at:at] = lines[at : at + draw(st.integers(1, 5))]
        elif change == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        elif change == "cut":
            lines[at] = line[: draw(st.integers(0, len(line)))]
        elif change in ("number", "text") and colon:
            lines[at] = name + colon + draw(st.sampled_from(NUMBERS if change == "number" else TEXTS))
        elif change == "insert":
            inside = draw(st.integers(0, len(line)))
            lines[at] = line[:inside] + draw(st.sampled_from(PIECES)) + line[inside:]
        elif change == "join":
            lines[at : at + 2] = [b" ".join(lines[at : at + 2])]
        elif change == "bytes":
            lines[at] = draw(st.binary(max_size=20))
        lines = lines or [b""]
    return b"\n".join(lines)


def read_or_refuse(folder: Path, content: bytes, read: Callable[[Path], object]) -> None:
    path = folder / "damaged.txt"
    path.write_bytes(content)
    problem: SpecProblem | None = None
    try:
        read(path)
    except SpecProblem as refused:
        problem = refused
    if problem is not None:
        assert problem.message.strip()
        assert problem.hint.strip()
        assert problem.where.startswith("damaged.txt")
        assert problem.line is None or 1 <= problem.line <= content.count(b"\n") + content.count(b"\r") + 1
        assert len(str(problem)) < 4000
        assert "0123456789abcdef" not in f"{problem}{problem.__dict__}"


fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# protobuf warns of "\q" and takes it
quiet = pytest.mark.filterwarnings("ignore:invalid .*escape sequence")


@given(content=damaged(FULL), purpose=st.sampled_from(["train", "evaluate", "inference", "export"]))
@fuzz
@quiet
def test_a_damaged_experiment_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, purpose: Purpose
) -> None:
    read_or_refuse(
        tmp_path_factory.getbasetemp(),
        content,
        lambda path: read_experiment(path, purpose=purpose, shown_as="damaged.txt").summary(),
    )


@given(content=st.one_of(damaged(KITTI), damaged(COCO)), network=st.sampled_from(["ssd", "detectnet_v2"]))
@fuzz
@quiet
def test_a_damaged_export_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, network: Network
) -> None:
    read_or_refuse(
        tmp_path_factory.getbasetemp(),
        content,
        lambda path: read_dataset_export(path, shown_as="damaged.txt", network=network),
    )


@given(content=damaged(GRID), purpose=st.sampled_from(["train", "evaluate", "export", "calibration"]))
@fuzz
@quiet
def test_a_damaged_experiment_of_detectnet_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, purpose: settings_detectnet_v2.Purpose
) -> None:
    read_or_refuse(
        tmp_path_factory.getbasetemp(),
        content,
        lambda path: detectnet_v2.read_experiment(path, purpose=purpose, shown_as="damaged.txt"),
    )


@given(content=damaged(GRID_INFERENCE))
@fuzz
@quiet
def test_a_damaged_inference_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    read_or_refuse(
        tmp_path_factory.getbasetemp(),
        content,
        lambda path: detectnet_v2.read_inference(path, shown_as="damaged.txt"),
    )


@given(content=st.binary(max_size=500))
@fuzz
def test_any_bytes_are_refused_or_an_empty_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for purpose in ("train", "export"):
        read_or_refuse(
            folder,
            content,
            lambda path, purpose=purpose: read_experiment(path, purpose=purpose, shown_as="damaged.txt"),  # type: ignore[misc]
        )
        read_or_refuse(
            folder,
            content,
            lambda path, purpose=purpose: detectnet_v2.read_experiment(  # type: ignore[misc]
                path, purpose=purpose, shown_as="damaged.txt"
            ),
        )
    read_or_refuse(folder, content, lambda path: detectnet_v2.read_inference(path, shown_as="damaged.txt"))
    read_or_refuse(folder, content, lambda path: read_dataset_export(path, shown_as="damaged.txt"))


PLACES = [*PIECES, *NUMBERS, *TEXTS]


@pytest.mark.parametrize("piece", PLACES, ids=lambda piece: repr(piece[:20]))
@quiet
def test_each_kind_of_damage_in_many_places(tmp_path: Path, piece: bytes) -> None:
    lines = FULL.split(b"\n")
    for at in range(PLACES.index(piece) % 8, len(lines), 8):  # the pieces together come to every line
        line = lines[at]
        name, colon, _ = line.partition(b":")
        changed = name + colon + piece if colon and piece not in PIECES else line + b"\n" + piece
        read_or_refuse(
            tmp_path,
            b"\n".join([*lines[:at], changed, *lines[at + 1 :]]),
            lambda path: read_experiment(path, purpose="train", shown_as="damaged.txt"),
        )


@pytest.mark.parametrize("piece", PLACES, ids=lambda piece: repr(piece[:20]))
@quiet
def test_each_kind_of_damage_in_many_places_of_detectnets_files(tmp_path: Path, piece: bytes) -> None:
    for original, step, read in (
        (GRID, 48, lambda path: detectnet_v2.read_experiment(path, purpose="train", shown_as="damaged.txt")),
        (GRID_INFERENCE, 24, lambda path: detectnet_v2.read_inference(path, shown_as="damaged.txt")),
    ):
        lines = original.split(b"\n")
        for at in range(PLACES.index(piece) % step, len(lines), step):
            line = lines[at]
            name, colon, _ = line.partition(b":")
            changed = name + colon + piece if colon and piece not in PIECES else line + b"\n" + piece
            read_or_refuse(tmp_path, b"\n".join([*lines[:at], changed, *lines[at + 1 :]]), read)


def test_a_file_that_is_nested_very_deep_is_refused(tmp_path: Path) -> None:
    for text in (
        b"ssd_config { " * 100_000,
        b"a { " * 200_000,
        b"[" * 500_000,
        b"training_config: " + b"{" * 400_000,
    ):
        read_or_refuse(
            tmp_path, text, lambda path: read_experiment(path, purpose="train", shown_as="damaged.txt")
        )
