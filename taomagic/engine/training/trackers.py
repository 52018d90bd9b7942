"""Experiment trackers: Weights & Biases and ClearML, where ``visualizer`` in the spec asks for them.

Neither package is needed, or imported, otherwise. What can be known to be wrong before the first step (a package
that is missing, a service without an account) is an error; what goes wrong with a service later, or with the way
to it, is one warning, and the training goes on without that tracker.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from taomagic.errors import EnvironmentProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import ClearMLSettings, WandBSettings

__all__ = ["TrackerSettings", "Trackers"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: How long to wait for a service at the beginning and at the end of a training, in seconds.
_TO_OPEN: Final = 30.0
_TO_CLOSE: Final = 120.0

_WANDB_BLOCK: Final = "training_config.visualizer.wandb_config"
_CLEARML_BLOCK: Final = "training_config.visualizer.clearml_config"


class TrackerSettings(Protocol):
    """Where a ``visualizer`` reports to."""

    @property
    def wandb(self) -> WandBSettings | None:
        """``wandb_config``, where enabled."""
        ...

    @property
    def clearml(self) -> ClearMLSettings | None:
        """``clearml_config``."""
        ...


class _Tracker(Protocol):
    """One service."""

    service: str

    def step(self, global_step: int, loss: float, lr: float) -> None: ...

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class Trackers:
    """What the spec reports to; without trackers every method does nothing.

    Parameters
    ----------
    trackers
        The open ones.
    """

    def __init__(self, trackers: Sequence[_Tracker] = ()) -> None:
        self._trackers = list(trackers)

    @classmethod
    def open(
        cls,
        visualizer: TrackerSettings | None,
        results_dir: Path,
        run_name: str,
        config_text: str,
        classes: Sequence[str],
        *,
        paths: PathMap | None = None,
        required: bool = True,
    ) -> Trackers:
        """Begin a run with every tracker that the spec enables.

        Parameters
        ----------
        visualizer
            The spec's block, ``None`` if it has none.
        results_dir
            On this machine; Weights & Biases keeps its files there unless ``wandb_dir`` names a place.
        run_name
            The run's name where the spec has none, such as ``ssd_resnet18``.
        config_text
            The experiment, to be kept with the run. Secrets must have been taken out, as
            :func:`taomagic.spec.ssd.read_experiment` does.
        classes
            Names of the classes, kept with the run.
        paths
            Container paths to host paths, for ``wandb_dir``.
        required
            Whether a service that can't be used, because a package or an account is missing, is an error; else a
            warning says so.

        Returns
        -------
        Trackers
            To be closed at the end.

        Raises
        ------
        EnvironmentProblem
            If a package is missing or can't be imported, or a service knows no account here, and they are required.
        """
        if visualizer is None:
            return cls()
        # Both packages are looked at before either service hears of a run.
        wandb, clearml = visualizer.wandb, visualizer.clearml
        wandb_package, clearml_package = _packages(visualizer, required=required)
        trackers: list[_Tracker] = []
        try:
            if wandb is not None and wandb_package is not None:
                directory = Path(wandb.wandb_dir) if wandb.wandb_dir is not None else results_dir
                if wandb.wandb_dir is not None and paths is not None:
                    directory = paths.to_host(wandb.wandb_dir)
                config = {"spec": config_text, "classes": list(classes)}
                trackers += _opened(
                    "Weights & Biases",
                    lambda: _WandB(wandb_package, wandb, directory, run_name, config),
                    required=required,
                )
            if clearml is not None and clearml_package is not None:
                trackers += _opened(
                    "ClearML",
                    lambda: _ClearML(clearml_package, clearml, run_name, config_text, classes),
                    required=required,
                )
        except EnvironmentProblem:
            cls(trackers).close(failed=True)
            raise
        return cls(trackers)

    def __bool__(self) -> bool:
        """Whether anything is reported."""
        return bool(self._trackers)

    def step(self, global_step: int, loss: float, lr: float) -> None:
        """Report a training step; ``global_step`` counts from the first epoch's first step."""
        for tracker in tuple(self._trackers):
            self._guarded(tracker, lambda one: one.step(global_step, loss, lr))

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Report the metrics of an epoch: those named ``AP_…``, ``mAP`` and ``validation_loss``."""
        shown = {
            name: value
            for name, value in metrics.items()
            if name.startswith("AP_") or name in {"mAP", "validation_loss"}
        }
        for tracker in tuple(self._trackers) if shown else ():
            self._guarded(tracker, lambda one: one.epoch(epoch, shown))

    def close(self, *, failed: bool = False) -> None:
        """End the runs, after what was reported has been sent; ``failed`` marks them so where a service can."""
        for tracker in tuple(self._trackers):
            self._guarded(tracker, lambda one: one.close(failed=failed))
        self._trackers.clear()

    def _guarded(self, tracker: _Tracker, report: Callable[[_Tracker], None]) -> None:
        try:
            report(tracker)
        except (
            Exception
        ) as error:  # a service's library may raise anything, and none of it is worth a training
            self._trackers.remove(tracker)
            logger.warning(
                "%s stopped working (%s); the training goes on without it.",
                tracker.service,
                _one_line(error),
            )


def _opened(service: str, build: Callable[[], _Tracker], *, required: bool) -> list[_Tracker]:
    """Return the tracker, or nothing and a warning where the service can't be reached."""
    try:
        return [build()]
    except Exception as error:
        if required and isinstance(error, EnvironmentProblem):
            raise
        logger.warning("%s can't be used (%s); training without it.", service, _one_line(error))
        return []


def _packages(visualizer: TrackerSettings, *, required: bool = True) -> tuple[Any, Any]:
    """Return the packages of Weights & Biases and ClearML, ``None`` for a service that the spec doesn't report to.

    Raises
    ------
    EnvironmentProblem
        One is missing or can't be imported. Unless ``required``, that is a warning, and ``None``.
    """

    def found(name: str, service: str, block: str) -> Any:
        try:
            return _package(name, service, block)
        except EnvironmentProblem as problem:
            if required:
                raise
            logger.warning("%s: %s; training without it.", problem.where, problem.message)
            return None

    return (
        found("wandb", "Weights & Biases", _WANDB_BLOCK) if visualizer.wandb is not None else None,
        found("clearml", "ClearML", _CLEARML_BLOCK) if visualizer.clearml is not None else None,
    )


def _package(name: str, service: str, block: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == name
        what = "is not installed" if absent else f"can't be imported ({_one_line(error)})"
        raise EnvironmentProblem(
            f"the spec reports to {service}, but the package {name} {what}",
            where=block,
            hint=f"Install it where the engine runs: pip install {'' if absent else '--upgrade '}{name}. "
            f"Or remove {block.rpartition('.')[2]} from the spec.",
        ) from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what a call returns, or raise TimeoutError: the services' libraries try again for minutes, or for ever.

    The call goes on in a thread that doesn't keep the process alive.
    """
    outcome: list[tuple[bool, Any]] = []

    def work() -> None:
        try:
            outcome.append((True, call()))
        except BaseException as error:  # handed over to the caller's thread
            outcome.append((False, error))

    thread = threading.Thread(target=work, name="tracker", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    succeeded, value = outcome[0]
    if not succeeded:
        raise value
    result: T = value
    return result


class _WandB:
    """A run of Weights & Biases."""

    service = "Weights & Biases"

    def __init__(
        self,
        wandb: Any,
        settings: WandBSettings,
        directory: Path,
        run_name: str,
        config: Mapping[str, object],
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        wanted = {
            "api_key": settings.key.reveal() if settings.key is not None else None,
            # Standard output is the engine's protocol; nothing may be put between or read along.
            "console": "off",
            "silent": True,
            # The command line, which this would send, may hold the key of the models.
            "x_disable_meta": True,
            "disable_git": True,
            "disable_code": True,
            "init_timeout": _TO_OPEN,
            "finish_timeout": _TO_CLOSE,
        }
        known = wandb.Settings()
        options = {
            name: value for name, value in wanted.items() if value is not None and hasattr(known, name)
        }
        try:
            if settings.mode != "offline" and settings.key is None:
                self._look_for_account(wandb)
            self._run = wandb.init(
                project=settings.project,
                entity=settings.entity,
                name=settings.name or run_name,
                tags=list(settings.tags) or None,
                notes=settings.notes,
                dir=str(directory),
                mode=settings.mode,
                # A bool is what the spec has and what this package is giving up.
                reinit="finish_previous" if settings.reinit else None,
                config=dict(config),
                settings=wandb.Settings(**options),
            )
        except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
            raise EnvironmentProblem(
                f"Weights & Biases refuses the run: {_one_line(error)}",
                where=_WANDB_BLOCK,
                hint="Run `wandb login`, or set WANDB_API_KEY, where the engine runs; mode: OFFLINE needs no account.",
            ) from None
        self._run.define_metric("epoch")
        for name in ("AP_*", "mAP", "validation_loss"):
            self._run.define_metric(name, step_metric="epoch")
        place = f"kept in {directory / 'wandb'}" if settings.mode == "offline" else self._run.url
        logger.info("Weights & Biases: run %s, %s", self._run.name, place or f"kept in {directory / 'wandb'}")

    @staticmethod
    def _look_for_account(wandb: Any) -> None:
        # Otherwise init asks at the terminal, where there is one: nobody may be looking at a training's terminal.
        if "prompt" in inspect.signature(wandb.login).parameters:
            wandb.login(prompt=False, verify=False)

    def step(self, global_step: int, loss: float, lr: float) -> None:
        self._run.log({"loss": loss, "lr": lr}, step=global_step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        # Without a step this joins the last one; the charts' axis is the epoch, as defined above.
        self._run.log({"epoch": epoch, **metrics})

    def close(self, *, failed: bool) -> None:
        _within(_TO_CLOSE + 5, lambda: self._run.finish(exit_code=1 if failed else 0))


class _ClearML:
    """A task of ClearML."""

    service = "ClearML"

    def __init__(
        self, clearml: Any, settings: ClearMLSettings, run_name: str, config_text: str, classes: Sequence[str]
    ) -> None:
        def begin() -> Any:
            return clearml.Task.init(
                project_name=settings.project,
                task_name=settings.task or run_name,
                tags=list(settings.tags) or None,
                reuse_last_task_id=settings.reuse_last_task_id,
                continue_last_task=settings.continue_last_task,
                deferred_init=settings.deferred_init,
                # The command line may hold the key of the models; the rest would report everything twice.
                auto_connect_arg_parser=False,
                auto_connect_frameworks=False,
                auto_connect_streams=False,
            )

        try:
            self._task = _within(_TO_OPEN, begin)
        except ValueError as error:  # ClearML's MissingConfigError among them
            raise EnvironmentProblem(
                f"ClearML can't begin a task: {_one_line(error)}",
                where=_CLEARML_BLOCK,
                hint="Run `clearml-init` where the engine runs, or set CLEARML_OFFLINE_MODE=1 to keep the task here.",
            ) from None
        self._task.set_configuration_object("spec", config_text=config_text)
        self._task.set_configuration_object("classes", config_text="\n".join(classes))
        self._logger = self._task.get_logger()
        logger.info("ClearML: task %s", settings.task or run_name)

    def step(self, global_step: int, loss: float, lr: float) -> None:
        self._report("loss", "loss", loss, global_step)
        self._report("lr", "lr", lr, global_step)

    def epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._report("AP" if name.startswith("AP_") else name, name.removeprefix("AP_"), value, epoch)

    def _report(self, title: str, series: str, value: float, iteration: int) -> None:
        if math.isfinite(value):  # ClearML would make 0 of it
            self._logger.report_scalar(title, series, value=value, iteration=iteration)

    def close(self, *, failed: bool) -> None:
        def end() -> None:
            if failed:
                self._task.mark_failed(status_message="the training ended with an error")
            self._task.close()

        _within(_TO_CLOSE, end)
