"""A notebook in NVIDIA's manner, unmodified, in JupyterLab: Run All, once `tao setup notebooks` has been there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from taomagic.cli import tao

from .conftest import ENGINE, SPEC
from .jupyter import Notebook, Server, serve, write_notebook

#: NVIDIA's lines. The engine that acts is put in its place by a file of the profile, as a person's own would be.
CELLS = (
    """\
import os
os.environ["LOCAL_PROJECT_DIR"] = FIXME
os.environ["LOCAL_SPECS_DIR"] = os.path.join(os.getenv("NOTEBOOK_ROOT", os.getcwd()), "specs")
%env KEY=nvidia_tlt
%env USER_EXPERIMENT_DIR=/workspace/tao-experiments/ssd
%env SPECS_DIR=/workspace/tao-experiments/ssd/specs
!ls -rlt $LOCAL_SPECS_DIR""",
    """\
import json
mounts_file = os.path.expanduser("~/.tao_mounts.json")
drive_map = {
    "Mounts": [
        {"source": os.environ["LOCAL_PROJECT_DIR"], "destination": "/workspace/tao-experiments"},
        {"source": os.environ["LOCAL_SPECS_DIR"], "destination": os.environ["SPECS_DIR"]},
    ]
}
with open(mounts_file, "w") as mfile:
    json.dump(drive_map, mfile, indent=4)""",
    "!rm -rf $UNSET/tfrecords/*",
    """\
print("To run with multigpu, please change --gpus based on the number of available GPUs in your machine.")
!tao model ssd train --gpus 1 --gpu_index 0 \\
                     -e $SPECS_DIR/ssd_train_resnet18_kitti.txt \\
                     -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned \\
                     -k $KEY""",
    "!ls $LOCAL_PROJECT_DIR && echo THE END",
)
ACTING = f"""\
def _acting(name, previous=None):
    import os, sys
    os.environ["TAO_ACT"] = "train:2:0.2"
    import taomagic.launcher.preflight
    taomagic.launcher.preflight.check = lambda *_: ()
    from taomagic.launcher.runners.process import ProcessRunner
    magics = get_ipython().magics_manager.registry.get("TaoMagics")
    if magics is not None:
        magics.runner = ProcessRunner([sys.executable, "-u", {str(ENGINE)!r}])
get_ipython().events.register("pre_run_cell", lambda info: _acting("") if "!tao" in info.raw_cell else None)
"""


@pytest.fixture
def set_up(tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    root = tmp_path / "theirs"
    (root / "specs").mkdir(parents=True)
    (root / "specs" / "ssd_train_resnet18_kitti.txt").write_text(SPEC)
    profile = root / ".e2e" / "ipythondir"
    profile.mkdir(parents=True)
    monkeypatch.setenv("IPYTHONDIR", str(profile))
    assert tao(["setup", "notebooks"]) == 0
    (profile / "profile_default" / "startup" / "60-acting.py").write_text(ACTING)
    with serve("lab", root, environ) as server:
        yield server
        server.close_sessions()


def test_run_all_shows_panels_and_tells_what_was_filled_in(set_up: Server, page: Page) -> None:
    write_notebook(set_up.root / "ssd.ipynb", *CELLS)
    notebook = Notebook(page, set_up, "ssd.ipynb").open()
    page.get_by_text("Run", exact=True).first.click()
    page.get_by_text("Run All Cells", exact=True).first.click()
    expect(notebook.output(4)).to_contain_text("THE END", timeout=60_000)
    expect(notebook.output(0)).to_contain_text(
        f"FIXME isn't defined in this notebook; it is now {set_up.root}."
    )
    expect(notebook.output(0)).to_contain_text("ssd_train_resnet18_kitti.txt")
    expect(notebook.output(1)).to_contain_text("goes on with its own copy")
    expect(notebook.output(2)).to_contain_text(
        "$UNSET is unset, so that this line would work on /tfrecords/*."
    )
    expect(notebook.panel(3).locator(".tao-chip")).to_have_text("✓ succeeded", timeout=20_000)
    expect(notebook.panel(3).locator(".tao-tile")).to_contain_text(["mAP", "loss"])
    assert (set_up.root / ".tao" / "maps" / "ssd.json").is_file()
    # The cells are what they were.
    sources = [cell["source"] for cell in notebook.save()["cells"]]
    assert ["".join(each) for each in sources] == list(CELLS)
