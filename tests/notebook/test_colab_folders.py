"""Notebooks of NVIDIA's edition for Colab on another machine: their folders, and what they would install."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from taomagic.notebook import colab

CELL = """\
%env COLAB_NOTEBOOKS_PATH=/home_duplicate/someone/colab_notebooks
%env EXPERIMENT_DIR=/results_of_nobody/ssd
%env DATA_DIR = /content_of_nobody/drive/MyDrive/data/
    %set_env LOCAL_PROJECT_DIR /content_of_nobody/ngc
%env TAO_DOCKER_DISABLE=1
SPECS_DIR=f"{os.environ['COLAB_NOTEBOOKS_PATH']}/tensorflow/ssd/specs"
"""


def test_folders_of_colab_lie_beside_the_notebook(tmp_path: Path) -> None:
    folder = tmp_path / "tensorflow" / "ssd"
    folder.mkdir(parents=True)
    text, notices = colab.redirected(CELL, folder, {})
    assert text.splitlines() == [
        f"%env COLAB_NOTEBOOKS_PATH={tmp_path}",
        f"%env EXPERIMENT_DIR={folder}/results_of_nobody/ssd",
        f"%env DATA_DIR = {folder}/content_of_nobody/drive/MyDrive/data/",
        f"    %set_env LOCAL_PROJECT_DIR {folder}/content_of_nobody/ngc",
        *CELL.splitlines()[4:],
    ]
    assert len(notices) == 4
    assert (
        notices[1]
        == f"EXPERIMENT_DIR: /results_of_nobody/ssd isn't here; {folder}/results_of_nobody/ssd takes its place."
    )
    assert (folder / "content_of_nobody/drive/MyDrive/data").is_dir()
    assert colab.redirected(text, folder, {}) == (text, []), "a second time changes nothing"


def test_colabs_own_folder_is_found_anywhere_in_a_cell(tmp_path: Path) -> None:
    cell = (
        'trt_tar_path="/content/drive/MyDrive/TensorRT-8.5.1.7.Linux.x86_64-gnu.cuda-11.8.cudnn8.6.tar.gz"\n'
        "!tar -xzf $trt_tar_path -C /content\n"
        "page = 'https://example.org/content/page'; name = f'{root}/content/x'\n"
    )
    assert colab.redirected(cell, tmp_path, {}) == (cell, [])
    text, notices = colab.redirected(cell, tmp_path, {"GOOGLE_COLAB": "0"})
    assert text == cell.replace('"/content', f'"{tmp_path}/content').replace(
        "-C /content", f"-C {tmp_path}/content"
    )
    assert len(notices) == 2
    with tarfile.open(text.splitlines()[0].split('"')[1]) as archive:
        assert archive.getnames() == ["TensorRT-8.5.1.7", "TensorRT-8.5.1.7/lib"]
    assert colab.redirected(text, tmp_path, {"GOOGLE_COLAB": "0"}) == (text, []), "nothing is made twice"


def test_a_notebook_alone_finds_its_specs_as_in_the_repository(tmp_path: Path) -> None:
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs/train.txt").write_text("spec")
    text, _ = colab.redirected(CELL, tmp_path, {})
    root = Path(text.splitlines()[0].partition("=")[2])
    assert (root / "tensorflow/ssd/specs/train.txt").read_text() == "spec"
    assert root.is_relative_to(tmp_path)


def test_what_is_here_and_other_notebooks_stay_as_they_are(tmp_path: Path) -> None:
    here = f"%env COLAB_NOTEBOOKS_PATH={tmp_path}\n%env DATA_DIR={tmp_path}/new\n"
    assert colab.redirected(here, tmp_path, {}) == (here, [])
    assert not (tmp_path / "new").exists()
    other = "%env DATA_DIR=/content_of_nobody/data\n"
    assert colab.redirected(other, tmp_path, {}) == (other, [])
    assert colab.redirected(other, tmp_path, {colab.REPOSITORY: "/repo"})[1]


@pytest.mark.parametrize(
    ("line", "package"),
    [
        ("pip3 install nvidia-tao", "nvidia-tao"),
        ("pip install --upgrade nvidia-tao==5.5.1", "nvidia-tao"),
        ("/usr/bin/python3 -m pip install nvidia-pyindex", "nvidia-pyindex"),
        ("pip3.8 install -q matplotlib nvidia-tlt", "nvidia-tlt"),
        ("pip3 install matplotlib==3.3.3", ""),
        ("pip3 show nvidia-tao", ""),
        ("pip3 install nvidia-tao-deploy", ""),
        ("pip3 install x; echo nvidia-tao", ""),
    ],
)
def test_nvidias_launcher_does_not_take_ours_place(line: str, package: str) -> None:
    """It did: `tao` was NVIDIA's from then on, and Docker's and Requests' packages were of 2020."""
    assert colab.left_out(line, {}).partition(" ")[0] == package


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("sh $COLAB_NOTEBOOKS_PATH/tensorflow/$bash_script", "setup_env_desktop.sh"),
        ('sed -i "s|A|B|g" ${COLAB_NOTEBOOKS_PATH}/pytorch/setup_env.sh', "setup_env.sh"),
        ("sh $COLAB_NOTEBOOKS_PATH/tensorflow/prepare_data.sh", ""),
        ("ls $COLAB_NOTEBOOKS_PATH/tensorflow", ""),
    ],
)
def test_the_installation_of_cuda_is_left_out(line: str, script: str) -> None:
    environ = {colab.REPOSITORY: "/repo", "bash_script": "setup_env_desktop.sh"}
    assert colab.left_out(line, environ).partition(" ")[0] == script
    assert colab.left_out(line, {"bash_script": "setup_env_desktop.sh"}) == ""
