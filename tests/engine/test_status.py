"""``status.json``: one record a line, whatever happened before."""

import json

from taomagic.engine.status import FOLDER_VARIABLE, StatusLog


def test_a_record_that_was_cut_off_spoils_only_itself(tmp_path):
    log = StatusLog(tmp_path)
    log.write("STARTED", "first")
    path = tmp_path / "status.json"
    with path.open("a") as file:
        file.write('{"date": "11/2')
    log.write("FAILURE", "second")
    log.write("SUCCESS", "third")
    lines = path.read_text().splitlines()
    assert [json.loads(lines[i])["message"] for i in (0, 2, 3)] == ["first", "second", "third"]
    assert lines[1] == '{"date": "11/2'


def test_without_a_results_folder_the_record_goes_where_the_launcher_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    StatusLog(None).write("STARTED", "nowhere")
    assert list(tmp_path.iterdir()) == []
    job = tmp_path / "job"
    job.mkdir()
    monkeypatch.setenv(FOLDER_VARIABLE, str(job))
    StatusLog(None).write("STARTED", "in the job")
    StatusLog(tmp_path / "results").write("STARTED", "in the results")
    assert '"in the job"' in (job / "status.json").read_text()
    assert '"in the results"' not in (job / "status.json").read_text()


def test_the_folder_of_a_job_that_is_gone_is_not_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "gone"))
    StatusLog(None).write("STARTED", "nowhere")
    assert list(tmp_path.iterdir()) == []
