"""Experiment trackers, against doubles with the signatures of wandb 0.31 and clearml 2.1.

Both packages themselves have been tried by hand, offline and against a port where nobody answers.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from taomagic.engine.training import trackers
from taomagic.engine.training.trackers import Trackers
from taomagic.errors import EnvironmentProblem
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import ClearMLSettings, Secret, VisualizerSettings, WandBSettings

KEY = "0123456789abcdef0123456789abcdef01234567"
CLASSES = ("car", "person")

Calls = list[tuple[str, dict[str, Any]]]


def wandb_settings(**changes: Any) -> WandBSettings:
    values: dict[str, Any] = {
        "key": None, "project": "P", "entity": None, "reinit": False, "name": None, "tags": (), "wandb_dir": None,
        "notes": None, "mode": "offline",
    }  # fmt: skip
    return WandBSettings(**(values | changes))


def clearml_settings(**changes: Any) -> ClearMLSettings:
    values: dict[str, Any] = {
        "project": "P", "task": None, "tags": (), "reuse_last_task_id": False, "continue_last_task": False,
        "deferred_init": False,
    }  # fmt: skip
    return ClearMLSettings(**(values | changes))


def visualizer(
    wandb: WandBSettings | None = None, clearml: ClearMLSettings | None = None
) -> VisualizerSettings:
    return VisualizerSettings(
        enabled=False, num_images=3, weight_histograms=False, wandb=wandb, clearml=clearml
    )


class WandBDouble(ModuleType):
    """The part of wandb that is used; every call is recorded, an argument that wandb doesn't know is an error."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.calls: Calls = []
        self.failing: dict[str, Exception] = {}

        class Error(Exception):
            pass

        class CommError(Error):
            pass

        class UsageError(Error):
            pass

        class AuthenticationError(CommError):
            pass

        self.errors = SimpleNamespace(
            Error=Error, CommError=CommError, UsageError=UsageError, AuthenticationError=AuthenticationError
        )

    class Settings:
        def __init__(
            self,
            api_key: str | None = None,
            console: str = "auto",
            silent: bool = False,
            x_disable_meta: bool = False,
            disable_git: bool = False,
            disable_code: bool = False,
            init_timeout: float = 90.0,
            finish_timeout: float = 0.0,
        ) -> None:
            self.__dict__ |= {name: value for name, value in locals().items() if name != "self"}

    def record(self, name: str, /, **arguments: Any) -> None:
        self.calls.append((name, arguments))
        if name in self.failing:
            raise self.failing[name]

    def login(
        self, key: str | None = None, relogin: bool | None = None, host: str | None = None,
        force: bool | None = None, timeout: int | None = None, verify: bool = True, referrer: str | None = None,
        prompt: bool = True,
    ) -> bool:  # fmt: skip
        self.record("login", prompt=prompt, verify=verify)
        return False

    def init(
        self, entity: str | None = None, project: str | None = None, dir: str | None = None,  # noqa: A002
        id: str | None = None, name: str | None = None, notes: str | None = None,  # noqa: A002
        tags: Sequence[str] | None = None, config: dict[str, Any] | None = None,
        mode: str | None = None, reinit: bool | str | None = None, settings: Settings | None = None,
    ) -> WandBRun:  # fmt: skip
        arguments = {key: value for key, value in locals().items() if key != "self"}
        self.record("init", **arguments)
        return WandBRun(self, name)


class WandBRun:
    def __init__(self, package: WandBDouble, name: str | None) -> None:
        self._package, self.name, self.url = package, name, "https://wandb.ai/me/P/runs/1"

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self._package.record("define_metric", name=name, step_metric=step_metric)

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        self._package.record("log", data=data, step=step)

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        self._package.record("finish", exit_code=exit_code)


class ClearMLDouble(ModuleType):
    """The part of clearml that is used."""

    def __init__(self) -> None:
        super().__init__("clearml")
        self.calls: Calls = []
        self.failing: dict[str, Exception] = {}
        self.init_seconds = 0.0
        self.Task = SimpleNamespace(init=self._init)

    def record(self, name: str, /, **arguments: Any) -> None:
        self.calls.append((name, arguments))
        if name in self.failing:
            raise self.failing[name]

    def _init(
        self, project_name: str | None = None, task_name: str | None = None, task_type: Any = "training",
        tags: Sequence[str] | None = None, reuse_last_task_id: bool | str = True,
        continue_last_task: bool | str | int = False, output_uri: str | bool | None = None,
        auto_connect_arg_parser: bool = True, auto_connect_frameworks: bool = True,
        auto_resource_monitoring: bool = True, auto_connect_streams: bool = True, deferred_init: bool = False,
    ) -> ClearMLTask:  # fmt: skip
        arguments = {key: value for key, value in locals().items() if key != "self"}
        self.record("init", **arguments)
        time.sleep(self.init_seconds)
        return ClearMLTask(self)


class ClearMLTask:
    def __init__(self, package: ClearMLDouble) -> None:
        self._package = package

    def set_configuration_object(self, name: str, config_text: str | None = None) -> None:
        self._package.record("configuration", name=name, text=config_text)

    def get_logger(self) -> ClearMLTask:
        return self

    def report_scalar(self, title: str, series: str, value: float, iteration: int) -> None:
        self._package.record("scalar", title=title, series=series, value=value, iteration=iteration)

    def mark_failed(self, ignore_errors: bool = True, status_message: str | None = None) -> None:
        self._package.record("mark_failed", message=status_message)

    def close(self) -> None:
        self._package.record("close")


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> WandBDouble:
    package = WandBDouble()
    monkeypatch.setitem(sys.modules, "wandb", package)
    return package


@pytest.fixture
def clearml(monkeypatch: pytest.MonkeyPatch) -> ClearMLDouble:
    package = ClearMLDouble()
    monkeypatch.setitem(sys.modules, "clearml", package)
    return package


@pytest.fixture
def begin(tmp_path: Path) -> Callable[..., Trackers]:
    def open_trackers(settings: VisualizerSettings | None, paths: PathMap | None = None) -> Trackers:
        return Trackers.open(
            settings, tmp_path, "ssd_resnet18", "nms_config { top_k: 5 }", CLASSES, paths=paths
        )

    return open_trackers


def named(calls: Calls, name: str) -> list[dict[str, Any]]:
    return [arguments for called, arguments in calls if called == name]


def test_nothing_is_imported_or_done_where_nothing_is_asked_for(
    begin: Callable[..., Trackers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trackers.importlib, "import_module", lambda name: pytest.fail(f"imports {name}"))
    for settings in (None, visualizer()):
        opened = begin(settings)
        assert not opened
        opened.step(0, 1.0, 0.1)
        opened.epoch(1, {"mAP": 0.5})
        opened.close()


@pytest.mark.parametrize(
    ("settings", "package", "block"),
    [
        (visualizer(wandb=wandb_settings()), "wandb", "wandb_config"),
        (visualizer(clearml=clearml_settings()), "clearml", "clearml_config"),
    ],
)
def test_a_package_that_is_missing_is_an_error_with_the_command_to_install_it(
    begin: Callable[..., Trackers],
    monkeypatch: pytest.MonkeyPatch,
    settings: VisualizerSettings,
    package: str,
    block: str,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EnvironmentProblem) as caught:
        begin(settings)
    assert f"the package {package} " in caught.value.message
    assert caught.value.where == f"training_config.visualizer.{block}"
    assert (
        f"pip install {'--upgrade ' if 'imported' in caught.value.message else ''}{package}."
        in caught.value.hint
    )


def test_a_missing_package_is_told_from_one_that_is_broken(
    begin: Callable[..., Trackers], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(EnvironmentProblem, match="is not installed"):
        begin(visualizer(wandb=wandb_settings()))
    (tmp_path / "wandb.py").write_text("import protobuf_of_another_age\n")
    with pytest.raises(
        EnvironmentProblem, match=r"can't be imported \(No module named 'protobuf_of_another_age'"
    ):
        begin(visualizer(wandb=wandb_settings()))


def test_no_run_begins_where_the_package_of_the_other_tracker_is_missing(
    begin: Callable[..., Trackers], wandb: WandBDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "clearml", None)
    with pytest.raises(EnvironmentProblem, match="ClearML"):
        begin(visualizer(wandb_settings(), clearml_settings()))
    assert wandb.calls == []


def test_weights_and_biases_gets_every_field_of_the_spec(
    begin: Callable[..., Trackers], wandb: WandBDouble, tmp_path: Path
) -> None:
    settings = wandb_settings(
        key=Secret(KEY), project="birds", entity="team", reinit=True, name="mine", tags=("a", "b"),
        wandb_dir="/workspace/wb", notes="first try", mode="online",
    )  # fmt: skip
    begin(visualizer(wandb=settings), PathMap([(str(tmp_path), "/workspace")]))
    (call,) = named(wandb.calls, "init")
    options = call.pop("settings")
    assert call == {
        "project": "birds", "entity": "team", "name": "mine", "tags": ["a", "b"], "notes": "first try",
        "dir": str(tmp_path / "wb"), "mode": "online", "reinit": "finish_previous", "id": None,
        "config": {"spec": "nms_config { top_k: 5 }", "classes": ["car", "person"]},
    }  # fmt: skip
    assert options.api_key == KEY
    assert (tmp_path / "wb").is_dir()
    assert named(wandb.calls, "login") == []


def test_weights_and_biases_neither_reads_the_output_nor_sends_the_command_line(
    begin: Callable[..., Trackers], wandb: WandBDouble
) -> None:
    begin(visualizer(wandb=wandb_settings()))
    options = named(wandb.calls, "init")[0]["settings"]
    assert (options.console, options.silent) == ("off", True)
    assert options.x_disable_meta
    assert options.disable_git
    assert options.disable_code


def test_settings_that_another_version_of_wandb_does_not_know_are_left_out(
    begin: Callable[..., Trackers], wandb: WandBDouble
) -> None:
    class Older:
        def __init__(self, console: str = "auto", silent: bool = False) -> None:
            self.console, self.silent = console, silent

    wandb.Settings = Older  # type: ignore[assignment,misc]
    assert begin(visualizer(wandb=wandb_settings()))
    assert named(wandb.calls, "init")[0]["settings"].console == "off"


def test_names_and_places_have_defaults(
    begin: Callable[..., Trackers], wandb: WandBDouble, clearml: ClearMLDouble, tmp_path: Path
) -> None:
    begin(visualizer(wandb_settings(), clearml_settings()))
    call = named(wandb.calls, "init")[0]
    assert (call["name"], call["dir"], call["tags"], call["reinit"]) == (
        "ssd_resnet18",
        str(tmp_path),
        None,
        None,
    )
    task = named(clearml.calls, "init")[0]
    assert (task["task_name"], task["tags"]) == ("ssd_resnet18", None)


def test_nobody_is_asked_for_a_key_at_the_terminal(
    begin: Callable[..., Trackers], wandb: WandBDouble
) -> None:
    wandb.failing["init"] = wandb.errors.UsageError("No API key configured.")
    with pytest.raises(EnvironmentProblem, match="No API key configured") as caught:
        begin(visualizer(wandb=wandb_settings(mode="online")))
    assert named(wandb.calls, "login") == [{"prompt": False, "verify": False}]
    assert "WANDB_API_KEY" in caught.value.hint


def test_a_key_that_is_refused_is_an_error_that_does_not_show_it(
    begin: Callable[..., Trackers], wandb: WandBDouble
) -> None:
    wandb.failing["init"] = wandb.errors.AuthenticationError("API key must have 40+ characters, has 5.")
    with pytest.raises(EnvironmentProblem, match=r"40\+ characters") as caught:
        begin(visualizer(wandb=wandb_settings(key=Secret("s3cr3"), mode="online")))
    assert "s3cr3" not in f"{caught.value}{caught.value.__dict__}"


def test_clearml_gets_every_field_of_the_spec(begin: Callable[..., Trackers], clearml: ClearMLDouble) -> None:
    settings = clearml_settings(
        project="birds", task="first", tags=("a",), reuse_last_task_id=True, continue_last_task=True,
        deferred_init=True,
    )  # fmt: skip
    begin(visualizer(clearml=settings))
    (call,) = named(clearml.calls, "init")
    assert call == {
        "project_name": "birds", "task_name": "first", "task_type": "training", "tags": ["a"],
        "reuse_last_task_id": True, "continue_last_task": True, "deferred_init": True, "output_uri": None,
        "auto_connect_arg_parser": False, "auto_connect_frameworks": False, "auto_connect_streams": False,
        "auto_resource_monitoring": True,
    }  # fmt: skip
    assert named(clearml.calls, "configuration") == [
        {"name": "spec", "text": "nms_config { top_k: 5 }"},
        {"name": "classes", "text": "car\nperson"},
    ]


def test_clearml_without_a_configuration_is_an_error(
    begin: Callable[..., Trackers], clearml: ClearMLDouble
) -> None:
    clearml.failing["init"] = ValueError("It seems ClearML is not\nconfigured on this machine!")
    with pytest.raises(EnvironmentProblem, match="is not configured on this machine") as caught:
        begin(visualizer(clearml=clearml_settings()))
    assert "clearml-init" in caught.value.hint


def test_a_run_that_began_is_ended_where_the_other_tracker_is_refused(
    begin: Callable[..., Trackers], wandb: WandBDouble, clearml: ClearMLDouble
) -> None:
    clearml.failing["init"] = ValueError("not configured")
    with pytest.raises(EnvironmentProblem):
        begin(visualizer(wandb_settings(), clearml_settings()))
    assert named(wandb.calls, "finish") == [{"exit_code": 1}]


def test_steps_and_epochs_are_reported(
    begin: Callable[..., Trackers], wandb: WandBDouble, clearml: ClearMLDouble
) -> None:
    opened = begin(visualizer(wandb_settings(), clearml_settings()))
    assert opened
    opened.step(7, 2.5, 0.01)
    opened.epoch(
        2, {"epoch": 2.0, "loss": 2.5, "lr": 0.01, "AP_car": 0.25, "mAP": 0.5, "validation_loss": 3.0}
    )
    opened.epoch(3, {"epoch": 3.0, "loss": 2.0, "lr": 0.01})  # without validation: there is nothing to add
    opened.close()
    assert named(wandb.calls, "log") == [
        {"data": {"loss": 2.5, "lr": 0.01}, "step": 7},
        {"data": {"epoch": 2, "AP_car": 0.25, "mAP": 0.5, "validation_loss": 3.0}, "step": None},
    ]
    assert {"name": "AP_*", "step_metric": "epoch"} in named(wandb.calls, "define_metric")
    scalars = [tuple(call.values()) for call in named(clearml.calls, "scalar")]
    assert scalars == [
        ("loss", "loss", 2.5, 7),
        ("lr", "lr", 0.01, 7),
        ("AP", "car", 0.25, 2),
        ("mAP", "mAP", 0.5, 2),
        ("validation_loss", "validation_loss", 3.0, 2),
    ]
    assert named(wandb.calls, "finish") == [{"exit_code": 0}]
    assert [name for name, _ in clearml.calls][-1] == "close"


def test_clearml_gets_no_value_that_is_none(begin: Callable[..., Trackers], clearml: ClearMLDouble) -> None:
    opened = begin(visualizer(clearml=clearml_settings()))
    opened.epoch(1, {"AP_car": math.nan, "mAP": 0.5})
    assert [call["series"] for call in named(clearml.calls, "scalar")] == ["mAP"]


def test_a_failed_training_is_marked_so(
    begin: Callable[..., Trackers], wandb: WandBDouble, clearml: ClearMLDouble
) -> None:
    begin(visualizer(wandb_settings(), clearml_settings())).close(failed=True)
    assert named(wandb.calls, "finish") == [{"exit_code": 1}]
    assert [name for name, _ in clearml.calls][-2:] == ["mark_failed", "close"]


@pytest.mark.parametrize("call", ["log", "finish"])
def test_a_service_that_stops_working_costs_one_warning_and_not_the_training(
    begin: Callable[..., Trackers],
    wandb: WandBDouble,
    clearml: ClearMLDouble,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    opened = begin(visualizer(wandb_settings(), clearml_settings()))
    wandb.failing[call] = ConnectionError("the network\nis unreachable")
    for step in range(3):
        opened.step(step, 1.0, 0.1)
    opened.close()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "Weights & Biases stopped working (the network is unreachable); the training goes on without it."
    ]
    assert len(named(clearml.calls, "scalar")) == 6  # the other one goes on
    assert len(named(wandb.calls, "log")) == (1 if call == "log" else 3)


@pytest.mark.parametrize("service", ["wandb", "clearml"])
def test_a_service_that_cannot_be_reached_costs_one_warning(
    begin: Callable[..., Trackers],
    wandb: WandBDouble,
    clearml: ClearMLDouble,
    caplog: pytest.LogCaptureFixture,
    service: str,
) -> None:
    package = wandb if service == "wandb" else clearml
    package.failing["init"] = wandb.errors.CommError("connection refused")
    opened = begin(
        visualizer(wandb_settings()) if service == "wandb" else visualizer(clearml=clearml_settings())
    )
    assert not opened
    assert [record.getMessage().partition(" can't be used")[0] for record in caplog.records] == [
        "Weights & Biases" if service == "wandb" else "ClearML"
    ]


def test_a_service_that_never_answers_is_left_alone(
    begin: Callable[..., Trackers],
    clearml: ClearMLDouble,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers, "_TO_OPEN", 0.05)
    clearml.init_seconds = 1.0
    assert not begin(visualizer(clearml=clearml_settings()))
    assert "no answer within 0.05 seconds" in caplog.text


def test_an_interrupt_goes_through(begin: Callable[..., Trackers], wandb: WandBDouble) -> None:
    opened = begin(visualizer(wandb_settings()))
    wandb.failing["log"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        opened.step(0, 1.0, 0.1)
