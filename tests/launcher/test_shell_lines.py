from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.launcher.cells import Names, split_cell, split_words
from taomagic.launcher.shell_lines import as_line_magic, as_magic, needs_shell, with_backslashes

# Lines as they stand in NVIDIA's notebooks of TAO 3.21 to 6, continued lines joined as IPython joins them.
NOTEBOOK_LINES = [
    "!tao info --verbose",
    "!tao info",
    "!tao list",
    "!tao stop --container_id 0123456789 --all",
    "!tao model detectnet_v2 dataset_convert "
    "                  -d $SPECS_DIR/detectnet_v2_tfrecords_kitti_trainval.txt "
    "                  -o $DATA_DOWNLOAD_DIR/tfrecords/kitti_trainval/kitti_trainval "
    "                  -r $USER_EXPERIMENT_DIR/",
    "!tao detectnet_v2 train -e $SPECS_DIR/detectnet_v2_train_resnet18_kitti.txt"
    " -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned -k $KEY -n resnet18_detector --gpus $NUM_GPUS",
    "!tao model detectnet_v2 prune -m $USER_EXPERIMENT_DIR/weights/resnet18_detector.hdf5 "
    " -o $USER_EXPERIMENT_DIR/pruned.hdf5 -eq union -pth 0.0000052",
    "!tao deploy detectnet_v2 gen_trt_engine -m a.onnx --data_type int8 --batches 10 --batch_size 4 "
    "--max_batch_size 64 --engine_file $USER_EXPERIMENT_DIR/resnet18_detector.trt.int8",
    "!tao-deploy detectnet_v2 evaluate -e spec.txt -m model.trt.int8",
    "!tao detectnet_v2 calibration_tensorfile -e $SPECS_DIR/spec.txt -m 10 -o calibration.tensor",
    "!tao converter $USER_EXPERIMENT_DIR/resnet18_detector.etlt -k $KEY "
    " -c calibration.bin -o output_cov/Sigmoid,output_bbox/BiasAdd -d 3,384,1248 -i nchw -m 64 -t int8 -b 4",
    "!tao ssd train --gpus 1 --gpu_index=$GPU_INDEX -e $SPECS_DIR/ssd_train_resnet18_kitti.txt",
    "!tao model ssd evaluate --gpu_index 0 -m $USER_EXPERIMENT_DIR/weights/ssd_resnet18_epoch_$EPOCH.hdf5",
    "!tao ssd export -m ssd_resnet18_epoch_080.tlt -k $KEY -o out.etlt --batch_size 16 --gen_ds_config",
    "!tao ssd run ls -l $USER_EXPERIMENT_DIR",
    "!tao model dino train -e $SPECS_DIR/train.yaml results_dir=$RESULTS_DIR/ train.gpu_ids=[0,1]",
    "!tlt ssd train -e $SPECS_DIR/ssd_train_resnet18_kitti.txt -k $KEY",
]


@pytest.mark.parametrize("line", NOTEBOOK_LINES)
def test_the_lines_of_nvidias_notebooks_become_magics(line: str) -> None:
    magic = as_magic(line)
    assert magic is not None
    [stage] = split_cell(magic)
    assert stage.shell
    expected = line.partition(" ")[2].split()
    assert split_words(stage.text) == (["deploy", *expected] if "tao-deploy" in line else expected)


@pytest.mark.parametrize("line", ["!tao", "!  tao  ", "!tao --help"])
def test_the_launcher_alone_shows_its_help(line: str) -> None:
    assert as_magic(line) == "!tao --help"


@pytest.mark.parametrize(
    "words",
    [
        "ssd train -e x | tee log.txt",
        "ssd train -e x > log.txt",
        "ssd train -e x 2>&1",
        "ssd train -e x && echo done",
        "ssd train -e x; ls",
        "ssd train -e x &",
        "ssd train -e `pwd`/x",
        'ssd train -e "$(pwd)/x"',
        "ssd train -e $(pwd)/x",
        "ssd train -e ${SPECS_DIR:-/s}/x",
        "ssd train -e ${#X}",
        "ssd train -e $1",
        "ssd train -e $'a\\tb'",
        "ssd evaluate -m weights/*.tlt",
        "ssd evaluate -m weights/[ab].tlt",
        "dino train a=[0] [0]",
        "ssd evaluate -m ~other/x.tlt",
        'ssd train -e "a`pwd`b"',
        "--version",
    ],
)
def test_what_only_a_shell_understands_is_left_to_it(words: str) -> None:
    assert as_magic(f"!tao {words}") is None


@pytest.mark.parametrize(
    "words",
    [
        "ssd train -e 'a | b > c; $(d) `e` *'",
        'ssd train -e "a | b > c; *"',
        "ssd train -e {specs[0] | 3} -r {a > b}",
        r"ssd train -e a\|b\;c",
        "ssd train -e ${SPECS_DIR}/x -r ~/x -k $$KEY # | comment",
        "ssd train -e it's",
        "ssd train -e {d['a;b']}",
    ],
)
def test_signs_in_quotes_braces_and_comments_mean_nothing_to_the_shell(words: str) -> None:
    assert not needs_shell(words)


@pytest.mark.parametrize(
    "line", ["!!tao list", "!taox", "!tao-converter x", "!echo tao", "tao list", "%tao list", "!sudo tao"]
)
def test_other_lines_are_not_ours(line: str) -> None:
    assert as_magic(line) is None


@given(st.text(alphabet="ab '\"\\$|;{}()#~*`\n", max_size=30))
def test_any_line_is_read_without_an_error(text: str) -> None:
    needs_shell(text)
    as_magic(f"!tao {text}")


def test_a_cell_of_one_line_is_a_line() -> None:
    assert as_line_magic("%%tao ssd train -e x\n\n") == "%tao ssd train -e x\n"
    assert as_line_magic("%%tao ssd train\n  -e x\n") is None
    assert as_line_magic("%%tao\n") is None
    assert as_line_magic("%%tao_spec x.txt\n") is None


NAMES = Names(
    {
        "x": "python",
        "specs": ["a", "b"],
        "flags": "--gpus 2 --use_amp",
        "gpus": "0 1",
        "place": "/my data/x",
        "t": 0.123,
    },
    {"x": "shell", "only": "shell"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x $$x $only", ["python", "shell", "shell"]),
        ("'{x}' \"{x}\" '$x'", ["python", "python", "$x"]),
        ("$flags", ["--gpus", "2", "--use_amp"]),
        ("--gpu_index $gpus --log=$gpus", ["--gpu_index", "0", "1", "--log=0 1"]),
        ("-r $place", ["-r", "/my data/x"]),
        ("-pth {t:.2f}", ["-pth", "0.12"]),
        ("{specs[1]}/$specs", None),
        ('\'{"lr": {"a": 1}}\'', ['{"lr": {"a": 1}}']),
        ('"{\\"lr\\": {\\"a\\": \\"$x\\"}}"', ['{"lr": {"a": "python"}}']),
        ("{{x}} '{{x}}'", ["{x}", "{x}"]),
        ("'{nothing}'", ["{nothing}"]),
    ],
)
def test_words_of_a_shell_line_follow_its_rules(text: str, expected: list[str] | None) -> None:
    if expected is None:
        with pytest.raises(Exception, match="list can only stand alone"):
            split_words(text, NAMES, shell=True)
    else:
        assert split_words(text, NAMES, shell=True) == expected


def test_the_home_folder_is_the_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert split_words("-r ~/x a~ ~ '~'", NAMES, shell=True) == ["-r", "/home/me/x", "a~", "/home/me", "~"]
    assert split_words("-r ~/x", NAMES) == ["-r", "~/x"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("%tao ssd train\n  -e x\n  -r y\nprint(1)\n", "%tao ssd train \\\n  -e x \\\n  -r y\nprint(1)\n"),
        ("r = %tao ssd train \\\n -e x\n  -r y", "r = %tao ssd train \\\n -e x \\\n  -r y"),
        ("!tao ssd train\n --gpus 1\n", "!tao ssd train \\\n --gpus 1\n"),
        ("%tao list\nprint(1)\n", None),
        ("%tao list\n-x\n", None),
        ("%%tao ssd train\n  -e x\n", None),
        ("x = 1\n%tao ssd train\n  -e x\n", None),
        ("y = (1\n  -x)\n", None),
        ("", None),
    ],
)
def test_flags_in_indented_lines_belong_to_the_command_above(cell: str, expected: str | None) -> None:
    lines = cell.splitlines(keepends=True)
    assert "".join(with_backslashes(lines)) == (cell if expected is None else expected)
