"""The six sub-tasks of SSD on tiny data: files, printed lines, status records, and errors."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import onnxruntime
import pytest
import torch

from taomagic.engine.ssd import weights
from taomagic.engine.storage.model_file import load_model
from tests.engine.commands.conftest import KEY, ROOT, Project


def lines_of(output: str) -> list[str]:
    """Return the lines that stay on the screen: of a redrawn one only its last state."""
    return [line.split("\r")[-1] for line in output.splitlines()]


def statuses(project: Project, results: str) -> list[dict[str, object]]:
    text = (project.folder / results / "status.json").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_dataset_convert_writes_shards_with_index_files(project: Project):
    names = sorted(p.name for p in (project.folder / "data/ssd/tfrecords").iterdir())
    shards = [f"train-fold-000-of-002-shard-0000{i}-of-00002" for i in range(2)]
    assert [n for n in names if not n.endswith(".json")] == sorted([*shards, *(f"idx-{s}" for s in shards)])


def test_the_whole_pipeline_from_training_to_the_exported_model(project: Project):
    spec = project.spec()

    trained = project.train("unpruned")
    assert trained.code == 0, trained.output
    lines = lines_of(trained.output)
    assert lines[-1] == "Execution status: PASS"
    assert [line for line in lines if re.fullmatch(r"Epoch \d/3", line)] == [
        "Epoch 1/3",
        "Epoch 2/3",
        "Epoch 3/3",
    ]
    assert f"Epoch 00002: saving model to {project.weights('unpruned', 2)}" in lines
    assert sum(line == "*" * 31 for line in lines) == 4  # validation after epochs 2 and 3
    assert any(line.startswith("Estimated time: ") for line in lines)
    assert sorted(p.name for p in (project.folder / "unpruned/weights").iterdir()) == [
        f"ssd_resnet10_epoch_00{i}.tlt" for i in (1, 2, 3)
    ]
    with (project.folder / "unpruned/ssd_training_log_resnet10.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ["epoch", "AP_car", "AP_cyclist", "AP_pedestrian", "loss", "lr", "mAP", "validation_loss"]
    assert list(rows[0]) == names
    assert [row["mAP"] == "nan" for row in rows] == [True, False, False]
    messages = [record["message"] for record in statuses(project, "unpruned")]
    assert messages[0] == "Starting Training Loop."
    assert messages[-2:] == ["Training loop complete.", "Training finished successfully."]
    assert messages.count("Training loop in progress") == 3

    last = project.weights("unpruned", 3)
    evaluated = project.run("ssd", "evaluate", "-e", spec, "-m", last, "-k", KEY)
    assert evaluated.code == 0, evaluated.output
    assert re.search(r"^car           AP    [\d.]{1,5}$", evaluated.output, re.MULTILINE)
    assert re.search(r"^              mAP   [\d.]{1,5}$", evaluated.output, re.MULTILINE)
    record = statuses(project, "unpruned/weights")[-1]
    assert record["kpi"].keys() == {"mAP"}
    assert record["graphical"]["precision_recall"].keys() == {"car", "cyclist", "pedestrian"}

    pruned = f"{ROOT}/pruned/model.tlt"
    cut = project.run(
        "ssd",
        "prune",
        "-m",
        last,
        "-o",
        pruned,
        "-k",
        KEY,
        "-pth",
        "0.9",
        "-nf",
        "4",
        "-pg",
        "4",
        "-eq",
        "intersection",
        "--results_dir",
        f"{ROOT}/pruned",
    )
    assert cut.code == 0, cut.output
    ratio = float(re.search(r"Pruning ratio \(pruned model / original model\): (\S+)", cut.output).group(1))
    assert 0.05 < ratio < 0.95
    layers = statuses(project, "pruned")[-1]["categorical"]
    assert (
        layers["filters"].keys()
        == layers["filters_kept"].keys()
        >= {"conv1", "block_4a_conv_2", "ssd_conf_0"}
    )
    assert 0 < sum(layers["filters_kept"].values()) < sum(layers["filters"].values())

    retrained = project.train("retrained", "-m", pruned)
    assert retrained.code == 0, retrained.output
    assert "is pruned: its channels are used" in retrained.output
    before, after = (load_model(project.path(p), KEY) for p in (pruned, project.weights("retrained", 3)))
    assert before.architecture["channels"] == after.architecture["channels"]

    final = project.weights("retrained", 3)
    onnx = f"{ROOT}/export/model.onnx"
    exported = project.run("ssd", "export", "-m", final, "-e", spec, "-o", onnx, "-k", KEY, "--gen_ds_config")
    assert exported.code == 0, exported.output
    assert {p.name for p in project.path(onnx).parent.iterdir()} == {
        "model.onnx",
        "nvinfer_config.txt",
        "labels.txt",
    }
    session = onnxruntime.InferenceSession(project.path(onnx))
    rows, counts = session.run(["NMS", "NMS_1"], {"Input": np.zeros((2, 3, 48, 144), np.float32)})
    assert rows.shape == (2, 1, 50, 7)
    assert counts.shape[0] == 2

    scores = []
    for model in (final, onnx):
        outcome = project.run("ssd", "evaluate", "-e", spec, "-m", model, "-k", KEY)
        assert outcome.code == 0, outcome.output
        scores.append(float(re.search(r"^\s+mAP\s+(\S+)$", outcome.output, re.MULTILINE).group(1)))
    assert scores[0] == pytest.approx(scores[1], abs=0.002)


@pytest.mark.parametrize("generation", ["4.x", "5.x"])
def test_inference_writes_pictures_and_labels_for_flags_of_both_generations(
    project: Project, generation: str
):
    assert project.train("run").code == 0
    model = project.weights("run", 3)
    flags = {
        "4.x": ["-o", f"{ROOT}/out/images_annotated", "-l", f"{ROOT}/out/labels"],
        "5.x": ["-r", f"{ROOT}/out"],
    }[generation]
    outcome = project.run(
        "ssd", "inference", "-i", f"{ROOT}/data/testing/image_2", "-e", project.spec(), "-m", model,
        "-k", KEY, "-t", "0.02", *flags,
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    names = sorted(p.name for p in (project.folder / "data/testing/image_2").iterdir())
    assert sorted(p.name for p in (project.folder / "out/images_annotated").iterdir()) == names
    labels = sorted((project.folder / "out/labels").iterdir())
    assert [p.stem for p in labels] == [n.split(".")[0] for n in names]
    found = [line.split() for p in labels for line in p.read_text().splitlines()]
    assert found, "a threshold of 0.02 must let something through"
    assert {len(fields) for fields in found} == {16}
    assert all(fields[0] in {"car", "cyclist", "pedestrian"} for fields in found)
    assert all(0.02 < float(fields[15]) <= 1 for fields in found)


def test_without_a_key_checkpoints_and_exports_are_plain_files(project: Project):
    spec = project.spec()
    outcome = project.run("ssd", "train", "-e", spec, "-r", f"{ROOT}/plain")
    assert outcome.code == 0, outcome.output
    model = project.weights("plain", 3, ".hdf5")
    assert project.path(model).read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"
    assert project.run("ssd", "export", "-m", model, "-e", spec).code == 0
    assert project.path(model).with_suffix(".onnx").exists()


def test_weights_by_keras_layer_name_start_a_training(project: Project, tmp_path):
    assert project.run("ssd", "train", "-e", project.spec(), "-r", f"{ROOT}/first").code == 0
    source = project.path(project.weights("first", 3, ".hdf5"))
    import h5py

    with h5py.File(source, "r+") as file:
        del file.attrs["taomagic"]  # what is left is what any Keras program would write
    outcome = project.run(
        "ssd",
        "train",
        "-e",
        project.spec(),
        "-r",
        f"{ROOT}/second",
        "-m",
        project.weights("first", 3, ".hdf5"),
    )
    assert outcome.code == 0, outcome.output
    taken, of = map(int, re.search(r"Took (\d+) of (\d+) tensors", outcome.output).groups())
    assert taken == of


def test_continuing_at_an_epoch_gives_the_same_weights_as_training_through(project: Project):
    assert project.train("through").code == 0
    assert project.train("continued", "-m", project.weights("through", 2), "--initial_epoch", "3").code == 0
    through, continued = (
        load_model(project.path(project.weights(r, 3)), KEY) for r in ("through", "continued")
    )
    for name, tensor in through.weights.items():
        assert torch.equal(tensor, continued.weights[name]), name


def test_grey_images_train_and_evaluate(project: Project):
    spec = project.spec(replace={"output_channel: 3": "output_channel: 1"})
    outcome = project.train("grey", spec=spec)
    assert outcome.code == 0, outcome.output
    assert project.run("ssd", "evaluate", "-e", spec, "-m", project.weights("grey", 3), "-k", KEY).code == 0


def test_frozen_blocks_and_batch_norm_stay_as_they_were(project: Project):
    assert project.train("first").code == 0
    spec = project.spec(
        "frozen.txt", replace={"nlayers: 10": "nlayers: 10 freeze_blocks: 0 freeze_blocks: 1 freeze_bn: true"}
    )
    start = project.weights("first", 3)
    assert project.train("frozen", "-m", start, spec=spec).code == 0
    before, after = (load_model(project.path(p), KEY).weights for p in (start, project.weights("frozen", 3)))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {
        "backbone.conv1.weight",
        "backbone.block_1a.conv_1.weight",
        "backbone.block_1a.conv_shortcut.weight",
    } <= same
    assert "backbone.block_2a.conv_1.weight" not in same
    assert "backbone.bn_conv1.running_mean" in same
    assert "backbone.bn_conv1.weight" not in same
    assert "expansion.ssd_expand_block_1.bn_1.running_mean" not in same


def test_early_stopping_ends_the_training_and_keeps_the_last_epoch(project: Project):
    rule = "early_stopping { monitor: 'loss' min_delta: 1000 patience: 1 }"
    spec = project.spec(replace={"num_epochs: 3": f"num_epochs: 9 {rule}"})
    outcome = project.train("early", spec=spec)
    assert outcome.code == 0, outcome.output
    assert "Epoch 00002: early stopping" in lines_of(outcome.output)
    assert project.path(project.weights("early", 2)).exists()


def test_the_visualizer_writes_tensorboard_events_with_curves_and_pictures(project: Project):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    spec = project.spec(replace={"num_epochs: 3": "num_epochs: 2 visualizer { enabled: true num_images: 2 }"})
    assert project.train("events", spec=spec).code == 0
    events = EventAccumulator(str(project.folder / "events/events"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "lr", "mAP", "AP_car", "validation_loss"} <= set(tags["scalars"])
    assert set(tags["images"]) == {"batch_imgs/0", "batch_imgs/1"}
    assert len(events.Scalars("loss")) == 6  # three steps in each of two epochs


def test_the_precision_recall_picture_is_drawn_where_the_spec_asks(project: Project):
    assert project.train("run").code == 0
    spec = project.spec("pr.txt", replace={"batch_size: 4": "batch_size: 4 visualize_pr_curve: true"})
    outcome = project.run(
        "ssd", "evaluate", "-e", spec, "-m", project.weights("run", 3), "-k", KEY, "-r", f"{ROOT}/pr"
    )
    assert outcome.code == 0, outcome.output
    assert (project.folder / "pr/PR_curve.png").read_bytes()[:4] == b"\x89PNG"


def test_quick_mode_shortens_epochs_and_says_so(project: Project, monkeypatch):
    monkeypatch.setenv("TAOMAGIC_STEPS_PER_EPOCH", "1")
    outcome = project.train("quick")
    assert outcome.code == 0, outcome.output
    quick = "QUICK MODE: TAOMAGIC_STEPS_PER_EPOCH=1; steps in an epoch: 1, images in a step: 1; learning rate: 0.2 of"
    assert quick in outcome.output
    with (project.folder / "quick/ssd_training_log_resnet10.csv").open() as file:
        assert max(float(row["lr"]) for row in csv.DictReader(file)) == pytest.approx(0.2 * 1e-2)
    assert [record["message"] for record in statuses(project, "quick")][1].startswith(quick)
    assert lines_of(outcome.output).count("Epoch 3/3 (quick mode)") == 1
    files = [load_model(project.path(project.weights("quick", epoch)), KEY) for epoch in (1, 2, 3)]
    assert [file.epoch for file in files] == [1, 2, 3]
    assert [file.optimizer is not None for file in files] == [False, False, True]
    assert not torch.equal(*(file.weights["backbone.conv1.weight"] for file in files[1:])), "each step trains"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "-e", "{root}/specs/nothing.txt", "-r", "{root}/x"], "nothing.txt"),
        (["train", "-e", "{spec}", "-r", "{root}/x", "--arch", "dssd"], "dssd"),
        (["train", "-e", "{spec}", "-r", "{root}/x", "--initial_epoch", "2"], "--initial_epoch"),
        (["evaluate", "-e", "{spec}", "-m", "{root}/none.tlt", "-k", "k"], "none.tlt"),
        (
            ["export", "-m", "{root}/none.tlt", "-e", "{spec}", "-k", "k", "--data_type", "int9"],
            "--data_type",
        ),
        (["evaluate", "-e", "{spec}", "-m", "{root}/none.tlt", "-i", "{root}/data"], "go together"),
        (["train", "-e", "{spec}"], "-r"),
        (["fly", "-e", "{spec}"], "fly"),
    ],
)
def test_a_wrong_command_ends_with_one_clear_error(project: Project, words, message):
    spec = project.spec()
    outcome = project.run("ssd", *(w.format(root=ROOT, spec=spec) for w in words))
    assert outcome.code == 1
    lines = lines_of(outcome.output)
    assert lines[-1] == "Execution status: FAIL"
    assert sum(line.startswith("ERROR: ") for line in lines) == 1
    assert message in outcome.output
    assert "Traceback" not in outcome.output


def test_a_wrong_key_is_called_a_wrong_key(project: Project):
    assert project.train("run").code == 0
    outcome = project.run(
        "ssd", "evaluate", "-e", project.spec(), "-m", project.weights("run", 3), "-k", "other_key"
    )
    assert outcome.code == 1
    assert "key" in next(line for line in outcome.output.splitlines() if line.startswith("ERROR: "))
    assert "other_key" not in outcome.output


def test_a_model_of_other_classes_is_refused_with_both_lists(project: Project):
    assert project.train("run").code == 0
    spec = project.spec(
        "other.txt", replace={'key: "cyclist" value: "cyclist"': 'key: "cyclist" value: "bike"'}
    )
    outcome = project.run("ssd", "evaluate", "-e", spec, "-m", project.weights("run", 3), "-k", KEY)
    assert outcome.code == 1
    assert "'cyclist'" in outcome.output
    assert "'bike'" in outcome.output


def test_a_loss_that_is_no_number_names_the_images_and_is_not_resumed(project: Project):
    spec = project.spec(
        replace={
            "max_learning_rate: 1e-2": "max_learning_rate: 1e12",
            "min_learning_rate: 1e-4": "min_learning_rate: 1e11",
        }
    )
    outcome = project.train("nan", spec=spec)
    assert outcome.code == 1
    error = next(line for line in outcome.output.splitlines() if line.startswith("ERROR: "))
    assert "the loss became" in error
    assert re.search(r"batch: .*0000\d\d", error)
    assert statuses(project, "nan")[-1]["status"] == "FAILURE"
    assert "Resuming" not in project.train("nan", spec=spec).output


def test_damaged_data_are_named(project: Project):
    spec = project.spec(
        replace={
            'tfrecords_path: "/workspace/tao-experiments/data/ssd/tfrecords/train*"': (
                'label_directory_path: "/workspace/tao-experiments/data/training/label_2" '
                'image_directory_path: "/workspace/tao-experiments/data/training/image_2"'
            )
        }
    )
    image = project.folder / "data/training/image_2/000004.jpg"
    image.write_bytes(image.read_bytes()[:2000])
    outcome = project.train("damaged", spec=spec)
    assert outcome.code == 1
    assert "000004.jpg" in outcome.output
    assert "Traceback" not in outcome.output


def test_a_label_row_with_missing_fields_stops_the_conversion_at_its_line(project: Project):
    label = project.folder / "data/training/label_2/000002.txt"
    label.write_text("Car 0.0 0 1.5 10 10 50 40\n")
    before = sorted((p.name, p.read_bytes()) for p in (project.folder / "data/ssd/tfrecords").iterdir())
    outcome = project.run(
        "ssd", "dataset_convert", "-d", f"{ROOT}/specs/convert.txt", "-o", f"{ROOT}/data/ssd/tfrecords/train"
    )
    assert outcome.code == 1
    assert re.search(r"000002\.txt:1\b", outcome.output)
    assert (
        sorted((p.name, p.read_bytes()) for p in (project.folder / "data/ssd/tfrecords").iterdir()) == before
    )


def test_a_model_file_says_everything_that_is_needed_to_rebuild_the_network(project: Project):
    assert project.train("run").code == 0
    model, file = weights.model_from_file(project.path(project.weights("run", 2)), KEY)
    assert file.epoch == 2
    assert file.optimizer is not None
    assert model.architecture.classes == ("car", "cyclist", "pedestrian")


def test_a_field_without_effect_is_named_once_in_dataset_convert(project: Project):
    text = (project.folder / "specs/convert.txt").read_text()
    text = text.replace("num_shards: 2", 'num_shards: 2 kitti_sequence_to_frames_file: "frames.json"')
    (project.folder / "specs/noted.txt").write_text(text)
    outcome = project.run(
        "ssd", "dataset_convert", "-d", f"{ROOT}/specs/noted.txt", "-o", f"{ROOT}/data/ssd/again/train"
    )
    assert outcome.code == 0, outcome.output
    assert (
        outcome.output.count("kitti_sequence_to_frames_file has no effect with partition_mode: random") == 1
    )


@pytest.mark.parametrize("command", ["evaluate", "inference"])
def test_fields_without_effect_are_named_where_their_block_is_used(project: Project, command: str):
    spec = project.spec(
        replace={
            "nms_config {": "nms_config { force_on_cpu: true",
            "validation_data_sources {": 'validation_data_sources { tfrecords_path: "/x"',
        }
    )
    images = {"evaluate": [], "inference": ["-i", f"{ROOT}/data/val/image_2", "-r", f"{ROOT}/found"]}[command]
    outcome = project.run("ssd", command, "-e", spec, "-m", f"{ROOT}/none.tlt", *images)
    assert f"{spec}: nms_config.force_on_cpu has no effect" in outcome.output
    assert ("tfrecords_path has no effect" in outcome.output) == (command == "evaluate")


def test_a_flag_without_effect_says_so(project: Project):
    outcome = project.run(
        "ssd", "-np", "3", "dataset_convert", "-d", f"{ROOT}/specs/convert.txt",
        "-o", f"{ROOT}/data/ssd/again/train", "-f", "1",
    )  # fmt: skip
    assert outcome.code == 0, outcome.output
    assert "--validation_fold 1 has no effect without sample_modifier_config" in outcome.output
    assert "--num_processes 3 is not used: " in outcome.output
