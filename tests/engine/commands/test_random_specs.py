"""A random walk over valid specs that trains two steps with each."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from taomagic.engine.cli import main
from taomagic.samples import create
from tests.spec.valid_specs import Places, experiments, plain

#: TAOMAGIC_RANDOM_TRAININGS=300 walks further than the suite has time for.
EXAMPLES = int(os.environ.get("TAOMAGIC_RANDOM_TRAININGS", "6"))

EXPORT = """\
kitti_config { root_directory_path: "ROOT" image_dir_name: "training/image_2" label_dir_name: "training/label_2"
  image_extension: ".jpg" partition_mode: "random" val_split: 0 num_shards: 2 }
target_class_mapping { key: "car" value: "car" }
target_class_mapping { key: "pedestrian" value: "pedestrian" }
target_class_mapping { key: "cyclist" value: "cyclist" }
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    folder = tmp_path_factory.mktemp("data")
    create(folder, training=8, val=2, testing=1, size=(120, 72), seed=5)
    (folder / "export.txt").write_text(EXPORT.replace("ROOT", str(folder)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_MOUNTS", str(folder / "no_mounts.json"))
        patch.setenv("TAOMAGIC_STEPS_PER_EPOCH", "2")
        (folder / "no_mounts.json").write_text('{"Mounts": []}')
        assert (
            main(
                ["ssd", "dataset_convert", "-d", str(folder / "export.txt"), "-o", str(folder / "records/t")]
            )
            == 0
        )
        yield Places(
            records=str(folder / "records/t*"),
            labels=str(folder / "training/label_2"),
            images=str(folder / "training/image_2"),
        )


numbers = itertools.count()


@given(data=st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[
        Phase.explicit,
        Phase.reuse,
        Phase.generate,
    ],  # making a failing example smaller would take for ever
    suppress_health_check=list(HealthCheck),
)
def test_every_valid_spec_trains(
    places: Places,
    tmp_path_factory: pytest.TempPathFactory,
    capfd: pytest.CaptureFixture[str],
    data: st.DataObject,
) -> None:
    folder = tmp_path_factory.getbasetemp() / f"walk{next(numbers)}"
    folder.mkdir()
    text = plain(data.draw(experiments(places, tiny=True)))
    note(text)
    (folder / "spec.txt").write_text(text, encoding="utf-8")
    words = ["ssd", "train", "-e", str(folder / "spec.txt"), "-r", str(folder)]
    words += data.draw(st.sampled_from([[], ["-k", "a key"], ["--use_amp"]]))
    capfd.readouterr()
    code = main(words)
    output = capfd.readouterr().out
    note(output)
    assert code == 0
    assert "Traceback" not in output
    # A whole training: a checkpoint, a log with a loss that is a number, and a status that says so.
    (checkpoint,) = (folder / "weights").iterdir()
    assert checkpoint.suffix == (".tlt" if "-k" in words else ".hdf5")
    (log,) = folder.glob("*.csv")
    (row,) = csv.DictReader(log.open())
    assert math.isfinite(float(row["loss"]))
    assert ("mAP" in row) == ("validation_data_sources" in text)
    last = (folder / "status.json").read_text().strip().split("\n")[-1]
    assert json.loads(last)["status"] == "SUCCESS"
    shutil.rmtree(folder)
