"""``status.json``: one record a line, whatever happened before."""

import json

from taomagic.engine.status import StatusLog


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
