from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright.sync_api", reason="Playwright isn't installed")

from playwright.sync_api import Browser, Locator, Page, sync_playwright

import taomagic

from .jupyter import CHROMIUM, CHROMIUM_ARGS, Notebook, Server, serve, write_notebook

ENGINE = Path(__file__).with_name("acting_engine.py")
FIRST_CELL = f"""\
import sys
import taomagic.launcher.preflight
taomagic.launcher.preflight.check = lambda *_: ()
from taomagic.launcher.runners.process import ProcessRunner
%load_ext taomagic
%tao_env ssd --key secret-key
get_ipython().magics_manager.registry["TaoMagics"].runner = ProcessRunner([sys.executable, "-u", {str(ENGINE)!r}])
from IPython.display import clear_output
clear_output()
print("READY")
"""
TRAIN = "ssd train -e $SPECS_DIR/ssd_train_resnet18_kitti.txt -r $USER_EXPERIMENT_DIR/experiment_dir_unpruned -k $KEY"
SPEC = "training_config {\n  batch_size_per_gpu: 8\n  num_epochs: 80\n}\n"


def act(scene: str, command: str = f"%tao {TRAIN}") -> str:
    """A cell that runs a command, and the scene that the engine acts then."""
    return f'import os; os.environ["TAO_ACT"] = "{scene}"\n{command}'


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        if os.environ.get("CI"):
            pytest.fail(f"There is no browser at {CHROMIUM}.")
        pytest.skip(f"There is no browser at {CHROMIUM}.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "HOME": str(tmp_path_factory.mktemp("home")),
        "PYTHONPATH": str(Path(taomagic.__file__).parents[1]),
    }


def _server(app: str, factory: pytest.TempPathFactory, environ: dict[str, str]) -> Iterator[Server]:
    root = factory.mktemp(app)
    (root / "specs").mkdir(parents=True)
    (root / "specs" / "ssd_train_resnet18_kitti.txt").write_text(SPEC)
    with serve(app, root, environ) as server:
        yield server


@pytest.fixture(scope="package")
def lab(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> Iterator[Server]:
    yield from _server("lab", tmp_path_factory, environ)


@pytest.fixture(scope="package")
def notebook7(tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]) -> Iterator[Server]:
    yield from _server("notebook", tmp_path_factory, environ)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page; an error of the panel's script, which pages load from a blob, fails the test."""
    errors: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 1300})
    page.on("pageerror", lambda error: errors.append(error.stack or str(error)))
    yield page
    page.close()
    assert not [error for error in errors if "blob:" in error]


@pytest.fixture
def shots(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Page | Locator, str], None]:
    """Takes a picture of the page, into ``TAOMAGIC_SCREENSHOTS`` if that is set."""
    wanted = os.environ.get("TAOMAGIC_SCREENSHOTS")
    folder = Path(wanted) if wanted else tmp_path_factory.getbasetemp() / "shots"
    folder.mkdir(parents=True, exist_ok=True)

    def shoot(what: Page | Locator, name: str) -> None:
        what.screenshot(path=folder / f"{name}.png")

    return shoot


@pytest.fixture
def open_notebook(page: Page) -> Iterator[Callable[..., Notebook]]:
    """Opens a notebook whose first cell has been run."""
    opened: list[Notebook] = []

    def open_it(server: Server, name: str, *cells: str, on: Page | None = None) -> Notebook:
        write_notebook(server.root / name, FIRST_CELL, *cells)
        notebook = Notebook(on or page, server, name).open()
        opened.append(notebook)
        notebook.run(0)
        notebook.output(0).get_by_text("READY").wait_for(timeout=20_000)
        return notebook

    yield open_it
    for notebook in opened:
        notebook.server.close_sessions()
