"""In a real kernel, as a notebook drives it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from .conftest import FIRST_CELL, new_project

PRUNE = "ssd prune -m $USER_EXPERIMENT_DIR/{}.hdf5 -o $USER_EXPERIMENT_DIR/out.hdf5 -k $KEY"


@dataclass
class Cell:
    """What one cell gave: the outputs as the notebook would save them, and what was sent on the way."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    sent: int = 0
    status: str = ""

    @property
    def stdout(self) -> str:
        return "".join(each["text"] for each in self.outputs if each.get("name") == "stdout")

    @property
    def told(self) -> str:
        """What was printed, and the error."""
        return "\n".join(
            [self.stdout, *(line for each in self.outputs for line in each.get("traceback", []))]
        )

    @property
    def error(self) -> dict[str, Any]:
        return next(each for each in self.outputs if "ename" in each)

    def shown(self, kind: str) -> list[str]:
        return [each["data"][kind] for each in self.outputs if kind in each.get("data", {})]


class Notebook:
    """Runs cells in a kernel and keeps their outputs the way a front end does."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient, project: Path) -> None:
        self.manager, self.client, self.project = manager, client, project

    def run(
        self, code: str, *, timeout: float = 40, interrupt_at: tuple[str, ...] = (), answer: str = ""
    ) -> Cell:
        """Run a cell; interrupt the kernel each time one of the given texts comes by, in their order."""
        wanted = list(interrupt_at)
        message_id = self.client.execute(code, allow_stdin=bool(answer))
        cell = Cell()
        displays: dict[str, dict[str, Any]] = {}
        end = time.monotonic() + timeout
        while True:
            if answer and self.client.stdin_channel.msg_ready():
                self.client.get_stdin_msg()
                self.client.input(answer)
            try:
                message = self.client.get_iopub_msg(
                    timeout=0.2 if answer else max(end - time.monotonic(), 0.1)
                )
            except Exception:
                assert time.monotonic() < end, f"no end after {timeout} s"
                continue
            if message["parent_header"].get("msg_id") != message_id:
                continue
            kind, content = message["msg_type"], message["content"]
            cell.sent += len(str(content))
            if wanted and wanted[0] in str(content) and kind != "execute_input":
                wanted.pop(0)
                self.manager.interrupt_kernel()
            identity = content.get("transient", {}).get("display_id")
            if kind == "update_display_data":
                displays[identity].update(data=content["data"])
            elif kind in {"stream", "display_data", "execute_result", "error"}:
                cell.outputs.append(content)
                if identity:
                    displays[identity] = content
            elif kind == "status" and content["execution_state"] == "idle":
                break
        reply = self.client.get_shell_msg(timeout=10)
        while reply["parent_header"].get("msg_id") != message_id:
            reply = self.client.get_shell_msg(timeout=10)
        cell.status = reply["content"]["status"]
        return cell


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """One kernel for all tests: a start takes seconds."""
    with new_project(tmp_path_factory.mktemp("kernel")) as project:
        manager, client = start_new_kernel(cwd=str(project), startup_timeout=60)
        try:
            notebook = Notebook(manager, client, project)
            assert notebook.run(FIRST_CELL).status == "ok"
            yield notebook
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def test_a_stage_is_one_output_that_is_redrawn_and_true_at_the_end(notebook: Notebook) -> None:
    cell = notebook.run(f"r = %tao {PRUNE.format('train-3')}")
    assert cell.status == "ok"
    assert len(cell.outputs) == 1, "one card, and nothing printed twice"
    (html,), (text,) = cell.shown("text/html"), cell.shown("text/plain")
    assert "✓ succeeded" in html
    assert "mAP" in html
    assert text.count("\nEpoch ") == 3
    assert "secret-key" not in html + text
    assert notebook.run("r").shown("text/plain")[0].startswith("<Result ssd prune: succeeded, mAP=0.7")


def test_a_failed_stage_is_an_error_of_the_cell_in_one_clean_block(notebook: Notebook) -> None:
    cell = notebook.run(f"%tao {PRUNE.format('fail-3')}")
    assert cell.status == "error"
    assert cell.error["ename"] == "StageFailed"
    drawn = "\n".join(cell.error["traceback"])
    assert "the model <b>is</b> pruned already" in drawn
    assert "take the unpruned one" in drawn
    assert "Traceback" not in drawn
    assert 'File "' not in drawn
    assert "the model &lt;b&gt;is&lt;/b&gt; pruned already" in cell.shown("text/html")[0]


def test_an_interrupt_stops_the_command_politely_and_raises(notebook: Notebook) -> None:
    cell = notebook.run(f"%tao -o job {PRUNE.format('polite')}", interrupt_at=("holding on",))
    assert cell.error["ename"] == "StageInterrupted"
    assert "stopping after this batch" in "\n".join(cell.error["traceback"])
    assert "■ stopped" in cell.shown("text/html")[0]
    assert notebook.run("print(job.state)").stdout == "stopped\n"


def test_a_second_interrupt_kills(notebook: Notebook) -> None:
    began = time.monotonic()
    # The second one comes when the page says that the first one has been passed on.
    cell = notebook.run(f"%tao -o job {PRUNE.format('stubborn')}", interrupt_at=("holding on", "Stopping:"))
    assert cell.error["ename"] == "StageInterrupted"
    assert time.monotonic() - began < 20
    assert notebook.run("print(job.state)").stdout == "stopped\n"


def test_a_training_survives_its_kernel_and_is_followed_without_losing_a_line(notebook: Notebook) -> None:
    job_id = notebook.run(f"job = %tao {PRUNE.format('gate-4')} --background\nprint(job.id)").stdout.strip()
    notebook.manager.restart_kernel(now=True)
    notebook.client.wait_for_ready(timeout=60)
    told = notebook.run(FIRST_CELL.replace("%tao_env", "%env KEY=secret-key\n%tao_env")).stdout
    assert f"1 job still running: ssd prune ({job_id})" in told
    assert job_id in notebook.run("%tao list").shown("text/html")[0]
    (notebook.project / "go").touch()
    text = notebook.run(f"%tao attach {job_id}").shown("text/plain")[0]
    assert [f"Epoch {n}/4" in text for n in (1, 2, 3, 4)] == [True] * 4
    assert "✓ tao ssd prune succeeded" in text


def test_interrupting_attach_only_ends_the_watching(notebook: Notebook) -> None:
    notebook.run(f"job = %tao {PRUNE.format('polite')} --background")
    cell = notebook.run("%tao attach {job.id}", interrupt_at=("holding on",))
    assert cell.error["ename"] == "StageInterrupted"
    assert "the command goes on" in "\n".join(cell.error["traceback"])
    assert notebook.run("print(job.state)").stdout == "running\n"
    assert "■ stopped" in notebook.run("%tao stop {job.id}").shown("text/html")[0]


def test_much_noise_makes_little_notebook(notebook: Notebook) -> None:
    cell = notebook.run(f"%tao {PRUNE.format('noise-20000')}")
    assert sum(len(str(output)) for output in cell.outputs) < 60_000
    assert cell.sent < 3_000_000
    assert "a message that says nothing" in cell.shown("text/html")[0]


def test_text_in_a_kernel_has_a_line_per_epoch(notebook: Notebook) -> None:
    notebook.run("%env TAO_PANEL=text")
    cell = notebook.run(f"r = %tao {PRUNE.format('train-3')}")
    notebook.run("%env TAO_PANEL=")
    assert not cell.shown("text/html")
    assert cell.stdout.count("\nEpoch ") == 3
    assert "\r" not in cell.stdout


def test_the_key_is_asked_for_through_the_notebooks_input_box(notebook: Notebook) -> None:
    cell = notebook.run("%tao_env ssd --key", answer="typed in")
    assert cell.status == "ok"
    assert "typed in" not in str(cell.outputs)
    assert notebook.run("print(KEY)").stdout == "typed in\n"


def test_the_extension_loads_fast_in_a_warm_kernel(notebook: Notebook) -> None:
    forget = (
        "import sys\n%unload_ext taomagic\n"
        "for name in [name for name in sys.modules if name.startswith('taomagic')]: del sys.modules[name]"
    )
    notebook.run(forget)
    cell = notebook.run(
        "import time\nt = time.perf_counter()\n%load_ext taomagic\nprint(time.perf_counter() - t)"
    )
    assert float(cell.stdout) < 0.3
    heavy = "print([n for n in ('torch', 'numpy', 'google.protobuf', 'nbformat') if n in sys.modules])"
    assert notebook.run(heavy).stdout == "[]\n"
    notebook.run(FIRST_CELL)


def test_a_shell_line_of_nvidias_notebooks_shows_the_same_card(notebook: Notebook) -> None:
    line = PRUNE.format("train-3").replace(" -o", " \\\n    -o")
    cell = notebook.run(f"x = 1\n!tao {line}\nprint('x is', x)")
    assert cell.status == "ok"
    assert "✓ succeeded" in cell.shown("text/html")[0]
    assert cell.stdout.endswith("x is 1\n")
    cell = notebook.run(f"!tao {PRUNE.format('fail-1')}\nprint('never')")
    assert cell.error["ename"] == "StageFailed"
    assert "never" not in cell.stdout
    # A line that needs a shell is NVIDIA's `!` as ever: text, and no error.
    assert "Configuration of the TAO" in notebook.run(f"!{sys.executable} -m taomagic info | cat").stdout


def test_jobs_are_awaited_in_a_cell_alone_and_together(notebook: Notebook) -> None:
    start = "\n".join(f"{name} = %tao {PRUNE.format('train-2')} --background" for name in "ab")
    cell = notebook.run(
        f"{start}\nimport asyncio\nboth = await asyncio.gather(a, b)\nprint([r.ok for r in both])"
    )
    assert cell.status == "ok"
    assert "[True, True]" in cell.stdout
    cell = notebook.run(f"job = %tao {PRUNE.format('fail-3')} --background\nawait job")
    assert cell.error["ename"] == "StageFailed"


def test_interrupting_an_await_leaves_the_job_running_without_a_traceback(notebook: Notebook) -> None:
    notebook.run(f"job = %tao {PRUNE.format('polite')} --background")
    cell = notebook.run("print('waiting', flush=True)\nawait job", interrupt_at=("waiting",))
    assert cell.status == "error"
    assert "the command goes on" in "\n".join(cell.error["traceback"])
    assert 'File "' not in "\n".join(cell.error["traceback"])
    assert notebook.run("print(job.state)").stdout == "running\n"
    notebook.run("%tao stop {job.id}")


def test_an_interrupt_while_a_command_is_checked_is_told_without_a_traceback(notebook: Notebook) -> None:
    slow = (
        "import time, taomagic.magics as m\n_launch = m.launch\n"
        "def slow(*a, **k):\n    print('checking', flush=True)\n    time.sleep(30)\n    return _launch(*a, **k)\n"
        "m.launch = slow"
    )
    notebook.run(slow)
    began = time.monotonic()
    cell = notebook.run(f"%tao {PRUNE.format('ok')}", interrupt_at=("checking",))
    notebook.run("m.launch = _launch")
    assert time.monotonic() - began < 15
    assert cell.error["ename"] == "StageInterrupted"
    assert 'File "' not in "\n".join(cell.error["traceback"])


def test_completion_answers_the_front_end(notebook: Notebook) -> None:
    def ask(code: str) -> dict[str, Any]:
        notebook.client.complete(code, len(code))
        reply = notebook.client.get_shell_msg(timeout=20)
        while reply["msg_type"] != "complete_reply":
            reply = notebook.client.get_shell_msg(timeout=20)
        return dict(reply["content"])

    reply = ask("r = %tao ssd ev")
    assert (reply["matches"], reply["cursor_start"], reply["cursor_end"]) == (["evaluate"], 13, 15)
    assert ask("%%tao ssd prune\n  -m $USER_EXPERIMENT_DIR/train-3")["matches"] == [
        "$USER_EXPERIMENT_DIR/train-3.hdf5"
    ]
    assert "secret-key" not in str(ask("%tao ssd prune -k "))
