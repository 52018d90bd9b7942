"""Which commands reach the embedded engine, and by which words."""

from __future__ import annotations

import pytest

from taomagic.launcher import backends, catalog
from taomagic.launcher.command import parse_command
from taomagic.spec.arguments import SUBTASKS, parse_arguments


@pytest.mark.parametrize(
    ("line", "prog", "task", "words"),
    [
        ("deploy ssd gen_trt_engine -m m.onnx", "tao", "deploy ssd", "deploy ssd gen_trt_engine -m m.onnx"),
        ("ssd gen_trt_engine -m m.onnx", "tao-deploy", "deploy ssd", "deploy ssd gen_trt_engine -m m.onnx"),
        (
            "deploy detectnet_v2 compare -m a b",
            "tao",
            "deploy detectnet_v2",
            "deploy detectnet_v2 compare -m a b",
        ),
        ("converter m.etlt -e x.trt", "tao", "converter", "converter m.etlt -e x.trt"),
        ("model converter m.etlt -e x.trt", "tao", "converter", "converter m.etlt -e x.trt"),
        ("model ssd evaluate -m m.tlt", "tao", "ssd", "ssd evaluate -m m.tlt"),
    ],
)
def test_the_engine_gets_the_words_of_its_own_command_line(
    line: str, prog: str, task: str, words: str
) -> None:
    command = parse_command(line.split(), prog=prog)
    assert command.engine_task == task
    assert " ".join(command.words) == words
    assert backends.engine_runs(command)


def test_the_catalog_and_the_parser_agree_on_what_is_deployed() -> None:
    for network in ("ssd", "detectnet_v2"):
        ours = catalog.engine_subtasks("deploy", network)
        assert set(ours) == set(SUBTASKS[f"deploy {network}"])
        assert set(ours) <= set(catalog.subtasks("deploy", network) or ())
    assert catalog.engine_subtasks("model", "converter") == SUBTASKS["converter"]
    assert catalog.engine_subtasks("deploy", "yolo_v4") == ()
    assert catalog.engine_subtasks("dataset", "annotations") == ()
    assert "converter" in catalog.engine_summary()


def test_flags_of_the_converter_are_read_in_their_short_forms() -> None:
    line = "m.etlt -k key -d 3,300,300 -o NMS,NMS_1 -e x.trt -m 16 -t fp16 -i nchw -c cal.bin -b 4 -w 1000000 -s -u 0"
    found = parse_arguments("converter", line.split())
    assert (found.model, found.output, found.input_dims) == ("m.etlt", "x.trt", (3, 300, 300))
    assert found.output_names == ("NMS", "NMS_1")
    assert (found.max_batch_size, found.batch_size, found.data_type) == (16, 4, "fp16")
    assert (found.cal_cache_file, found.max_workspace_size) == ("cal.bin", 1000000)
    assert (found.strict_type_constraints, found.dla_core) == (True, 0)
    found = parse_arguments("converter", ["-p", "Input,1x3x4x4,2x3x4x4,8x3x4x4", "m.onnx"])
    assert found.profiles == [("Input", ((1, 3, 4, 4), (2, 3, 4, 4), (8, 3, 4, 4)))]


@pytest.mark.parametrize(("word", "size"), [("2", 2 << 30), ("2147483648", 2 << 30), ("1073741824", 1 << 30)])
def test_a_workspace_is_in_gibibytes_or_in_bytes(word: str, size: int) -> None:
    words = ["gen_trt_engine", "-m", "m.onnx", "-e", "s.txt", "-r", "r", "--max_workspace_size", word]
    assert parse_arguments("deploy ssd", words).max_workspace_size == size
