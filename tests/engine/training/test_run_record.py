"""Resuming and setting aside: what a results folder may keep, lose, or go on from."""

import logging

import pytest

from taomagic.engine.training.history import write_csv
from taomagic.engine.training.run_record import (
    SET_ASIDE_NAME,
    RunRecord,
    drop_set_aside,
    find_resumable,
    set_aside,
)

FINGERPRINT = {"spec": "a", "training data": "b"}
PATTERNS = ("weights/ssd_*.tlt",)


@pytest.fixture
def results(tmp_path):
    (tmp_path / "weights").mkdir()
    return tmp_path


def checkpoint(results, epoch, content="x"):
    path = results / "weights" / f"ssd_epoch_{epoch:03d}.tlt"
    path.write_text(content)
    return f"weights/{path.name}"


def record(results, state="running", epoch=2, **changes):
    name = checkpoint(results, epoch) if epoch else ""
    run = RunRecord(results, dict(FINGERPRINT), state=state, epoch=epoch, checkpoint=name, **changes)
    run.write()
    return run


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_a_killed_or_stopped_run_of_the_same_command_is_resumed(results, state):
    record(results, state, history=[{"epoch": 1.0, "loss": 2.0}])
    found = find_resumable(results, FINGERPRINT)
    assert found is not None
    assert (found.epoch, found.history) == (2, [{"epoch": 1.0, "loss": 2.0}])


@pytest.mark.parametrize("state", ["finished", "failed"])
def test_a_finished_or_failed_run_is_not_resumed(results, state):
    record(results, state)
    assert find_resumable(results, FINGERPRINT) is None


def test_a_run_on_other_data_starts_afresh_and_says_what_differs(results, caplog):
    record(results)
    with caplog.at_level(logging.INFO):
        assert find_resumable(results, {**FINGERPRINT, "training data": "c"}) is None
    assert "its training data differed" in caplog.text


def test_nothing_is_resumed_before_the_first_checkpoint(results):
    record(results, epoch=0)
    assert find_resumable(results, FINGERPRINT) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"state": 3, "unknown": 1}'])
def test_a_damaged_record_counts_as_none(results, content):
    (results / "training_run.json").write_text(content)
    assert RunRecord.read(results) is None


def test_a_finished_run_stays_until_the_next_one_has_finished(results):
    record(results, "finished")
    set_aside(results, PATTERNS)
    kept = results / SET_ASIDE_NAME / "weights" / "ssd_epoch_002.tlt"
    assert kept.exists()
    assert not (results / "weights" / "ssd_epoch_002.tlt").exists()

    # The new run is killed; a third one, with another spec, drops its pieces but not the finished work.
    record(results, "interrupted", epoch=1)
    set_aside(results, PATTERNS)
    assert kept.exists()
    assert not (results / "weights" / "ssd_epoch_001.tlt").exists()

    drop_set_aside(results)
    assert not kept.exists()


def test_what_a_quick_run_left_makes_room_and_never_takes_the_place_of_a_whole_run(results, caplog):
    kept = results / SET_ASIDE_NAME / "weights" / "ssd_epoch_002.tlt"
    kept.parent.mkdir(parents=True)
    kept.write_text("whole")
    record(results, "finished", quick=True)
    with caplog.at_level(logging.INFO):
        set_aside(results, PATTERNS)
    assert not (results / "weights" / "ssd_epoch_002.tlt").exists()
    assert kept.read_text() == "whole"
    assert "Files of an earlier run in quick mode, removed: 1." in caplog.text


def test_files_that_are_not_of_a_training_stay_where_they_are(results):
    record(results, "finished")
    notes = results / "weights" / "my_notes.txt"
    notes.write_text("mine")
    set_aside(results, PATTERNS)
    assert notes.read_text() == "mine"


def test_the_csv_log_has_sorted_columns_and_nan_for_epochs_without_validation(tmp_path):
    path = tmp_path / "log.csv"
    history = [
        {"epoch": 1.0, "loss": 2.5, "lr": 0.1},
        {"epoch": 2.0, "loss": 1.0, "lr": 0.2, "mAP": 0.5, "AP_car": 0.5},
    ]
    write_csv(path, history, ["loss", "lr", "mAP", "AP_car"])
    assert path.read_text().splitlines() == [
        "epoch,AP_car,loss,lr,mAP",
        "1,nan,2.5,0.1,nan",
        "2,0.5,1.0,0.2,0.5",
    ]


def test_setting_aside_that_was_killed_half_way_goes_on_without_losing_what_had_moved(results):
    record(results, "finished")
    early = results / SET_ASIDE_NAME / "weights" / "ssd_epoch_001.tlt"
    early.parent.mkdir(parents=True)
    early.write_text("moved before the kill")
    set_aside(results, PATTERNS)
    assert early.read_text() == "moved before the kill"
    assert (early.parent / "ssd_epoch_002.tlt").exists()


def test_files_that_the_new_run_needs_stay_where_they_are(results):
    run = record(results, "finished")
    needed = (results / run.checkpoint).resolve()
    set_aside(results, PATTERNS, keep={needed})
    assert needed.exists()
