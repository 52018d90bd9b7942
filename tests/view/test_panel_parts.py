"""What stands around the panel: next commands, use of the machine, pictures, cells that await."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from taomagic.launcher.command import Command
from taomagic.launcher.progress import Artefact, Snapshot
from taomagic.launcher.states import JobState
from taomagic.view import awaiting, next_steps, usage
from taomagic.view.draw_types import Box, Drawing, Thumbnail
from taomagic.view.pictures import SIDE, Gallery

ROOT = "/workspace/tao-experiments/ssd"
ENVIRON = {"SPECS_DIR": f"{ROOT}/specs", "USER_EXPERIMENT_DIR": ROOT, "DATA_DOWNLOAD_DIR": ""}


def job(task: str, subtask: str, *args: str) -> Any:
    command = Command(group="model", task=task, subtask=subtask, args=args)
    return SimpleNamespace(command=command, shown=f"tao {task} {subtask} {' '.join(args)}", id="0123456789")


def ended(state: JobState = JobState.SUCCEEDED, *files: str) -> Snapshot:
    artefacts = tuple(Artefact(Path(file), file, file.rpartition(".")[2]) for file in files)
    return Snapshot(state=state, command="", job_id="0123456789", label="", artefacts=artefacts)


def test_after_a_training_its_last_model_is_evaluated_pruned_and_exported() -> None:
    done = job("ssd", "train", "-e", f"{ROOT}/specs/train.txt", "-r", f"{ROOT}/run", "-k", "secret")
    files = [f"{ROOT}/run/weights/e_{i}.tlt" for i in (1, 2)]
    steps = next_steps.after(done, ended(JobState.SUCCEEDED, *files, f"{ROOT}/run/status.json"), ENVIRON)
    assert [command for _, command in steps] == [
        "%tao ssd evaluate -e $SPECS_DIR/train.txt -m $USER_EXPERIMENT_DIR/run/weights/e_2.tlt -k $KEY",
        "%tao ssd prune -m $USER_EXPERIMENT_DIR/run/weights/e_2.tlt "
        "-o $USER_EXPERIMENT_DIR/run/weights/e_2_pruned.tlt -eq intersection -pth 0.5 -k $KEY",
        "%tao ssd export -m $USER_EXPERIMENT_DIR/run/weights/e_2.tlt -e $SPECS_DIR/train.txt "
        "-o $USER_EXPERIMENT_DIR/run/weights/e_2.onnx -k $KEY",
    ]


def test_detectnet_v2_goes_the_way_of_nvidias_notebook(tmp_path: Path) -> None:
    root, specs = f"{ROOT}/experiment_dir", "$SPECS_DIR/detectnet_v2"
    environ = {**ENVIRON, "LOCAL_SPECS_DIR": str(tmp_path)}
    for name in ("train", "retrain", "inference"):
        end = "tlt" if name == "inference" else "resnet18_kitti"
        (tmp_path / f"detectnet_v2_{name}_kitti_{end}.txt").write_text("model_config {\n}\n")
    (tmp_path / "detectnet_v2_retrain_kitti_resnet18_kitti_qat.txt").write_text("x")
    (tmp_path / "detectnet_v2_retrain_kitti_resnet18_kitti.txt").write_text(
        f'model_config {{\n  pretrained_model_file: "{root}_pruned/pruned.tlt"\n}}\n'
    )

    def commands(subtask: str, *args: str, wrote: str = "") -> list[str]:
        files = (f"{root}/model.epoch-10.ckzip", wrote) if wrote else ()
        done = job("detectnet_v2", subtask, *args)
        return [command for _, command in next_steps.after(done, ended(JobState.SUCCEEDED, *files), environ)]

    train, retrain = (f"{specs}_{name}_kitti_resnet18_kitti.txt" for name in ("train", "retrain"))
    unpruned, pruned = f"{root}_unpruned/weights/m.tlt", f"{root}_pruned/pruned.tlt"
    mine = "$USER_EXPERIMENT_DIR/experiment_dir"
    [first] = commands("dataset_convert", "-d", "x", "-o", "y")
    assert first == f"%tao detectnet_v2 train -e {train} -r {mine}_unpruned -n resnet18_detector -k $KEY"
    evaluate, prune, _ = commands("train", "-e", train, wrote=unpruned)
    assert evaluate == f"%tao detectnet_v2 evaluate -e {train} -m {mine}_unpruned/weights/m.tlt -k $KEY"
    assert prune.startswith(
        f"%tao detectnet_v2 prune -m {mine}_unpruned/weights/m.tlt -o {mine}_pruned/pruned.tlt -eq union"
    )
    assert commands("prune", "-m", unpruned, wrote=pruned)[1] == (
        f"%tao detectnet_v2 train -e {retrain} -r {mine}_retrain -n resnet18_detector_pruned -k $KEY"
    )
    _, infer, qat, _ = commands("train", "-e", retrain, wrote=f"{root}_retrain/weights/p.tlt")
    assert infer.split()[2:5] == ["inference", "-e", f"{specs}_inference_kitti_tlt.txt"]
    assert "_qat.txt" in qat
    assert [command.split()[2] for command in commands("evaluate", "-e", retrain, "-m", pruned)] == [
        "inference",
        "export",
    ]
    [engine] = commands("export", "-e", retrain, wrote=f"{root}_final/m.onnx")
    assert engine.startswith(f"%tao deploy detectnet_v2 gen_trt_engine -m {mine}_final/m.onnx -e {retrain}")
    assert commands("train", "-e", train) == [], "no model, no step"
    small = commands("train", "-e", "/x/detectnet_v2_train_resnet10_sample.txt", wrote=unpruned)
    assert "-pth 0.78" in small[1]
    assert "resnet10_detector.onnx" in small[2]


@pytest.mark.parametrize("task", ["ssd", "detectnet_v2"])
@pytest.mark.parametrize("subtask", ["train", "evaluate", "prune", "export", "inference", "dataset_convert"])
@pytest.mark.parametrize("state", [*JobState])
def test_no_step_tells_the_key(task: str, subtask: str, state: JobState) -> None:
    done = job(task, subtask, "-m", f"{ROOT}/m.tlt", "-k", "secret")
    done.shown = done.shown.replace("secret", "********")
    for _, command in next_steps.after(done, ended(state, f"{ROOT}/m.tlt"), {}):
        assert "secret" not in command
        assert "$KEY" in command


def test_a_stopped_training_can_be_continued_and_a_failed_one_has_no_next_step() -> None:
    done = job("ssd", "train", "-e", f"{ROOT}/specs/train.txt", "-k", "********")
    ((_, command),) = next_steps.after(done, ended(JobState.STOPPED), ENVIRON)
    assert command == "%tao ssd train -e $SPECS_DIR/train.txt -k $KEY"
    assert next_steps.after(done, ended(JobState.FAILED), ENVIRON) == []


def test_paths_with_blanks_are_quoted_and_variables_stay_outside_of_quotes() -> None:
    done = job("ssd", "train", "-e", "/data/my specs/a.txt")
    steps = next_steps.after(done, ended(JobState.SUCCEEDED, f"{ROOT}/m.tlt"), ENVIRON)
    assert steps[0][1] == "%tao ssd evaluate -e '/data/my specs/a.txt' -m $USER_EXPERIMENT_DIR/m.tlt -k $KEY"
    quoted = job("ssd", "train", "-e", f"{ROOT}/my specs/a.txt")
    steps = next_steps.after(quoted, ended(JobState.SUCCEEDED, f"{ROOT}/m.tlt"), ENVIRON)
    assert f"-e '{ROOT}/my specs/a.txt'" in steps[0][1]


def test_memory_counts_this_process_and_is_zero_for_one_that_is_gone() -> None:
    assert usage.memory_of_tree(os.getpid()) > 10_000_000
    assert usage.memory_of_tree(2**22 + 1) == 0


@pytest.mark.parametrize(
    ("told", "used"),
    [
        ({"memory_stats": {"usage": 900, "stats": {"inactive_file": 100}}}, 800),
        ({"memory_stats": {"usage": 900, "stats": {"total_inactive_file": 200}}}, 700),
        ({"memory_stats": {"usage": 900}}, 900),
        ({"memory_stats": {}}, 0),
        (None, 0),
    ],
)
def test_memory_of_a_container_is_what_docker_stats_says(
    told: Any, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def get(_self: Any, path: str, **query: Any) -> Any:
        asked.append((path, query))
        return told

    monkeypatch.setattr("taomagic.launcher.containers.api.Engine.get", get)
    endpoint = {"url": "unix:///var/run/docker.sock", "tls_dir": "", "verify": True}
    assert usage.memory_of_container(endpoint, "tao-1") == used
    assert asked == [("/containers/tao-1/stats", {"stream": "false", "one-shot": "true"})]
    assert usage.memory_of_container(None, "tao-1") == 0


def test_gpus_are_read_and_nonsense_is_not() -> None:
    assert usage.read_gpus(["35, 2048, 16384"]) == [("GPU", "35 %", "2.1 GB of 17.2 GB")]
    two = usage.read_gpus(["1, 10, 100", "2, 20, 100"])
    assert [name for name, _, _ in two] == ["GPU 0", "GPU 1"]
    assert usage.read_gpus(["[N/A], 1, 2", "Failed to initialize NVML"]) == []
    assert usage.gpu("/bin/false") == []


def test_speed_is_in_images_where_the_batch_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "train.txt"
    spec.write_text("training_config {\n  batch_size_per_gpu: 16\n}\n")
    (tmp_path / "mounts.json").write_text('{"Mounts": []}')
    watched = job("ssd", "train", "-e", str(spec))
    watched.directory = tmp_path
    meter = usage.UsageMeter(watched)
    meter.close()
    times = iter([0.0, 10.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(times))

    def at(step: int) -> list[tuple[str, str, str]]:
        return meter.read(
            Snapshot(
                state=JobState.RUNNING,
                command="",
                job_id="",
                label="",
                epoch=1,
                epochs=2,
                step=step,
                steps=100,
            )
        )

    assert at(0) == []
    assert at(50) == [("images per second", "80", "batches of 16")]


def test_only_offered_pictures_are_read_and_made_small(tmp_path: Path) -> None:
    image_module = pytest.importorskip("PIL.Image")
    path = tmp_path / "a.png"
    image_module.new("RGB", (1600, 800), "red").save(path)
    (tmp_path / "secret.txt").write_text("secret")
    picture = Thumbnail(path, 1600, 800, (Box(1, 2, 11, 22, "car", 0.876),), (Box(0, 0, 5, 5, "car"),))
    gallery = Gallery()
    (told,) = gallery.take([Drawing("t", "<svg/>", "alt", (picture,))])
    assert told["predicted"] == [[1, 2, 10, 20, "car 0.88"]]
    assert told["truth"] == [[0, 0, 5, 5, "car"]]
    assert told["alt"] == "a.png: 1 objects found, 1 labelled"
    (plain,) = Gallery().take([Drawing("t", "<svg/>", "alt", (Thumbnail(path, 1600, 800, ()),))])
    assert plain["alt"] == "a.png", "boxes drawn into a picture are not counted"
    data = gallery.read(told["id"])
    assert data is not None
    assert image_module.open(io.BytesIO(data)).size == (SIDE, SIDE // 2)
    assert gallery.read(str(tmp_path / "secret.txt")) is None
    path.write_text("no picture any more")
    assert gallery.read(told["id"]) is None


@pytest.mark.parametrize(
    ("cell", "awaited"),
    [
        ("%tao list", 1),
        ("x = %tao ssd train", 1),
        ("for i in range(2):\n    %tao list\n    %tao info", 2),
        ("s = 'ä'; \nif s:\n    r = %tao ssd train -e 'ß'\n", 1),
        ("%%tao\nssd train\n", 1),
        ("def f():\n    %tao list\n", 0),
        ("class A:\n    %tao list\n", 0),
        ("print('%tao list')", 0),
        ("%tao_env ssd", 0),
        ("x = [1,", 0),
    ],
)
def test_a_cell_awaits_what_stands_at_its_top_level(cell: str, awaited: int) -> None:
    config = Config()
    config.HistoryManager.enabled = False
    python = InteractiveShell(config=config).transform_cell(cell)
    rewritten = awaiting.rewrite(python)
    assert rewritten.count("await get_ipython()") == awaited
    if not awaited:
        assert rewritten == python


def test_a_rewritten_cell_calls_the_magic_with_its_line_and_its_cell() -> None:
    heard: list[tuple[str, ...]] = []

    class Magics:
        async def tao_awaited(self, *words: str) -> int:
            heard.append(words)
            return len(heard)

    shell = SimpleNamespace(magics_manager=SimpleNamespace(registry={"TaoMagics": Magics()}))
    code = (
        "a = get_ipython().run_line_magic('tao', 'list \"ä, b\"')\n"
        "b = get_ipython().run_cell_magic('tao', '-o x', 'ssd train\\n')\n"
    )
    body = "".join(f"    {line}\n" for line in awaiting.rewrite(code).splitlines())
    names: dict[str, Any] = {"get_ipython": lambda: shell}
    exec(f"async def cell():\n{body}    return a, b\n", names)
    assert asyncio.run(names["cell"]()) == (1, 2)
    assert heard == [('list "ä, b"',), ("-o x", "ssd train\n")]
