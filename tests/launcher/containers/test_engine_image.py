"""Our engine as an image: built from `docker/Dockerfile`, used as NVIDIA's are, equal to the process runner."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from taomagic.engine.storage.model_file import load_model
from taomagic.samples import copy_specs, create
from taomagic.spec.arguments import SUBTASKS

from .images import LABEL, Docker, tagged
from .python_image import make_python

REPOSITORY = Path(__file__).parents[3]
ROOT = "/workspace/tao-experiments"
KEY = "key-of-the-class"
TAO = str(Path(sys.executable).parent / "tao")
TASKS = ("ssd", "detectnet_v2", "converter")


@pytest.fixture(scope="session")
def engine_image(docker_engine: Docker) -> str:
    """The image, built on a base with this machine's Python; the build takes some seconds, the base half a minute."""
    tag = "taomagic-test/engine:current"
    base = make_python(docker_engine)
    words = [
        "--file",
        str(REPOSITORY / "docker/Dockerfile"),
        "--build-arg",
        f"BASE_IMAGE={base}",
        "--tag",
        tag,
    ]
    docker_engine.run("build", "--quiet", *words, str(REPOSITORY), timeout=300)
    return tag


@pytest.mark.parametrize("task", TASKS)
def test_the_entry_script_forwards_words_untouched(task: str, tmp_path: Path) -> None:
    (tmp_path / task).symlink_to(REPOSITORY / "docker/entry.sh")
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\nfor word in "$@"; do printf "[%s]\\n" "$word"; done\nexit 7\n')
    python.chmod(0o755)
    words = ["train", "-e", "a b", "$HOME", ";id", "it's", '"x"', "`id`", "*", "中文", "", "\\n"]
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / task, *words], env={"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == [
        f"[{word}]" for word in ("-P", "-u", "-m", "taomagic.engine", task, *words)
    ]
    assert done.returncode == 7


def test_the_image_tells_what_it_is(docker_engine: Docker, engine_image: str) -> None:
    config = docker_engine.inspect(engine_image)["Config"]
    assert config["Labels"]["taomagic.engine"] == "true"
    assert config["StopSignal"] == "SIGINT"
    assert not config.get("Entrypoint")
    assert docker_engine("run", "--rm", engine_image, "sh", "-c", "ls -A /src") == ""


@pytest.mark.parametrize("task", TASKS)
def test_each_task_reaches_the_engine_as_any_user(
    docker_engine: Docker, engine_image: str, task: str
) -> None:
    done = docker_engine.run(
        "run", "--rm", "--user", "4321:4321", engine_image, task, "no_such_subtask", check=False
    )
    assert done.returncode == 1
    assert "no_such_subtask" in done.stdout if task in SUBTASKS else f"no task '{task}'" in done.stdout
    assert done.stdout.splitlines()[-1] == "Execution status: FAIL"


def test_a_user_without_a_name_is_at_home(docker_engine: Docker, engine_image: str) -> None:
    code = "import getpass, pathlib; (pathlib.Path.home() / 'x').touch(); print(getpass.getuser())"
    assert docker_engine("run", "--rm", "--user", "4321:4321", engine_image, "python3", "-c", code) == "tao"


def test_a_container_has_as_many_threads_as_a_process(docker_engine: Docker, engine_image: str) -> None:
    code = "import torch; print(torch.get_num_threads())"
    environ = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    here = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True
    )
    assert docker_engine("run", "--rm", engine_image, "python3", "-c", code) == here.stdout.strip()


@dataclass
class Project:
    """A project folder and commands that run in it through the `tao` command."""

    folder: Path
    environ: dict[str, str]

    def tao(self, *words: str) -> str:
        """Run a command and return what it printed."""
        done = subprocess.run(
            [TAO, *words],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample project at a size at which an epoch takes a fraction of a second."""
    folder = tmp_path_factory.mktemp("drawn")
    create(folder / "data", training=16, val=6, testing=2, size=(288, 96), seed=3)
    copy_specs("ssd", folder / "specs", scale="sample")
    spec = folder / "specs/ssd_train_resnet10_sample.txt"
    text = spec.read_text(encoding="utf-8")
    small = {
        "num_epochs": 2,
        "validation_period_during_training": 2,
        "output_width": 144,
        "output_height": 48,
    }
    for name, value in small.items():
        text, changed = re.subn(rf"{name}: \d+", f"{name}: {value}", text)
        assert changed == 1
    spec.write_text(text, encoding="utf-8")
    return folder


def project_in(drawn: Path, home: Path, **environ: str) -> Project:
    folder = home / "project"
    shutil.copytree(drawn, folder)
    mounts = home / "mounts.json"
    # One thread: on a machine that is busy with other tests, two wait for each other most of the time.
    threads = [{"variable": "OMP_NUM_THREADS", "value": "1"}]
    content = {"Mounts": [{"source": str(folder), "destination": ROOT}], "Envs": threads}
    mounts.write_text(json.dumps(content))
    drop = {"KEY", "TAOMAGIC_KEY", "TAOMAGIC_IMAGE", "TAOMAGIC_BACKEND", "XDG_STATE_HOME"}
    kept = {name: value for name, value in os.environ.items() if name not in drop}
    own = {"HOME": str(home), "LAUNCHER_MOUNTS": str(mounts), "LOCAL_PROJECT_DIR": str(folder)}
    own["OMP_NUM_THREADS"] = "1"
    return Project(folder, kept | own | environ)


def pipeline(project: Project) -> dict[str, str]:
    """Convert, train and evaluate; return what each command printed."""
    model = f"{ROOT}/ssd/weights/ssd_resnet10_epoch_002.tlt"
    spec = f"{ROOT}/specs/ssd_train_resnet10_sample.txt"
    convert = [
        "-d",
        f"{ROOT}/specs/ssd_tfrecords_kitti_train.txt",
        "-o",
        f"{ROOT}/data/ssd/tfrecords/kitti_train",
    ]
    return {
        "dataset_convert": project.tao("ssd", "dataset_convert", *convert),
        "train": project.tao("ssd", "train", "-e", spec, "-r", f"{ROOT}/ssd", "-k", KEY),
        "evaluate": project.tao("ssd", "evaluate", "-e", spec, "-m", model, "-k", KEY),
    }


def figures(output: str) -> list[str]:
    """Return the lines that hold results, without what depends on the clock."""
    lines = [re.sub(r" - \d+s\b.*?/step| - ETA: \S+", "", line) for line in re.split(r"[\r\n]+", output)]
    return [line for line in lines if re.search(r"loss:|\bAP\b|\bmAP\b|CPU, \d+ thread", line)]


@pytest.fixture(scope="module")
def both(
    drawn: Path, tmp_path_factory: pytest.TempPathFactory, docker_engine: Docker, engine_image: str
) -> Iterator[tuple[tuple[Project, dict[str, str]], tuple[Project, dict[str, str]]]]:
    """The same commands in the process runner and in a container."""
    here = project_in(drawn, tmp_path_factory.mktemp("process"), TAOMAGIC_BACKEND="process")
    with tagged(docker_engine, engine_image, "taomagic-test/engine:compared") as name:
        environ = {"TAOMAGIC_BACKEND": "docker", "TAOMAGIC_IMAGE": name, "DOCKER_HOST": docker_engine.host}
        there = project_in(drawn, tmp_path_factory.mktemp("docker"), **environ)
        yield (here, pipeline(here)), (there, pipeline(there))


@pytest.mark.slow
def test_a_container_computes_the_same_as_a_process_bit_for_bit(both) -> None:
    (here, _), (there, _) = both
    records = [sorted((one.folder / "data/ssd/tfrecords").iterdir()) for one in (here, there)]
    assert [path.name for path in records[0]] == [path.name for path in records[1]]
    assert records[0]
    for ours, theirs in zip(*records, strict=True):
        assert ours.read_bytes() == theirs.read_bytes(), ours.name
    for epoch in (1, 2):
        name = f"ssd/weights/ssd_resnet10_epoch_{epoch:03d}.tlt"
        models = [load_model(one.folder / name, KEY) for one in (here, there)]
        first, second = (model.weights for model in models)
        assert first.keys() == second.keys()
        for tensor in first:
            assert torch.equal(first[tensor], second[tensor]), (epoch, tensor)


@pytest.mark.slow
def test_a_container_prints_the_same_results_as_a_process(both) -> None:
    (_, here), (_, there) = both
    for command in ("train", "evaluate"):
        assert any("mAP" in line for line in figures(here[command]))
        assert figures(here[command]) == figures(there[command])
    assert any("thread" in line for line in figures(here["train"]))


@pytest.mark.slow
def test_each_ran_where_it_should(both) -> None:
    backends = []
    for project, _ in both:
        records = [json.loads(path.read_text()) for path in project.folder.glob(".tao/jobs/*/job.json")]
        assert len(records) == 3
        backends.append({record["backend"] for record in records})
    assert backends == [{"process"}, {"docker"}]


@pytest.mark.slow
def test_what_a_container_wrote_belongs_to_the_caller(both) -> None:
    _, (there, _) = both
    written = list((there.folder / "ssd").rglob("*"))
    assert written
    assert {(path.stat().st_uid, path.stat().st_gid) for path in written} == {(os.getuid(), os.getgid())}


@pytest.mark.slow
def test_the_containers_are_gone_afterwards(both, docker_engine: Docker) -> None:
    deadline = time.monotonic() + 20
    while docker_engine("ps", "-aq", "--filter", "ancestor=taomagic-test/engine:compared"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_stopping_the_container_keeps_what_was_trained(
    docker_engine: Docker, engine_image: str, drawn: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(drawn, folder)
    spec = folder / "specs/ssd_train_resnet10_sample.txt"
    spec.write_text(
        spec.read_text(encoding="utf-8").replace("num_epochs: 2", "num_epochs: 200"), encoding="utf-8"
    )
    mounted = ["--volume", f"{folder}:{ROOT}", "--label", f"{LABEL}=1", "--env", "OMP_NUM_THREADS=1"]
    convert = [
        "-d",
        f"{ROOT}/specs/ssd_tfrecords_kitti_train.txt",
        "-o",
        f"{ROOT}/data/ssd/tfrecords/kitti_train",
    ]
    docker_engine("run", "--rm", *mounted, engine_image, "ssd", "dataset_convert", *convert)
    train = ["-e", f"{ROOT}/specs/ssd_train_resnet10_sample.txt", "-r", f"{ROOT}/ssd", "-k", KEY]
    name = docker_engine("run", "-d", *mounted, engine_image, "ssd", "train", *train)
    try:
        weights = folder / "ssd/weights"
        deadline = time.monotonic() + 60
        while not any(weights.glob("*_epoch_001.tlt")):
            assert time.monotonic() < deadline, docker_engine("logs", name)
            time.sleep(0.1)
        began = time.monotonic()
        docker_engine("stop", "--time", "20", name)
        assert time.monotonic() - began < 15
        assert docker_engine.inspect(name)["State"]["ExitCode"] == 130
        assert docker_engine("logs", name).splitlines()[-1] == "Execution status: FAIL"
        assert load_model(next(weights.glob("*_epoch_001.tlt")), KEY).epoch == 1
    finally:
        docker_engine("rm", "-f", name)
