from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taomagic.cli import tao, tao_deploy
from taomagic.launcher import catalog
from taomagic.launcher.info import info

DATA = Path(__file__).with_name("data")

#: SHA-256 (16 digits) of what NVIDIA's launchers print for `tao info --verbose`, made with the printer and the
#: configuration file of each wheel, without the last line feed and the two lines about a missing mount file.
NVIDIA_PRINTS = {
    "3.22.02": "cdc5baaffcc24044",
    "3.22.05": "58b81452ae4f9ef3",
    "4.0.0": "16a76120760cf9e6",
    "4.0.1": "94c64cc2636bd1e1",
    "5.0.0": "f57b28aa91f77949",
    "5.1.0": "62542f167fc0213b",
    "5.2.0": "899eac2cc16f2daf",
    "5.2.0.1": "4ace5f3247db8598",
    "5.3.0": "11c09439ab88acc2",
    "5.5.0": "86c7c5816e9527c0",
    "6.0.0": "eb0e6b42c30184e7",
    "6.0.1": "8b9a5335064054bd",
    "6.25.7": "f4b3f422a7b7bff1",
    "6.25.9": "5231488c34b89c6a",
    "6.25.10": "38f8c9faddc005e5",
    "6.25.11": "115ba463d8658f89",
    "6.25.11.1": "59f1c02c95f38f8a",
    "6.26.3": "a159f6d179e41da4",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TAOMAGIC_RELEASE", "OVERRIDE_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "3.22.02",
            [
                "dockers: ['nvidia/tao/tao-toolkit-tf', 'nvidia/tao/tao-toolkit-pyt', 'nvidia/tao/tao-toolkit-lm']",
                "format_version: 2.0",
                "toolkit_version: 3.22.02",
                "published_date: 02/28/2022",
            ],
        ),
        (
            "4.0.1",
            [
                "dockers: ['nvidia/tao/tao-toolkit']",
                "format_version: 2.0",
                "toolkit_version: 4.0.1",
                "published_date: 03/06/2023",
            ],
        ),
        (
            "5.5.0",
            [
                "task_group: ['model', 'dataset', 'deploy']",
                "format_version: 3.0",
                "toolkit_version: 5.5.0",
                "published_date: 08/26/2024",
            ],
        ),
        (
            "6.26.3",
            [
                "task_group: ['model', 'dataset', 'deploy']",
                "format_version: 3",
                "toolkit_version: 6.26.3",
                "published_date: 03/20/2026",
            ],
        ),
    ],
)
def test_info_is_what_nvidias_launcher_prints(
    name: str, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert tao(["info", "--release", name]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["Configuration of the TAO Toolkit Instance", *lines]
    assert err == ""


@pytest.mark.parametrize("name", ["3.22.05", "4.0.1", "5.5.0", "6.26.3"])
def test_verbose_info_is_what_nvidias_launcher_prints(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert tao(["info", "--verbose", f"--release={name}"]) == 0
    assert capsys.readouterr().out == (DATA / f"info-verbose-{name}.txt").read_text(encoding="utf-8")


def test_verbose_info_of_every_wheel_is_what_its_launcher_prints() -> None:
    printed = {
        name: hashlib.sha256(info(catalog.release(name), verbose=True).encode()).hexdigest()[:16]
        for name in NVIDIA_PRINTS
    }
    assert printed == NVIDIA_PRINTS
    assert [name for name in catalog.release_names() if name not in NVIDIA_PRINTS] == ["3.21.08", "3.21.11"]


def test_tao_deploy_info_has_the_deploy_images_of_release_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert tao_deploy(["info", "--verbose", "--release", "4.0.1"]) == 0
    assert capsys.readouterr().out == (DATA / "deploy-info-verbose-4.0.1.txt").read_text(encoding="utf-8")


def test_remarks_go_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert tao(["info", "--verbose"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("published_date: 08/26/2024\n")
    assert err.startswith("Embedded engine of taomagic, without containers: ssd (dataset_convert, train, ")
    monkeypatch.setenv("OVERRIDE_REGISTRY", "mirror")
    assert tao(["info", "--release", "3.21.11"]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("toolkit_version: 3.21.11\npublished_date: 11/08/2021\n")
    assert "is taken from 3.22.02" in err
    assert "images come from mirror" in err


def test_own_configuration_is_shown_as_it_is(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = home / ".tao" / "config.json"
    file.parent.mkdir()
    entry = {"docker_registry": "local", "tasks": ["my_net"], "docker_digest": "sha256:12"}
    tree = {
        "remark": "mine",
        "format_version": 3,
        "task_group": {"model": {"dockers": {"me/nets": {"v1": entry}}}},
        "toolkit_version": "5.5.0-mine",
    }
    file.write_text(json.dumps(tree), encoding="utf-8")
    assert tao(["info"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1:] == [
        "remark: mine",
        "format_version: 3",
        "task_group: ['model']",
        "toolkit_version: 5.5.0-mine",
    ]
    assert str(file) in err
    assert tao(["info", "--verbose"]) == 0
    assert "                    docker_digest: sha256:12\n" in capsys.readouterr().out
    assert tao(["--release", "6.26.3", "info"]) == 0
    out, err = capsys.readouterr()
    assert "toolkit_version: 6.26.3" in out
    assert err == "~/.tao/config.json doesn't count, because a release is chosen.\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--release", "3.22.05", "info"],
        ["--release=v3.22.05", "info"],
        ["info", "--release", "3.22.05"],
        ["info", "--release=0.1.24"],
    ],
)
def test_release_is_chosen_for_one_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tao(words) == 0
    assert "toolkit_version: 3.22.05" in capsys.readouterr().out
    assert "TAOMAGIC_RELEASE" not in os.environ


def test_release_in_front_of_the_task_is_ours_and_behind_it_the_tasks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from taomagic import cli

    monkeypatch.setenv("TAOMAGIC_RELEASE", "5.0.0")
    seen: list[tuple[str, tuple[str, ...]]] = []
    monkeypatch.setattr(
        cli, "_run_task", lambda wanted, _: seen.append((os.environ["TAOMAGIC_RELEASE"], wanted.typed)) or 0
    )
    for words in (
        ["--release", "0.1.24", "ssd", "train", "--release", "x"],
        ["model", "--release=6.26.3", "dino", "train"],
        ["ssd", "train"],
    ):
        assert cli.tao(words) == 0
    assert seen == [("3.22.05", ("train", "--release", "x")), ("6.26.3", ("train",)), ("5.0.0", ("train",))]
    assert os.environ["TAOMAGIC_RELEASE"] == "5.0.0"
    for words in (["--release"], ["info", "--release"], ["--release="]):
        assert cli.tao(words) == 2
        assert "--release needs a value" in capsys.readouterr().err
    assert cli.tao(["--release", "7", "info"]) == 1
    assert "6.26.3" in capsys.readouterr().err


def test_help_has_the_sections_of_the_generation(capsys: pytest.CaptureFixture[str]) -> None:
    assert tao(["--release", "3.22.05", "--help"]) == 0
    old = capsys.readouterr().out
    assert "Launcher for TAO Toolkit." in old
    assert "\ntasks:\n  action_recognition, augment, " in old
    assert "task_groups" not in old
    assert tao(["--help"]) == 0
    new = capsys.readouterr().out
    assert "\ntask_groups:\n  model     action_recognition, " in new
    assert "\n  dataset   analytics, annotations, augmentation, auto_label\n" in new
    assert max(map(len, new.splitlines())) <= 110


def test_help_on_a_task_of_another_release_tells_which(capsys: pytest.CaptureFixture[str]) -> None:
    assert tao(["classification", "--help"]) == 1
    assert "It calls it classification_tf1." in capsys.readouterr().err
    assert tao(["--release", "3.22.05", "classification", "--help"]) == 0
    assert "tao-toolkit-tf:v3.22.05-tf1.15.5-py3" in capsys.readouterr().out


def test_tao_info_imports_nothing_heavy() -> None:
    heavy = "numpy torch IPython nbformat google.protobuf psutil subprocess tomllib difflib taomagic.launcher.cells"
    program = (
        "import sys; from taomagic.cli import tao; tao(['info']);"
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
