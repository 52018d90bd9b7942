"""Pictures with boxes, label files, and what happens to images that are none."""

from __future__ import annotations

import argparse
import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from taomagic.engine.inference import annotator
from taomagic.engine.inference.annotator import Annotator
from taomagic.engine.inference.files import Outputs, find_images, refuse_shared_labels, replace_small
from taomagic.engine.ssd import inference
from taomagic.engine.ssd.inference import COLOURS, SSDMarker, _outputs
from taomagic.engine.ssd.postprocess import Detections
from taomagic.errors import DataProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import parse_arguments
from taomagic.spec.ssd import read_experiment

CLASSES = ("car", "cyclist", "pedestrian", "tram", "van", "truck")
SPEC = """
ssd_config { aspect_ratios_global: "[1.0]" scales: "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]"
             variances: "[0.1, 0.1, 0.2, 0.2]" arch: "resnet" nlayers: 10 }
eval_config { validation_period_during_training: 1 batch_size: 2 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 50 }
augmentation_config { output_width: 64 output_height: 48 output_channel: 3 }
dataset_config { target_class_mapping { key: "car" value: "car" } }
"""


class FakePredictor:
    """Finds a car in every image, and nothing where the image is black; remembers the sizes of its batches."""

    input_shape = (3, 48, 64)
    classes = ("car",)
    kind, place = "fake", "here"
    parameters = 0
    mean = None

    def __init__(self):
        self.batches = []

    def share(self, callers: int) -> int:
        return 1  # as a GPU

    def predict(self, images: torch.Tensor) -> list[Detections]:
        self.batches.append(len(images))
        found = Detections(
            np.array([[8, 6, 32.5, 24], [-4, 0, 10, 10]], np.float32),
            np.array([0.75, 0.3], np.float32),
            np.array([1, 1]),
        )
        empty = Detections(np.empty((0, 4), np.float32), np.empty(0, np.float32), np.empty(0, np.int64))
        black = np.array(inference_mean())
        return [
            empty if np.allclose(image.mean((1, 2)).numpy(), -black, atol=0.01) else found for image in images
        ]


def inference_mean():
    from taomagic.engine.data.images import CAFFE_MEAN

    return CAFFE_MEAN


def save(path, value=200, size=(96, 128), channels=3, kind=np.uint8):
    shape = size if channels == 1 else (*size, channels)
    assert cv2.imwrite(str(path), np.full(shape, value, kind))
    return path


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "spec.txt"
    path.write_text(SPEC)
    return read_experiment(path, purpose="inference", shown_as=str(path))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def annotate(experiment, tmp_path, files, *, threshold=0.3, batch=2, predictor=None):
    out = Outputs(tmp_path / "annotated", tmp_path / "labels")
    for each in (out.images, out.labels):
        each.mkdir(exist_ok=True)
    marker = SSDMarker(predictor or FakePredictor(), experiment.augmentation, threshold)
    return Annotator(marker, out, PathMap(), workers=2).annotate(files, batch)


def marker_of(found, classes, picture):
    """Return a marker that has these detections of a picture, and what is to be shown of them."""
    predictor = FakePredictor()
    predictor.input_shape, predictor.classes = (3, *picture.shape[:2]), classes
    marker = SSDMarker(predictor, None, 0.0)
    return marker, marker.mark(picture, found)


def test_boxes_are_listed_in_the_images_own_pixels_unrounded_and_unclipped(experiment, folder, tmp_path):
    count, unusable = annotate(experiment, tmp_path, [save(folder / "a.png")])  # twice the network's input
    assert (count, unusable) == (2, [])
    assert (tmp_path / "labels/a.txt").read_text() == (
        "car 0 0 0 16.0 12.0 65.0 48.0 0 0 0 0 0 0 0 0.75\ncar 0 0 0 -8.0 0.0 20.0 20.0 0 0 0 0 0 0 0 0.3\n"
    )


def test_the_threshold_holds_for_pictures_and_labels_and_lets_the_value_itself_through(
    experiment, folder, tmp_path
):
    image = save(folder / "a.png")
    assert annotate(experiment, tmp_path, [image], threshold=0.31)[0] == 1
    assert len((tmp_path / "labels/a.txt").read_text().splitlines()) == 1
    one = cv2.imread(str(tmp_path / "annotated/a.png"))
    assert annotate(experiment, tmp_path, [image], threshold=0.3)[0] == 2
    assert (cv2.imread(str(tmp_path / "annotated/a.png")) != one).any()


def test_an_image_without_objects_gets_an_empty_label_file_and_its_own_pixels(experiment, folder, tmp_path):
    annotate(experiment, tmp_path, [save(folder / "dark.png", value=0)])
    assert (tmp_path / "labels/dark.txt").read_text() == ""
    assert not cv2.imread(str(tmp_path / "annotated/dark.png")).any()


def test_names_and_endings_stay_and_every_batch_is_full_but_the_last(experiment, folder, tmp_path):
    names = ["a.jpg", "b.JPG", "c.jpeg", "d.JPEG", "e.png", "f.PNG", "g.png"]
    for name in names:
        # Written under a plain name: OpenCV chooses the kind of file by it.
        save(folder / f"x{name[1:].lower()}").rename(folder / name)
    (folder / "notes.txt").write_text("no image")
    (folder / "h.png").mkdir()
    predictor = FakePredictor()
    files = find_images(folder, "-i")
    assert [path.name for path in files] == names
    count, _ = annotate(experiment, tmp_path, files, batch=3, predictor=predictor)
    assert count == 14
    assert predictor.batches == [3, 3, 1]
    assert sorted(path.name for path in (tmp_path / "annotated").iterdir()) == names
    starts = {path.name: path.read_bytes()[:4] for path in (tmp_path / "annotated").iterdir()}
    assert starts["b.JPG"][:2] == b"\xff\xd8"
    assert starts["f.PNG"] == b"\x89PNG"


@pytest.mark.parametrize(
    ("channels", "kind", "value"), [(1, np.uint8, 90), (4, np.uint8, 90), (1, np.uint16, 30000)]
)
def test_odd_images_become_colour_pictures_with_boxes(experiment, folder, tmp_path, channels, kind, value):
    annotate(experiment, tmp_path, [save(folder / "odd.png", value, channels=channels, kind=kind)])
    picture = cv2.imread(str(tmp_path / "annotated/odd.png"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (96, 128, 3)
    assert len((tmp_path / "labels/odd.txt").read_text().splitlines()) == 2


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_done(
    experiment, folder, tmp_path, monkeypatch
):
    warnings = []
    monkeypatch.setattr(annotator.logger, "warning", lambda text, *values: warnings.append(text % values))
    files = [save(folder / "a.png"), folder / "b.png", folder / "c.jpg", save(folder / "d.png")]
    files[1].write_bytes(files[0].read_bytes()[:100])
    files[2].write_text("no image at all")
    count, unusable = annotate(experiment, tmp_path, files)
    assert count == 4
    assert [path.name for path in unusable] == ["b.png", "c.jpg"]
    assert sorted(path.stem for path in (tmp_path / "labels").iterdir()) == ["a", "d"]
    assert sorted(warnings) == [
        f"{files[1]}: the image file is cut off",
        f"{files[2]}: the image is damaged, or isn't an image",
    ]


def test_a_full_disk_ends_the_run_and_leaves_no_thread(experiment, folder, tmp_path, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(annotator, "replace_small", full)
    before = threading.active_count()
    with pytest.raises(OSError, match="No space"):
        annotate(experiment, tmp_path, [save(folder / f"{i}.png") for i in range(9)])
    assert threading.active_count() == before


class Meeting(FakePredictor):
    """Can be called by two threads at once, and waits until it is."""

    def __init__(self):
        super().__init__()
        self.asked, self.threads = [], set()
        self.both = threading.Barrier(2)

    def share(self, callers: int) -> int:
        self.asked.append(callers)
        return min(2, callers)

    def predict(self, images: torch.Tensor) -> list[Detections]:
        self.threads.add(torch.get_num_threads())
        self.both.wait(timeout=20)
        return super().predict(images)


def test_a_processor_looks_at_several_batches_at_once_which_share_its_threads(experiment, folder, tmp_path):
    files = [save(folder / f"{i}.png", value=0 if i == 4 else 200) for i in range(8)]
    files[1].write_bytes(b"")
    files[6].write_bytes(b"no image")
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        predictor = Meeting()
        count, unusable = annotate(experiment, tmp_path, files, predictor=predictor)
        assert torch.get_num_threads() == 4
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 4
    finally:
        torch.set_num_threads(before)
    assert predictor.asked == [2]
    assert predictor.threads == {2}
    assert (count, unusable) == (10, [files[1], files[6]])
    assert sorted(predictor.batches) == [1, 1, 2, 2]
    rows = {path.stem: len(path.read_text().splitlines()) for path in (tmp_path / "labels").iterdir()}
    assert rows == {"0": 2, "2": 2, "3": 2, "4": 0, "5": 2, "7": 2}


@pytest.mark.parametrize("what", ["one batch", "large batches", "GPU"])
def test_a_network_is_called_by_one_thread_where_more_have_no_use(
    experiment, folder, tmp_path, monkeypatch, what
):
    callers = set()

    class Listening(FakePredictor):
        def share(self, callers: int) -> int:
            return 1 if what == "GPU" else callers

        def predict(self, images: torch.Tensor) -> list[Detections]:
            callers.add(threading.get_ident())
            return super().predict(images)

    if what == "large batches":
        monkeypatch.setattr(annotator, "_MOST_PIXELS", 2 * 2 * 48 * 64 - 1)
    files = [save(folder / f"{i}.png") for i in range(2 if what == "one batch" else 6)]
    assert annotate(experiment, tmp_path, files, predictor=Listening())[0] == 2 * len(files)
    assert callers == {threading.get_ident()}


def test_a_network_that_fails_in_a_thread_ends_the_run(experiment, folder, tmp_path):
    class Failing(Meeting):
        def predict(self, images: torch.Tensor) -> list[Detections]:
            raise RuntimeError("out of memory")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="out of memory"):
        annotate(experiment, tmp_path, [save(folder / f"{i}.png") for i in range(9)], predictor=Failing())
    assert threading.active_count() == before


def run(tmp_path, folder, monkeypatch, *words):
    (tmp_path / "spec.txt").write_text(SPEC)
    monkeypatch.setattr(inference, "load_predictor", lambda *args, **more: FakePredictor())
    args = parse_arguments(
        "ssd", ["inference", "-i", str(folder), "-e", str(tmp_path / "spec.txt"), "-m", "x.tlt", *words]
    )
    inference.run(args, PathMap())


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        (["-r", "{0}/r"], {"r/images_annotated/a.png", "r/labels/a.txt", "r/status.json"}),
        (["-o", "{0}/o", "-l", "{0}/l"], {"o/a.png", "l/a.txt"}),
        (["-o", "{0}/o"], {"o/a.png"}),
        (["-l", "{0}/l"], {"l/a.txt"}),
        (["-r", "{0}/r", "-l", "{0}/l"], {"r/images_annotated/a.png", "l/a.txt", "r/status.json"}),
    ],
)
@pytest.mark.parametrize("one_file", [False, True])
def test_each_way_to_say_where_results_go(tmp_path, folder, monkeypatch, capsys, flags, written, one_file):
    image = save(folder / "a.png")
    before = {path for path in tmp_path.rglob("*") if path.is_file()} | {tmp_path / "spec.txt"}
    run(tmp_path, image if one_file else folder, monkeypatch, *(word.format(tmp_path) for word in flags))
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path)) for path in after - before} == written
    assert "2 objects in 1 image " in capsys.readouterr().out


def test_a_run_with_a_damaged_image_fails_at_its_end_and_names_it(tmp_path, folder, monkeypatch, capsys):
    save(folder / "a.png")
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(DataProblem, match=r"1 of 2 images can't be used: .*b\.png"):
        run(tmp_path, folder, monkeypatch, "-r", str(tmp_path / "r"))
    assert (tmp_path / "r/labels/a.txt").exists()
    assert "SUCCESS" not in (tmp_path / "r/status.json").read_text()
    assert "2 objects in 1 image " in capsys.readouterr().out


def test_folders_without_images_say_so_and_point_into_the_folders_that_have_some(folder):
    with pytest.raises(DataProblem, match=r"no \.jpg, \.jpeg or \.png"):
        find_images(folder, "/container/images")
    (folder / "deeper").mkdir()
    save(folder / "deeper/a.png")
    with pytest.raises(DataProblem) as problem:
        find_images(folder, "/container/images")
    assert "deeper" in problem.value.hint
    (folder / "list.txt").touch()
    for missing in (folder / "list.txt", folder / "nothing"):
        with pytest.raises(DataProblem) as problem:
            find_images(missing, "/container/x")
        assert problem.value.where == "/container/x"


def test_two_images_of_one_name_do_not_replace_each_others_labels(folder):
    files = [save(folder / "a.jpg"), save(folder / "a.png")]
    with pytest.raises(DataProblem, match=r"a\.jpg and a\.png .* a\.txt"):
        refuse_shared_labels(files, "-i", "Rename one.")


def test_a_full_disk_leaves_no_half_of_a_result_and_is_named(folder, monkeypatch):
    def half(path, content):
        with path.open("wb") as file:
            file.write(content[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    before = sorted(folder.iterdir())
    with pytest.raises(OSError, match="No space left") as problem:
        replace_small(folder / "a.txt", b"content")
    assert problem.value.filename == str(folder / "a.txt")
    assert sorted(folder.iterdir()) == before


def test_a_box_has_an_outline_and_a_plate_in_the_colour_of_its_class():
    for label in range(1, len(CLASSES) + 1):
        found = Detections(
            np.array([[20, 30, 180, 90]], np.float32), np.array([0.5], np.float32), np.array([label])
        )
        grey = np.full((120, 200, 3), 128, np.uint8)
        marker, marks = marker_of(found, CLASSES, grey)
        picture = marker.draw(grey, marks)
        colour = list(COLOURS[label % 5])
        for x, y in ((180, 90), (100, 90), (180, 60), (20, 60), (150, 30)):
            assert picture[y, x].tolist() == colour
        plate = picture[30:41, 20:121].reshape(-1, 3)
        assert (plate == colour).all(axis=1).mean() > 0.5  # the rest is the text on it
        assert picture[45, 100].tolist() == [128, 128, 128]


def test_label_rows_have_sixteen_fields_and_the_digits_of_float32():
    found = Detections(
        np.array([[0.1, 1e-5, 123.456, 2**20]], np.float32), np.array([0.3], np.float32), np.array([2])
    )
    marker, marks = marker_of(found, CLASSES, np.zeros((48, 64, 3), np.uint8))
    fields = marker.list_rows(marks).split()
    assert len(fields) == 16
    assert fields[0] == "cyclist"
    assert [np.float32(v) for v in fields[4:8]] == list(found.boxes[0])
    assert fields[4] == "0.1"
    assert fields[15] == "0.3"


def test_endless_boxes_of_a_diverged_network_do_not_stop_the_drawing():
    boxes = np.array([[-np.inf, -1e30, np.inf, 1e30], [np.nan, 2, 5, 6]], np.float32)
    found = Detections(boxes, np.array([0.9, 0.8], np.float32), np.array([1, 1]))
    white = np.full((20, 30, 3), 255, np.uint8)
    marker, marks = marker_of(found, ("car",), white)
    assert marker.draw(white, marks).shape == (20, 30, 3)


@pytest.mark.parametrize("one_image", [False, True])
def test_annotated_images_never_replace_the_originals(tmp_path, one_image):
    (tmp_path / "a.png").touch()
    images = tmp_path / "a.png" if one_image else tmp_path
    args = argparse.Namespace(
        results_dir=None, image_output_dir=f"{tmp_path}/.", label_output_dir=None, image_dir=str(images)
    )
    with pytest.raises(UsageProblem, match="replace the originals"):
        _outputs(args, PathMap())
