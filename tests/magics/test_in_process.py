"""``%tao --in-process`` in a real kernel, with the real engine: what somebody who debugs a training step needs."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

from taomagic.samples import create

from .conftest import new_project
from .test_kernel import Cell, Notebook

KEY = "kernel-secret-key"
SPEC = """\
random_seed: 7
ssd_config {
  aspect_ratios_global: "[1.0, 2.0, 0.5]"
  scales: "[0.16, 0.3, 0.5, 0.7, 0.9, 1.0, 1.05]"
  two_boxes_for_ar1: true
  variances: "[0.1, 0.1, 0.2, 0.2]"
  arch: "resnet"
  nlayers: 10
  width_multiplier: 0.125
}
training_config {
  batch_size_per_gpu: 4
  num_epochs: EPOCHS
  learning_rate { soft_start_annealing_schedule {
    min_learning_rate: 1e-4 max_learning_rate: 1e-2 soft_start: 0.2 annealing: 0.7 } }
  regularizer { type: L1 weight: 3e-6 }
}
eval_config { validation_period_during_training: 100 batch_size: 4 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 50 }
augmentation_config { output_width: 64 output_height: 64 output_channel: 3 }
dataset_config {
  data_sources {
    label_directory_path: "/workspace/tao-experiments/data/training/label_2"
    image_directory_path: "/workspace/tao-experiments/data/training/image_2"
  }
  target_class_mapping { key: "car" value: "car" }
  target_class_mapping { key: "pedestrian" value: "pedestrian" }
  target_class_mapping { key: "cyclist" value: "cyclist" }
}
"""
TRAIN = "ssd train -e $SPECS_DIR/{}.txt -r $USER_EXPERIMENT_DIR/{} -k $KEY"
#: Breaks the second training step, the first of which times the training.
BREAK = """\
import torch
_backward = getattr(torch.Tensor.backward, "whole", torch.Tensor.backward)
_steps = []
def backward(self, *args, **kwargs):
    _steps.append(1)
    if len(_steps) == {step}:
        {what}
    return _backward(self, *args, **kwargs)
backward.whole = _backward
torch.Tensor.backward = backward
"""
#: How many images the batch of the step has, from the frames above the one that the debugger stands in.
BATCH_ABOVE = (
    "[f'{len(f.frame.f_locals[\"batch\"].names)} images' for f in __import__('inspect').stack() "
    "if 'batch' in f.frame.f_locals][0]"
)
#: The same from the frames of an error.
BATCH_OF_ERROR = (
    "[f'{len(f.f_locals[\"batch\"].names)} images' for f, _ in "
    "__import__('traceback').walk_tb(__import__('sys').last_traceback) if 'batch' in f.f_locals][0]"
)
MEND = "torch.Tensor.backward = _backward"


class Debugged(Notebook):
    """A notebook whose input box is answered with a debugger's commands."""

    def answer(self, code: str, answers: list[str], timeout: float = 60) -> Cell:
        """Run a cell; answer each question with the next of the texts."""
        waiting = list(answers)
        message_id = self.client.execute(code, allow_stdin=True)
        cell = Cell()
        for _ in range(int(timeout / 0.1)):
            while self.client.stdin_channel.msg_ready():
                self.client.get_stdin_msg()
                assert waiting, "a question more than there are answers"
                self.client.input(waiting.pop(0))
            try:
                message = self.client.get_iopub_msg(timeout=0.1)
            except Exception:  # nothing came
                continue
            if message["parent_header"].get("msg_id") != message_id:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind in {"stream", "display_data", "execute_result", "error"}:
                cell.outputs.append(content)
            elif kind == "status" and content["execution_state"] == "idle":
                break
        else:
            raise AssertionError(f"no end after {timeout} s: {cell.outputs}")
        reply = self.client.get_shell_msg(timeout=10)
        while reply["parent_header"].get("msg_id") != message_id:
            reply = self.client.get_shell_msg(timeout=10)
        cell.status = reply["content"]["status"]
        assert not waiting, cell.told
        return cell

    def value(self, expression: str) -> str:
        """Return what an expression prints in the kernel."""
        return self.run(f"print({expression})").stdout.strip()


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Debugged]:
    """A kernel in a project with data and two specs: `short` trains two epochs, `long` a great many."""
    with new_project(tmp_path_factory.mktemp("inside")) as project:
        create(project / "data", training=8, val=1, testing=1, size=(64, 64), seed=3)
        (project / "specs" / "ssd").mkdir(parents=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TAOMAGIC_DEVICE": "cpu"}
        manager, client = start_new_kernel(cwd=str(project), startup_timeout=60, env=environment)
        try:
            notebook = Debugged(manager, client, project)
            cell = notebook.run(f"%load_ext taomagic\n%tao_env ssd --key {KEY}")
            assert cell.status == "ok", cell.told
            specs = notebook.value("__import__('os').environ['LOCAL_SPECS_DIR']")
            for name, epochs in (("short", "2"), ("long", "5000")):
                Path(specs).mkdir(parents=True, exist_ok=True)
                (Path(specs) / f"{name}.txt").write_text(SPEC.replace("EPOCHS", epochs))
            yield notebook
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def test_a_training_runs_in_the_kernel_itself_and_gives_a_result(notebook: Debugged) -> None:
    cell = notebook.run(f"r = %tao --in-process {TRAIN.format('short', 'plain')}", timeout=90)
    assert cell.status == "ok", cell.told
    assert "Epoch 2/2" in cell.stdout
    assert "Execution status: PASS" in cell.stdout
    assert KEY not in str(cell.outputs)
    assert notebook.value("r.ok, len(r.history), 'torch' in __import__('sys').modules") == "True 2 True"
    assert (notebook.project / "ssd/plain/weights/ssd_resnet10_epoch_002.tlt").exists()
    record = Path(notebook.value("r.log_path"))
    assert "Epoch 2/2" in record.read_text()
    assert KEY.encode() not in b"".join(path.read_bytes() for path in record.parent.iterdir())
    assert json.loads((record.parent / "exit.json").read_text())["exit_code"] == 0
    assert "succeeded" in notebook.run("%tao list").shown("text/html")[0]


def test_a_breakpoint_in_a_step_opens_a_debugger_that_sees_the_batch(notebook: Debugged) -> None:
    notebook.run(BREAK.format(step=3, what="breakpoint()"))
    command = f"%tao --in-process {TRAIN.format('short', 'stopped-at')}"
    cell = notebook.answer(command, ["p type(self).__name__, self.ndim", "u", f"p {BATCH_ABOVE}", "c"])
    notebook.run(MEND)
    assert cell.status == "ok", cell.told
    assert "('Tensor', 0)" in cell.stdout, "the debugger stands where the breakpoint is"
    assert "4 images" in cell.stdout
    assert "Execution status: PASS" in cell.stdout


def test_quitting_the_debugger_stops_the_training_which_then_resumes(notebook: Debugged) -> None:
    # The checkpoint of the first epoch is there when the second one is broken into.
    notebook.run(BREAK.format(step=5, what="breakpoint()"))
    command = f"%tao --in-process {TRAIN.format('short', 'quit')}"
    cell = notebook.answer(command, ["q"])
    notebook.run(MEND)
    assert cell.error["ename"] == "StageInterrupted"
    assert "the debugger was quit" in cell.error["evalue"]
    again = notebook.run(command, timeout=60)
    assert again.status == "ok", again.told
    assert "Resuming from epoch 1" in again.stdout


def test_an_error_in_a_step_comes_out_with_its_frames_for_the_debugger(notebook: Debugged) -> None:
    notebook.run(BREAK.format(step=3, what="raise ZeroDivisionError('in a step')"))
    cell = notebook.run(f"%tao --in-process -o job {TRAIN.format('short', 'broken')}", timeout=60)
    notebook.run(MEND)
    assert cell.error["ename"] == "ZeroDivisionError"
    assert "train_epoch" in "\n".join(cell.error["traceback"])
    assert KEY not in str(cell.outputs)
    looked = notebook.answer("%debug", ["p type(self).__name__, self.ndim", "u", f"p {BATCH_OF_ERROR}", "q"])
    assert "('Tensor', 0)" in looked.stdout, "%debug stands where the error was raised"
    assert "4 images" in looked.stdout
    assert notebook.value("str(job.state), job.exit_code") == "failed 1"
    assert "ZeroDivisionError: in a step" in notebook.value("job.result().reason")
    log = Path(notebook.value("job.log_path")).read_text()
    assert "Traceback (most recent call last)" in log
    assert log.endswith("Execution status: FAIL\n")


def test_even_verbose_tracebacks_do_not_tell_the_key(notebook: Debugged) -> None:
    notebook.run(BREAK.format(step=3, what="raise ZeroDivisionError('in a step')"))
    notebook.run("%xmode Verbose")
    cell = notebook.run(f"%tao --in-process {TRAIN.format('short', 'verbose')}", timeout=60)
    notebook.run(f"{MEND}\n%xmode Context")
    drawn = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(cell.error["traceback"]))
    assert re.search(r"args = Namespace\(.*key='\*{8}'", drawn), "the values of variables are drawn"
    assert KEY not in str(cell.outputs)


def test_a_loss_that_is_no_number_shows_the_frame_of_its_batch_and_what_to_do(notebook: Debugged) -> None:
    spec = Path(notebook.value("__import__('os').environ['LOCAL_SPECS_DIR']")) / "nan.txt"
    text = (spec.parent / "short.txt").read_text()
    spec.write_text(text.replace("1e-2", "1e12").replace("1e-4", "1e11"))
    cell = notebook.run(f"%tao --in-process {TRAIN.format('nan', 'nan')}", timeout=60)
    drawn = "\n".join(cell.error["traceback"])
    assert cell.error["ename"] == "NotFiniteLoss"
    assert "train_epoch" in drawn
    assert "Lower max_learning_rate" in drawn
    assert "4 images" in notebook.answer("%debug", [f"p {BATCH_OF_ERROR}", "q"]).stdout


def test_an_interrupt_stops_the_training_cleanly(notebook: Debugged) -> None:
    command = f"%tao --in-process -o job {TRAIN.format('long', 'interrupted')}"
    cell = notebook.run(command, interrupt_at=("Epoch 00002: saving",), timeout=90)
    assert cell.error["ename"] == "StageInterrupted"
    assert "Traceback" not in "\n".join(cell.error["traceback"])
    assert notebook.value("str(job.state)") == "stopped"
    record = notebook.project / "ssd/interrupted/status.json"
    assert json.loads(record.read_text().splitlines()[-1])["status"] == "FAILURE"


def test_tao_stop_from_elsewhere_interrupts_the_cell_and_leaves_the_kernel(notebook: Debugged) -> None:
    stop = (
        "import threading, time\n"
        "from taomagic.launcher import control\n"
        "from taomagic.launcher.context import Context\n"
        "def stop():\n"
        "    context = Context.current(need_mounts=False)\n"
        "    while not (found := [j for j in control.all_jobs(context, everywhere=False) if not j.state.finished]):\n"
        "        time.sleep(0.2)\n"
        "    time.sleep(1)\n"
        "    found[0].request_stop()\n"
        "threading.Thread(target=stop, daemon=True).start()"
    )
    notebook.run(stop)
    cell = notebook.run(f"%tao --in-process {TRAIN.format('long', 'elsewhere')}", timeout=90)
    assert cell.error["ename"] == "StageInterrupted"
    assert notebook.value("1 + 1") == "2"


STATE = """\
import os, sys, random, signal, logging, warnings, json
import numpy as np, torch, cv2
def state():
    logger = logging.getLogger("taomagic")
    return json.dumps([
        dict(os.environ), os.getcwd(), repr(sys.stdout), repr(sys.stderr), repr(logger.handlers), logger.level,
        logger.propagate, repr(random.getstate()), repr(np.random.get_state()), torch.get_rng_state().tolist(),
        torch.get_num_threads(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled(),
        cv2.getNumThreads(), repr(signal.getsignal(signal.SIGINT)), repr(signal.getsignal(signal.SIGTERM)),
        len(warnings.filters),
    ])
before = state()
"""


def test_the_process_is_left_as_it_was_after_success_and_failure(notebook: Debugged) -> None:
    notebook.run("import torch, random\ntorch.set_num_threads(2); torch.manual_seed(5); random.seed(5)")
    notebook.run(STATE)
    log_file = "--log_file $USER_EXPERIMENT_DIR/copy.log"
    cell = notebook.run(f"%tao --in-process {TRAIN.format('short', 'left')} {log_file}", timeout=60)
    assert cell.status == "ok", cell.told
    assert "Epoch 2/2" in (notebook.project / "ssd/copy.log").read_text()
    assert notebook.value("[a for a, b in zip(json.loads(before), json.loads(state())) if a != b]") == "[]"
    notebook.run(BREAK.format(step=3, what="raise ZeroDivisionError('in a step')"))
    assert notebook.run(f"%tao --in-process {TRAIN.format('short', 'left2')}", timeout=60).status == "error"
    notebook.run(MEND)
    assert notebook.value("[a for a, b in zip(json.loads(before), json.loads(state())) if a != b]") == "[]"


def test_no_network_stays_in_memory_but_that_of_the_last_failure(notebook: Debugged) -> None:
    count = (
        "import gc\nfrom taomagic.engine.ssd.model import SSD\n"
        "def networks():\n    gc.collect()\n    return sum(isinstance(each, SSD) for each in gc.get_objects())"
    )
    notebook.run(count)
    notebook.run(BREAK.format(step=3, what="raise ZeroDivisionError('in a step')"))
    notebook.run(f"%tao --in-process {TRAIN.format('short', 'memory')}", timeout=60)
    notebook.run(MEND)
    assert notebook.value("networks() > 0") == "True"
    cell = notebook.run(f"%tao --in-process {TRAIN.format('short', 'memory2')}", timeout=60)
    assert cell.status == "ok", cell.told
    assert notebook.value("networks()") == "0"


def test_what_does_not_go_together_with_it_is_refused(notebook: Debugged) -> None:
    train = TRAIN.format("short", "refused")
    for line, word in (
        (f"%tao --in-process --background {train}", "--background"),
        (f"%tao --in-process {train} --background", "--background"),
        (f"%tao --in-process --backend docker {train}", "--backend docker"),
        (f"%tao --in-process {train} --gpus 2", "--gpus 2"),
        (f"%tao --in-process {train} -np 2", "--num_processes 2"),
        ("%tao --in-process list", "means nothing for list"),
        ("%tao --in-process yolo_v4 evaluate -e x", "--in-process means the embedded engine"),
    ):
        cell = notebook.run(line)
        drawn = "\n".join(cell.error["traceback"])
        assert cell.error["ename"] in {"UsageProblem", "EnvironmentProblem"}, drawn
        assert word in drawn
        assert "Traceback" not in drawn
    notebook.run("%env TAOMAGIC_BACKEND=docker")
    cell = notebook.run(f"%tao --in-process {train}")
    notebook.run("import os\nos.environ.pop('TAOMAGIC_BACKEND')")
    assert "the backend is docker" in "\n".join(cell.error["traceback"])
    assert not (notebook.project / "ssd/refused").exists()


def test_a_shell_line_may_have_the_option_too(notebook: Debugged) -> None:
    cell = notebook.run(f"!tao {TRAIN.format('short', 'shell-line')} --in-process", timeout=60)
    assert cell.status == "ok", cell.told
    assert "Execution status: PASS" in cell.stdout
