"""What counts as an error in a notebook's output, and what a command should have left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from taomagic.launcher.command import parse_command
from taomagic.notebook.artefacts import missing
from taomagic.notebook.judging import STATUS_MIME, judge, tells_of_an_error


@pytest.mark.parametrize(
    "line",
    [
        "Image zip file not found, please download.",
        "rm: cannot remove '/p/ngccli/*.zip': No such file or directory",
        "mkdir: cannot create directory '/data': Permission denied",
        "cp: cannot stat '/p/data/testing/image_2/00000*': No such file or directory",
        "unzip:  cannot find or open /p/data/data_object_image_2.zip, .zip or .ZIP.",
        "wget: unable to resolve host address 'ngc.nvidia.com'",
        "2026-11-21 22:50:18 ERROR 404: Not Found.",
        "ERROR: Could not find a version that satisfies the requirement nvidia-tao",
        "ERROR:root:no such key",
        "2022-06-01 10:00:00,123 - root - ERROR - Invalid decryption",
        "2026-11-21 10:00:00,123 [TAO Toolkit] [ERROR] iva.common: no key",
        "[2026-11-21T10:00:00Z] [x] ERROR something",
        "/bin/bash: tao: command not found",
        "/bin/bash: line 1: ngc: command not found",
        "sh: 1: tao-deploy: not found",
        "UsageError: Line magic function `%tao_evn` not found.",
        "Error: Invalid apikey",
        "Error response from daemon: unauthorized",
        "images corrupt, redownload!",
        "The archive is corrupted",
        "Traceback (most recent call last):",
        "Segmentation fault (core dumped)",
    ],
)
def test_a_line_of_trouble_is_found(line: str) -> None:
    assert tells_of_an_error(line)


@pytest.mark.parametrize(
    "line",
    [
        "Validation cost: 0.000264",
        "Error: 0.02",
        "validation error: 3 %",
        "see https://example.com/docs/ERROR-404/error.html",
        "set the level of the log to ERROR or WARNING",
        "0 corrupt images",
        "no corrupt file",
        "the archive is not corrupted",
        "Corrupt JPEG data: 2 extraneous bytes before marker 0xd9",
        "WARNING: Retrying after connection broken: No such file or directory",
        "2026-11-21 10:00:00,123 [TAO Toolkit] [INFO] root: No such file or directory, so a new one is made",
        "2022-06-01 W tensorflow/stream_executor/platform/default/dso_loader.cc:64] Could not load dynamic library "
        "'libcudart.so.11.0'; dlerror: libcudart.so.11.0: cannot open shared object file: No such file or directory",
        "E tensorflow/stream_executor/cuda/cuda_driver.cc:318] failed call to cuInit: UNKNOWN ERROR (303)",
        "Telemetry data couldn't be sent, but the command ran successfully.",
        "[WARNING]: <urlopen error [Errno -2] Name or service not known>",
        "ERROR: pip's dependency resolver does not currently take into account all the packages that are installed.",
        "sh: 1:  echo: not found",
        "/bin/bash:  echo: command not found",
        "Execution status: PASS",
        "[==============>..............] [1][2][3][4][5][6][7][8][9][1][2][3][4][5][6][7][8][9] 57/120",
    ],
)
def test_a_harmless_line_is_none(line: str) -> None:
    assert not tells_of_an_error(line)


def test_long_lines_are_read_in_one_go() -> None:
    # A pattern that tries all ways to take these apart would be busy for years.
    assert not tells_of_an_error("[1]" * 5000 + "x")
    assert not tells_of_an_error("- " * 5000 + "x")


def test_a_progress_bar_hides_no_error() -> None:
    text = "  0%|  | 0/9\r 50%|= | 5/9\rERROR: the disk is full\r100%|==| 9/9\n"
    output = {"output_type": "stream", "name": "stderr", "text": text}
    assert judge([output]) == ["In the output: ERROR: the disk is full"]


def ended(**status: Any) -> list[dict[str, Any]]:
    return [{"output_type": "display_data", "data": {STATUS_MIME: {"kind": "shell", **status}}}]


def test_an_escaped_blank_before_an_echo_loses_a_remark_only() -> None:
    line = r'if [ ! -f a.zip ]; then wget $URL -O a.zip; else \ echo "already there"; fi'
    assert judge(ended(what=line, exit=127)) == []
    assert judge(ended(what=line, exit=4)) == [f"Exit code 4: {line[:59]}…"]
    assert judge(ended(what="ngc registry", exit=127)) == ["Exit code 127: ngc registry"]


@pytest.mark.parametrize(
    ("words", "files", "gone"),
    [
        ("tao-deploy detectnet_v2 evaluate -m OUT/e.trt -e s -i i -l l", [], ["OUT/results.json"]),
        ("tao-deploy detectnet_v2 evaluate -m OUT/e.trt -e s -i i -l l", ["results.json"], []),
        (
            "tao deploy ssd gen_trt_engine -m OUT/m.onnx -e s -r OUT --data_type int8",
            ["cal.bin"],
            ["OUT/m.int8.engine"],
        ),
        ("tao deploy ssd gen_trt_engine -m OUT/m.onnx -e s -r OUT", ["m.fp32.engine"], []),
        (
            "tao detectnet_v2 export -m OUT/m.tlt -k key -o OUT/m.etlt --data_type int8 --engine_file OUT/e.trt "
            "--cal_cache_file OUT/cal.bin",
            ["m.etlt"],
            ["OUT/e.trt", "OUT/cal.bin"],
        ),
        ("tao detectnet_v2 export -m OUT/m.tlt -k key", ["m.etlt"], []),
        ("tao detectnet_v2 export -m OUT/model -o OUT/model", ["model.onnx"], []),
        ("tao ssd prune -m m -o OUT/small", ["small.hdf5"], []),
        ("tao ssd prune -m m -o OUT/small", ["smaller.hdf5"], ["OUT/small.*"]),
        ("tao ssd inference -m m -e s -i d -o OUT/shown -l OUT/texts", ["shown/a.png"], ["OUT/texts/*"]),
        ("tao detectnet_v2 inference -e s -i d -o OUT/all", ["all/labels/a.txt"], []),
        ("tao detectnet_v2 inference --no_such_flag", [], []),
        ("tao detectnet_v2 --gpu_index 0 inference -e s -i d -o OUT/all", [], ["OUT/all/images_annotated/*"]),
    ],
)
def test_what_a_command_of_any_generation_left_out(
    tmp_path: Path, words: str, files: list[str], gone: list[str]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    program, *rest = words.split()
    command = parse_command(["deploy", *rest] if program == "tao-deploy" else rest)
    found = missing(command, lambda path: Path(path.replace("OUT", str(tmp_path))), began=0.0)
    assert found == gone


def test_a_cache_may_be_older_than_the_engine(tmp_path: Path) -> None:
    for name in ("e.trt", "cal.bin"):
        (tmp_path / name).write_text("x")
    os.utime(tmp_path / "cal.bin", (1_000_000, 1_000_000))
    words = f"deploy ssd gen_trt_engine -m m.onnx -e s --engine_file {tmp_path}/e.trt --data_type int8 "
    command = parse_command([*words.split(), "--cal_cache_file", f"{tmp_path}/cal.bin"])
    assert missing(command, Path, began=2_000_000.0) == []
