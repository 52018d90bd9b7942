"""From a job's record, log and files to its drawings; files that are missing or odd only cost their drawing."""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from PIL import Image

from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.runners.process import ProcessRunner
from taomagic.project.mounts import MountMap
from taomagic.samples import create
from taomagic.view import draw_pictures
from taomagic.view.draw_sources import image_size, object_counts, read_labels
from taomagic.view.draw_types import Box
from taomagic.view.drawings import drawings_of

ROOT = "/workspace/tao-experiments"
EVALUATION = """\
*******************************
car           AP    0.937
pedestrian    AP    0.821
              mAP   0.879
*******************************
Execution status: PASS
"""
RECORD = {
    "status": "SUCCESS",
    "categorical": {"average_precision": {"AP_car": 0.93652, "AP_pedestrian": 0.8207}},
    "graphical": {"precision_recall": {"car": [[0.5, 1.0], [1.0, 0.6]], "pedestrian": [[0.3, 0.9]]}},
}
# As NVIDIA's converters print it: a table for each partition, then the sum.
CONVERSION = """\
2026-11-21 11:30:45,000 - taomagic - INFO - Wrote the following numbers of objects:
b'car': 10

2026-11-21 11:30:45,000 - taomagic - INFO - Cumulative object statistics
2026-11-21 11:30:45,000 - taomagic - INFO - 
Wrote the following numbers of objects:
b'car': 30
b'\\xe8\\xa1\\x8c\\xe4\\xba\\xba': 12
b"driver's cab": 1

2026-11-21 11:30:45,000 - taomagic - INFO - Class map. 
Label in GT: Label in tfrecords file 
b'Car': b'car'
Tfrecords generation complete.
"""  # noqa: W291 - NVIDIA's lines end so

Make = Callable[..., Job]


def append(path: Path, *lines: dict[str, Any] | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)


def titles(job: Job) -> list[str]:
    return [drawing.title for drawing in drawings_of(job, job.result())]


@pytest.mark.parametrize("backend", ["process", "docker"])
def test_an_evaluation_has_bars_and_curves(job: Make, project: Path, backend: str) -> None:
    done = job(f"ssd evaluate -e spec.txt -m {ROOT}/model.tlt -r {ROOT}/results", EVALUATION, backend=backend)
    append(project / "results/status.json", RECORD)
    assert titles(done) == ["Average precision by class", "Precision and recall"]


def test_an_evaluation_without_a_results_folder_has_its_record_beside_the_model(
    job: Make, project: Path
) -> None:
    append(project / "run/weights/status.json", RECORD)
    done = job(f"ssd evaluate -e spec.txt -m {ROOT}/run/weights/model.tlt", EVALUATION)
    assert titles(done) == ["Average precision by class", "Precision and recall"]


def test_a_snapshot_serves_as_well_as_a_result(job: Make) -> None:
    done = job(f"ssd evaluate -e spec.txt -m {ROOT}/model.tlt", EVALUATION)
    assert len(drawings_of(done, done.snapshot())) == 1


def test_the_record_of_another_evaluation_is_not_taken(job: Make, project: Path) -> None:
    other = json.loads(json.dumps(RECORD).replace("0.93652", "0.93451"))
    done = job(f"ssd evaluate -e spec.txt -m {ROOT}/model.tlt -r {ROOT}/results", EVALUATION)
    append(project / "results/status.json", other)
    assert titles(done) == ["Average precision by class"]
    append(project / "results/status.json", RECORD)
    assert titles(done) == ["Average precision by class", "Precision and recall"]


def test_records_from_before_the_job_are_not_read(job: Make, project: Path) -> None:
    append(project / "results/status.json", RECORD)
    done = job(f"ssd evaluate -e spec.txt -m {ROOT}/model.tlt -r {ROOT}/results", EVALUATION)
    assert titles(done) == ["Average precision by class"]


@pytest.mark.parametrize(
    "odd",
    [
        '{"status": "SUCCESS", "cut off',
        "\x00\ufffd",
        '["SUCCESS"]',
        {"status": "SUCCESS", "graphical": 3},
        {**RECORD, "graphical": {"precision_recall": ["car"]}},
        {**RECORD, "graphical": {"precision_recall": {"car": 7, "pedestrian": [[1], ["a", "b"], None]}}},
        {**RECORD, "categorical": {"average_precision": {"AP_car": "0.9", "AP_pedestrian": None}}},
    ],
)
def test_an_odd_record_only_costs_its_drawing(job: Make, project: Path, odd: dict[str, Any] | str) -> None:
    done = job(f"ssd evaluate -e spec.txt -m {ROOT}/model.tlt -r {ROOT}/results", EVALUATION)
    append(project / "results/status.json", odd)
    assert titles(done) == ["Average precision by class"]


def test_a_job_that_failed_has_no_drawings(job: Make) -> None:
    assert titles(job(f"ssd evaluate -e spec.txt -m {ROOT}/model.tlt", EVALUATION, code=1)) == []


def test_a_stage_without_pictures_has_none(job: Make) -> None:
    assert titles(job(f"ssd export -e spec.txt -m {ROOT}/model.tlt -o model.onnx")) == []
    assert titles(job("ssd run echo hello")) == []


def test_a_conversion_by_a_container_of_nvidias_has_its_classes(job: Make) -> None:
    done = job(
        f"detectnet_v2 dataset_convert -d spec.txt -o {ROOT}/tfrecords/kitti", CONVERSION, backend="docker"
    )
    assert titles(done) == ["Objects by class"]
    assert drawings_of(done, done.result())[0].alt == (
        "Objects by class: car 30, 行人 12, driver's cab 1; 43 in all"
    )


def test_an_evaluation_by_detectnet_v2_has_its_classes(job: Make, project: Path) -> None:
    log = "Mean average_precision (in %): 41.4135\n\n"
    log += "class name      average precision (in %)\n------------  --------------------------\n"
    log += "car                              82.8270\ncyclist                           0.0000\n\n"
    done = job(f"detectnet_v2 evaluate -e spec.txt -m {ROOT}/model.tlt", log, backend="docker")
    assert [each.alt for each in drawings_of(done, done.result())] == [
        "Average precision by class: car 0.8283, cyclist 0.0000; mean 0.4141"
    ]
    # In per cent, as printed; the engine adds the curves.
    append(
        project / "status.json",
        {
            "status": "SUCCESS",
            "categorical": {"average_precision": {"car": 82.827, "cyclist": 0.0}},
            "graphical": {"precision_recall": {"car": [[0.5, 1.0], [0.9, 0.6]], "cyclist": []}},
        },
    )
    assert titles(done) == ["Average precision by class", "Precision and recall"]


def test_sheets_that_were_drawn_are_shown_what_a_model_says_first(job: Make, project: Path) -> None:
    names = ["targets_0.png", "coverage_0.png"]
    (project / "images").mkdir()
    log = ""
    for name in (*names, "targets_gone.png"):
        log += f"Saved: {ROOT}/images/{name}\n"
    for name in names:
        noise = Image.effect_noise((1488, 1165), 60).convert("RGB")  # the hardest to make small
        noise.save(project / "images" / name)
    done = job(f"detectnet_v2 show -e spec.txt -r {ROOT}", log + "Execution status: PASS\n")
    [drawing] = drawings_of(done, done.result())
    assert [each.path.name for each in drawing.thumbnails] == ["coverage_0.png", "targets_0.png"]
    assert drawing.title == "What the network learns"
    assert len(drawing.svg) < draw_pictures.MAX_SHEET_BYTES + 1000
    ET.fromstring(drawing.svg)
    compared = job(
        f"deploy detectnet_v2 compare -e spec.txt -m a b -r {ROOT}", f"Saved: {ROOT}/images/coverage_0.png\n"
    )
    assert titles(compared) == ["Where the models disagree"]
    (project / "images" / "coverage_0.png").write_bytes(b"\x89PNG\r\n\x1a\n0000IHDR\0\0\0\1\0\0\0\1")
    assert titles(done) == []


def test_counts_come_from_the_last_table_alone(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "b'car': 10\nCumulative object statistics\nb'car': 30\nb'Car': b'car'\nb'open: 3\n[1,0]<stdout>:b'bus': 4\n"
    )
    assert object_counts(log) == {"car": 30, "bus": 4}
    log.write_text("b'car': 10\n")
    assert object_counts(log) == {}
    assert object_counts(tmp_path / "none") == {}


def test_pruning_is_drawn_where_the_record_is_of_this_pruning(job: Make, project: Path) -> None:
    log = "Pruning ratio (pruned model / original model): 0.3964476393202359\nExecution status: PASS\n"
    record = {
        "status": "SUCCESS",
        "categorical": {"filters": {"conv1": 16}, "filters_kept": {"conv1": 8}},
        "kpi": {"pruning_ratio": 0.3964476393202359},
    }
    done = job(f"ssd prune -m {ROOT}/model.tlt -o {ROOT}/pruned.tlt", log)
    assert titles(done) == []
    append(done.directory / "status.json", {**record, "kpi": {"pruning_ratio": 0.5}})
    assert titles(done) == []
    append(done.directory / "status.json", record)
    (drawing,) = drawings_of(done, done.result())
    assert drawing.alt == "Filters kept: 8 of 16; the smallest share in conv1: 8 of 16; parameters kept: 40%"


def test_a_conversion_by_the_engine_records_the_box_sizes_without_a_results_folder(project: Path) -> None:
    create(project / "data", training=6, val=2, testing=1, size=(288, 96), seed=3)
    (project / "convert.txt").write_text(
        f'kitti_config {{ root_directory_path: "{ROOT}/data" image_dir_name: "training/image_2" '
        'label_dir_name: "training/label_2" image_extension: ".jpg" partition_mode: "random" num_partitions: 2 '
        f'val_split: 0 num_shards: 1 }} image_directory_path: "{ROOT}/data" '
        'target_class_mapping { key: "car" value: "car" } '
        'target_class_mapping { key: "pedestrian" value: "pedestrian" }'
    )
    context = Context(project, project, dict(os.environ), MountMap(((str(project), ROOT),)))
    command = parse_command(f"ssd dataset_convert -d {ROOT}/convert.txt -o {ROOT}/tfrecords/kitti".split())
    done = ProcessRunner().start(command, context)
    assert done.wait(120).state is JobState.SUCCEEDED
    assert titles(done) == ["Objects by class", "Sizes of the boxes"]
    assert sorted(p.name for p in (project / "tfrecords").iterdir() if "shard" not in p.name) == []


# --- inference ---


def picture(path: Path, size: tuple[int, int] = (320, 100), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.effect_noise(size, 60).convert("RGB")
    image.save(path, **options)
    return path


def label(path: Path, *boxes: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{box}\n" for box in boxes))


FOUND = "car 0 0 0 10.0 20.0 110.0 80.0 0 0 0 0 0 0 0 0.93"
TRUE = "Car 0.00 0 0.43 12.00 21.00 108.00 83.00 1.75 0.62 1.75 -1.64 1.65 9.63 0.26"
DONT_CARE = "DontCare -1 -1 -10 0 0 50 50 -1 -1 -1 -1000 -1000 -1000 -10"


@pytest.mark.parametrize(
    ("flags", "labels"),
    [
        (f"-i {ROOT}/data/image_2 -o {ROOT}/out/pictures -l {ROOT}/out/texts", "out/texts"),
        (f"--in_image_dir {ROOT}/data/image_2 -r {ROOT}/out", "out/labels"),
        (f"-i {ROOT}/data/image_2 -o {ROOT}/out", "out/labels"),
        ("-i data/image_2 --results_dir=out", "out/labels"),
    ],
)
def test_pictures_come_with_predicted_and_true_boxes(
    job: Make, project: Path, flags: str, labels: str
) -> None:
    picture(project / "data/image_2/000001.jpg")
    label(project / "data/label_2/000001.txt", TRUE, DONT_CARE)
    label(project / labels / "000001.txt", FOUND)
    done = job(f"ssd inference -e spec.txt -m model.tlt {flags}")
    (drawing,) = drawings_of(done, done.result())
    (thumbnail,) = drawing.thumbnails
    assert thumbnail.path == project / "data/image_2/000001.jpg"
    assert (thumbnail.width, thumbnail.height) == (320, 100)
    assert thumbnail.predicted == (Box(10, 20, 110, 80, "car", 0.93),)
    assert thumbnail.truth == (Box(12, 21, 108, 83, "Car"),)
    assert drawing.title == "Predicted and labelled objects"
    assert drawing.alt == "Objects found: 000001.jpg 1 found, 1 labelled"


def run_inference(job: Make, project: Path, count: int = 1, **options: Any) -> Job:
    for number in range(count):
        picture(project / f"images/{number:03d}.jpg", **options)
        label(project / f"out/labels/{number:03d}.txt", FOUND)
    return job("ssd inference -e spec.txt -m model.tlt -i images -r out")


def test_predicted_boxes_are_solid_true_ones_dashed_and_words_say_so(job: Make, project: Path) -> None:
    label(project / "labels/000.txt", TRUE)
    (drawing,) = drawings_of(done := run_inference(job, project), done.result())
    texts = [e.text for e in ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}text")]
    assert {"predicted, with its confidence", "labelled", "car 0.93"} <= set(texts)
    # One dashed outline in the legend, one in the picture.
    assert drawing.svg.count("stroke-dasharray") == 2


def test_without_labels_nothing_is_said_about_truth(job: Make, project: Path) -> None:
    (drawing,) = drawings_of(done := run_inference(job, project), done.result())
    assert drawing.thumbnails[0].truth is None
    assert "labelled" not in drawing.svg
    assert "stroke-dasharray" not in drawing.svg


@pytest.mark.parametrize("size", [(1248, 384), (300, 300), (100, 300), (1500, 10)])
def test_a_montage_of_noisy_pictures_stays_small(job: Make, project: Path, size: tuple[int, int]) -> None:
    done = run_inference(job, project, 5, size=size)
    (drawing,) = drawings_of(done, done.result())
    assert len(drawing.svg.encode()) <= draw_pictures.MAX_BYTES
    images = list(ET.fromstring(drawing.svg).iter("{http://www.w3.org/2000/svg}image"))
    assert 2 <= len(images) <= 4
    content = base64.b64decode(images[0].attrib["href"].removeprefix("data:image/webp;base64,"))
    assert Image.open(io.BytesIO(content)).format == "WEBP"


def test_of_many_pictures_an_even_choice_is_offered(job: Make, project: Path) -> None:
    done = run_inference(job, project, 50, size=(30, 10))
    (drawing,) = drawings_of(done, done.result())
    numbers = [int(each.path.stem) for each in drawing.thumbnails]
    assert len(numbers) == 24
    assert (numbers[0], numbers[-1]) == (0, 49)


def test_a_file_that_is_no_picture_is_left_out_and_one_cut_off_keeps_its_boxes(
    job: Make, project: Path
) -> None:
    done = run_inference(job, project, 3)
    (project / "images/000.jpg").write_text("no picture")
    whole = (project / "images/001.jpg").read_bytes()
    (project / "images/001.jpg").write_bytes(whole[: len(whole) // 3])
    (drawing,) = drawings_of(done, done.result())
    assert [each.path.name for each in drawing.thumbnails] == ["001.jpg", "002.jpg"]
    assert drawing.svg.count("<image ") == 1
    assert "fill='#555'/><path" in drawing.svg


def test_without_pillow_the_boxes_stand_on_a_ground_of_the_pictures_shape(
    job: Make, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_inference(job, project)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    (drawing,) = drawings_of(done, done.result())
    assert "<image " not in drawing.svg
    assert "width='400' height='125.0' fill='#555'" in drawing.svg
    assert "car 0.93" in drawing.svg


def test_labels_that_a_later_command_wrote_are_not_shown(job: Make, project: Path) -> None:
    done = run_inference(job, project)
    later = time.time() + 3600
    os.utime(project / "out/labels/000.txt", (later, later))
    assert titles(done) == []


def test_pictures_drawn_by_the_command_serve_where_it_wrote_no_labels(job: Make, project: Path) -> None:
    picture(project / "images/a.png")
    picture(project / "out/a.png")
    done = job("ssd inference -e spec.txt -m model.tlt -i images -o out")
    (drawing,) = drawings_of(done, done.result())
    assert [each.path for each in drawing.thumbnails] == [project / "out/a.png"]
    assert drawing.alt == "Objects found: a.png"


def test_an_inference_whose_files_are_gone_has_no_pictures(job: Make) -> None:
    assert titles(job("ssd inference -e spec.txt -m model.tlt -i nowhere -r nothing")) == []
    assert titles(job("ssd inference -e spec.txt -m model.tlt")) == []


def test_odd_rows_of_a_label_file_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    label(
        path, "", "car", "car 0 0 0 1 2 3", "car 0 0 0 a 2 3 4", "car 0 0 0 1 2 3 nan", TRUE, FOUND + " more"
    )
    boxes = read_labels(path)
    assert boxes is not None
    assert [box.confidence for box in boxes] == [None, 0.93]
    assert read_labels(tmp_path / "none.txt") is None


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"comment": b"x" * 70}])
def test_sizes_are_read_from_headers(tmp_path: Path, options: dict[str, Any]) -> None:
    assert image_size(picture(tmp_path / "a.jpg", (123, 45), **options)) == (123, 45)
    assert image_size(picture(tmp_path / "a.png", (67, 89))) == (67, 89)
    (tmp_path / "b.ppm").write_bytes(b"P6\n# made by hand\n12 34\n255\n")
    assert image_size(tmp_path / "b.ppm") == (12, 34)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xff\xff",
        b"\xff\xd8\xff\xc4\x00\x00" * 3,
        b"\x89PNG\r\n\x1a\n" + bytes(3),
    ],
)
def test_broken_headers_have_no_size(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    assert image_size(path) is None


def test_a_frame_without_area_has_no_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 0, 10))
    assert image_size(path) is None
