"""Every field of DetectNet_v2's files does something, is refused, or is noted; none is passed over in silence.

Each is given other values in NVIDIA's own files, so that a field that is added to the proto and to nothing else fails.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from taomagic.errors import SpecProblem
from taomagic.spec import detectnet_v2_pb2, settings_detectnet_v2
from taomagic.spec.detectnet_v2 import read_experiment, read_inference

SPECS = Path(__file__).parents[2] / "specs" / "detectnet_v2"
ENGINE = Path(__file__).parents[2] / "taomagic" / "engine"
#: Blocks that aren't in NVIDIA's files, or switched off there, and without which their fields mean nothing.
SWITCHED_ON = """
training_config { enable_qat: true cost_scaling { enabled: true }
  visualizer { wandb_config { enabled: true } clearml_config { task: "a" } } }
"""
MASK = """
loss_mask_label_filter { mask_multiplier: 0.5 objective_label_filter_configs {
  label_filter { source_class_label_filter { source_class_names: "van" } } } }
"""
#: A file has one set of labels, tried as a whole by the tests of dataset_convert.
ELSEWHERE = "dataset_export_config"

Field = tuple[FieldDescriptor, ...]


def fields(kind: Descriptor, path: Field = ()) -> Iterator[Field]:
    """Yield the path of every field that holds a value, through blocks and values of maps."""
    for field in kind.fields:
        inner, here = field.message_type, (*path, field)
        if inner is not None and inner.GetOptions().map_entry:
            value = inner.fields_by_name["value"]
            if value.message_type is not None:
                yield from fields(value.message_type, here)
                continue
        elif inner is not None:
            yield from fields(inner, here)
            continue
        yield here


def named(path: Field) -> str:
    return ".".join(field.name for field in path)


def others(field: FieldDescriptor, now: Any) -> list[Any]:
    """Return values that a field doesn't have."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [not now]
    if field.type == FieldDescriptor.TYPE_STRING:
        return ["other", "/x/*", "car"]
    if field.type == FieldDescriptor.TYPE_ENUM:
        return [value.number for value in field.enum_type.values if value.number != now]
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return [now * 0.5 + 0.25, now + 0.01, now * 2 + 1]
    return [now + 1, now + 16, now * 2 + 2]


def changed(root: Message, path: Field) -> Iterator[Message]:
    """Yield copies of a message with another value of a field, once for each value to try."""
    for attempt in range(8):
        copy = type(root)()
        copy.CopyFrom(root)
        block: Any = copy
        for field in path[:-1]:
            inner = getattr(block, field.name)
            if field.message_type.GetOptions().map_entry:
                block = inner[min(inner, default="car")]
            elif field.is_repeated:
                block = inner[0] if inner else inner.add()
            else:
                block = inner
        last = path[-1]
        holder = getattr(block, last.name)
        if last.message_type is not None:  # a map of values
            values = others(last.message_type.fields_by_name["value"], holder[min(holder, default="car")])
        else:
            values = others(last, 0 if last.is_repeated else holder)
        if attempt >= len(values):
            return
        if last.message_type is not None:
            holder[min(holder, default="car")] = values[attempt]
        elif last.is_repeated:
            holder.append(values[attempt])
        else:
            setattr(block, last.name, values[attempt])
        yield copy


class Reader:
    """Reads changed copies of a file, and compares with what the file itself says."""

    def __init__(self, folder: Path, root: Message, read: Callable[[Path], Any]) -> None:
        self._file, self._root, self._read = folder / "spec.txt", root, read
        self._before = self._resolved(root)

    def _resolved(self, content: Message) -> Any:
        self._file.write_text(text_format.MessageToString(content), encoding="utf-8")
        return dataclasses.replace(self._read(self._file), text="")

    def outcomes(self, path: Field) -> set[str]:
        """Return what other values of a field lead to, as far as one has an effect: used, noted, refused, nothing."""
        found: set[str] = set()
        for content in changed(self._root, path):
            try:
                after = self._resolved(content)
            except SpecProblem:
                found.add("refused")
                continue
            if dataclasses.replace(after, notes=()) != dataclasses.replace(self._before, notes=()):
                return found | {"used"}
            if after.notes != self._before.notes:
                return found | {"noted"}
            found.add("nothing")
        return found


def message(kind: type[Message], name: str, more: str = "") -> Message:
    parsed = kind()
    text_format.Parse((SPECS / f"detectnet_v2_{name}.txt").read_text(encoding="utf-8"), parsed)
    text_format.Merge(more, parsed)
    return parsed


EXPERIMENT_FIELDS = [
    path for path in fields(detectnet_v2_pb2.Experiment.DESCRIPTOR) if path[0].name != ELSEWHERE
]


@pytest.fixture(scope="module")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Reader]:
    """Return readers of the training file, without and with a mask of the loss."""
    folder = tmp_path_factory.mktemp("fields")
    roots = {
        mask: message(
            detectnet_v2_pb2.Experiment, "train_resnet18_kitti", SWITCHED_ON + (MASK if mask else "")
        )
        for mask in (False, True)
    }
    return {
        mask: Reader(folder, root, lambda file: read_experiment(file, purpose="train"))
        for mask, root in roots.items()
    }


@pytest.fixture(scope="module")
def inferences(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    """Return readers of the file with a model and of that with an engine."""
    folder = tmp_path_factory.mktemp("fields")
    names = ("inference_kitti_tlt", "inference_kitti_etlt_qat")
    return [Reader(folder, message(detectnet_v2_pb2.Inference, name), read_inference) for name in names]


@pytest.mark.parametrize("path", EXPERIMENT_FIELDS, ids=named)
def test_a_field_of_the_experiment_is_used_refused_or_noted(
    experiments: dict[bool, Reader], path: Field
) -> None:
    found = experiments[path[0].name == "loss_mask_label_filter"].outcomes(path)
    assert found - {"nothing"}, f"{named(path)} does nothing, and nobody says so"


@pytest.mark.parametrize("path", list(fields(detectnet_v2_pb2.Inference.DESCRIPTOR)), ids=named)
def test_a_field_of_the_inference_file_is_used_refused_or_noted(
    inferences: list[Reader], path: Field
) -> None:
    found = {outcome for reader in inferences for outcome in reader.outcomes(path)}
    # Of wandb_config as a whole something is said; what is in it needs no word.
    in_noted_block = path[-2].name == "wandb_config" and path[-1].name != "enabled"
    assert in_noted_block or found - {"nothing"}, f"{named(path)} does nothing, and nobody says so"


def test_the_engine_reads_every_setting() -> None:
    """A name that no module of the engine reads as an attribute is a setting without effect."""
    read = {
        node.attr
        for path in ENGINE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        f"{name}.{field.name}"
        for name, kind in vars(settings_detectnet_v2).items()
        if dataclasses.is_dataclass(kind)
        for field in dataclasses.fields(kind)
        if field.name not in read
    }
    assert unread <= {"DetectNetModelSettings.use_pooling"}, "true is refused"
