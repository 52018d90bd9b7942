"""``detectnet_v2 train``: from a spec and TFRecords to a model. What isn't its own is in ``engine/training``."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from taomagic.engine.console import timed
from taomagic.engine.detectnet_v2 import weights
from taomagic.engine.detectnet_v2.coverage_pictures import draw_coverage
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.evaluation import evaluate_model, for_evaluation
from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.loading import TrainingData, ValidationData
from taomagic.engine.detectnet_v2.loss import GridLoss
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.detectnet_v2.predictor import TorchPredictor
from taomagic.engine.detectnet_v2.report import EstimatorReport
from taomagic.engine.device import Device, choose_device, prefer
from taomagic.engine.quantization import describe_quantization
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import ModelFile
from taomagic.engine.training import members
from taomagic.engine.training.checkpoints import StepCheckpoints
from taomagic.engine.training.distributed import join, leave
from taomagic.engine.training.network import Network
from taomagic.engine.training.plan import Command, Plan
from taomagic.engine.training.run import TrainingRun
from taomagic.engine.training.schedule import AnnealingOnPlateau, FixedLength, Schedule, SoftStartAnnealing
from taomagic.engine.training.state_file import SUFFIX, read_state, write_state
from taomagic.engine.training.tensorboard import BoardSettings, Picture
from taomagic.engine.training.trackers import TrackerSettings
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import SpecProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.detectnet_v2_pb2 import Experiment
from taomagic.spec.parse import parse_spec
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment, SoftStartSettings

logger = logging.getLogger(__name__)

#: The file system allows names of 255 bytes; a file being written has a longer one for a while.
_LONGEST_NAME = 200
#: Points of a curve in an epoch, where the spec doesn't say how often to log.
_POINTS_PER_EPOCH = 10


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 train``; the flags are those of :mod:`taomagic.spec.arguments_detectnet_v2`."""
    with timed(__name__):
        _run(args, paths)


def _run(args: argparse.Namespace, paths: PathMap) -> None:
    results_dir = paths.to_host(args.results_dir)
    # First, so that a failure has a folder to be recorded in.
    status = StatusLog(results_dir if members.rank() == 0 else None)
    experiment = read_experiment(paths.to_host(args.spec), purpose="train", shown_as=args.spec)
    assert experiment.training is not None
    assert experiment.model is not None
    if not _is_file_name(args.model_name):
        raise UsageProblem(
            f"{args.model_name!r} is no name for a file",
            where="detectnet_v2 train -n",
            hint="Give a name without a folder, such as resnet18_detector; the model goes to weights/ below -r.",
        )
    pretrained = experiment.model.pretrained_model_file
    command = Command(
        results_dir=results_dir,
        paths=paths,
        key=args.key,
        model=paths.to_host(pretrained) if pretrained else None,
        model_shown=pretrained or "",
        initial_epoch=1,
        resume=args.resume,
    )
    prefer(deterministic=True if args.enable_determinism else None)
    scaling = experiment.training.cost_scaling
    device = choose_device(
        args.gpu_index,
        amp=args.use_amp or experiment.model.float16,
        asked_by="--use_amp" if args.use_amp else "training_precision: FLOAT16",
        cost_scaling=scaling,
    )
    if scaling is not None and device.precision is None:
        logger.warning("cost_scaling has nothing to scale: it belongs to --use_amp on a GPU.")
    join(device.torch_device)
    images = TrainingData(experiment, paths, on_gpu=device.is_cuda)
    # In a notebook's kernel, what failed stays in the traceback; its processes and decoded images must not.
    with closing(images):
        network = DetectNetNetwork(experiment, paths, args.key, args.model_name, on_gpu=device.is_cuda)
        logger.info("Found %d samples in training set", len(images))
        if network.has_validation:
            logger.info("Found %d samples in validation set", network.validation_images)
        training = TrainingRun(network, images, command, device, status)
        training.run()
    leave()


class DetectNetNetwork(Network):
    """DetectNet_v2 as a training sees it: see :class:`taomagic.engine.training.network.Network`.

    Parameters
    ----------
    experiment
        The spec, read for ``train``.
    paths
        Container paths to host paths.
    key
        Of the model files.
    model_name
        ``-n``.
    on_gpu
        Whether it is trained on a GPU.
    """

    regularizes_biases = True
    # NVIDIA's own specs name both services, and its containers train without them where nobody is logged in.
    requires_trackers = False

    _experiment: DetectNetExperiment
    _validation: ValidationData | None

    def __init__(
        self,
        experiment: DetectNetExperiment,
        paths: PathMap,
        key: str,
        model_name: str,
        *,
        on_gpu: bool = False,
    ) -> None:
        assert experiment.training is not None
        assert experiment.model is not None
        assert experiment.evaluation is not None
        assert experiment.dataset is not None
        dataset = experiment.dataset
        has_validation = dataset.validation_fold is not None or dataset.validation_source is not None
        super().__init__(
            experiment, ValidationData(experiment, paths, on_gpu=on_gpu) if has_validation else None
        )
        self._model = experiment.model
        self._evaluation = experiment.evaluation
        self._key = key
        self._model_name = model_name
        self.name = f"detectnet_v2_{experiment.model.arch}{experiment.model.num_layers or ''}"
        self.classes = experiment.classes
        self.settings = self._training = experiment.training
        self.seed = experiment.random_seed
        self.first_validation_epoch = experiment.evaluation.first_validation_epoch
        self.validation_period = experiment.evaluation.validation_period
        self._loss = GridLoss(experiment.cost)
        self._report: EstimatorReport | None = None
        self._steps = 0

    def describe(self, model: nn.Module) -> str:
        """Return the network in a line, for the log."""
        net = _detectnet(model)
        height, width = net.grid
        line = f"{net.architecture.name} with {parameter_count(net):,} parameters, {height}×{width} cells"
        return f"{line}; {describe_quantization(net)}" if net.architecture.quantized else line

    def checkpoints(self, command: Command, steps: int) -> StepCheckpoints:
        """Return the names of the files."""
        self._steps = steps
        suffix = ".tlt" if command.key else ".hdf5"
        return StepCheckpoints(command.results_dir, suffix, self._model_name, steps)

    def report(self, command: Command, status: StatusLog, plan: Plan) -> EstimatorReport:
        """Return the lines of TensorFlow's hooks."""
        logger.info("Checkpoint interval: %d", self._training.checkpoint_interval)
        board = self.board(plan)
        if board is not None:
            logger.info("Scalars logged at every %d steps", board.step_interval)
            logger.info("Images logged at every %d steps", board.image_interval * plan.steps)
        self._report = EstimatorReport(status, plan, command.results_dir, self.text, framed=not command.key)
        return self._report

    def schedule(self, steps: int, processes: int) -> Schedule:  # noqa: ARG002 - TAO scales SSD's rates by it, not these
        """Return the learning rates."""
        one, epochs = self._training.schedule, self._training.num_epochs
        low, high = one.min_learning_rate, one.max_learning_rate
        if isinstance(one, SoftStartSettings):
            return FixedLength(SoftStartAnnealing(low, high, one.soft_start, one.annealing), epochs, steps)
        return AnnealingOnPlateau(
            low,
            high,
            one.soft_start_epochs,
            one.annealing_epochs,
            patience=one.patience_steps,
            epochs=epochs,
            steps=steps,
        )

    def board(self, plan: Plan) -> BoardSettings | None:
        """Return what TensorBoard is to show.

        Raises
        ------
        SpecProblem
            Scalars shall be logged less often than once an epoch, as in TAO; in quick mode it is once an epoch then.
        """
        visualizer = self._training.visualizer
        if visualizer is None or not visualizer.enabled:
            return None
        interval = visualizer.scalar_logging_frequency or max(1, plan.steps // _POINTS_PER_EPOCH)
        if interval > plan.steps:
            if not plan.quick:
                spec = parse_spec(self.text, Experiment, name=self._experiment.path)
                raise SpecProblem(
                    f"scalar_logging_frequency is {interval}, and an epoch has {plan.steps} steps "
                    f"({plan.images} images in batches of {plan.batch_size})",
                    path=self._experiment.path,
                    line=spec.line_of("training_config.visualizer.scalar_logging_frequency"),
                    hint=f"Set it to at most {plan.steps}, or remove it: ten points an epoch are logged then.",
                )
            interval = plan.steps
        return BoardSettings(
            visualizer.num_images,
            weight_histograms=True,
            step_interval=interval,
            image_interval=visualizer.infrequent_logging_frequency,
            red_first=True,
        )

    def pictures(self, model: nn.Module, images: Tensor, device: Device) -> list[Picture]:
        """Return images with what the network says of the classes in ``visualizer.target_class_config``."""
        visualizer = self._training.visualizer
        thresholds = visualizer.coverage_thresholds if visualizer is not None else {}
        if not thresholds:
            return []
        return draw_coverage(TorchPredictor(_detectnet(model), device), images, thresholds)

    @property
    def trackers(self) -> TrackerSettings | None:
        """Which services hear of the training."""
        return self._training.visualizer

    def start(self, path: Path | None, shown_as: str) -> DetectNet:
        """Return a network with random weights, or with what fits of a file."""
        return weights.starting_model(self._experiment, path, self._key, shown_as)

    def load(self, path: Path, shown_as: str) -> tuple[DetectNet, ModelFile]:
        """Return the network of a checkpoint, and the state beside it."""
        model, file = weights.model_from_file(path, self._key, shown_as=shown_as)
        file.optimizer = read_state(path.with_suffix(SUFFIX))
        return model, file

    def save(self, path: Path, model: nn.Module, *, epoch: int, state: dict[str, Any] | None) -> None:
        """Write a model, and the state beside it."""
        if state is not None:
            write_state(path.with_suffix(SUFFIX), state, step=epoch * self._steps, epoch=epoch)
        weights.save(path, _detectnet(model), self._key, epoch=epoch)

    def freeze(self, model: nn.Module) -> None:
        """Stop the gradients of what ``freeze_blocks`` and ``freeze_pretrained_layers`` name."""
        weights.freeze(_detectnet(model), self._model)

    def to_training_mode(self, model: nn.Module) -> None:
        """Put a network into training mode, except for batch normalisation that is frozen."""
        weights.to_training_mode(_detectnet(model), self._model)

    def objective(self, model: nn.Module, *, alone: bool = False) -> GridObjective:
        """Return rasteriser and loss; its automatic weights look at the steps of the training, not at others."""
        layout = Layout.of(_detectnet(model).architecture)
        return GridObjective(layout, self._experiment, loss=self._loss, notes=not alone)

    def needs_twins(self, model: nn.Module) -> bool:
        """Whether the grid has a single cell."""
        return _detectnet(model).grid == (1, 1)

    def validate(self, model: nn.Module, device: Device) -> dict[str, float]:
        """Judge the network on the validation data and print the table."""
        assert self._validation is not None
        net = _detectnet(model)
        detector = Detector(TorchPredictor(net, device), for_evaluation(self._experiment.clustering))
        result = evaluate_model(
            detector,
            self._validation,
            self._evaluation,
            self.objective(net, alone=True),
            self._training.batch_size_per_gpu,
            in_training=True,
        )
        if self._report is not None:
            self._report.validated(result)
        average_precisions = {f"AP_{name}": value for name, value in result.average_precision.items()}
        return {**average_precisions, "mAP": result.mean, "validation_loss": result.cost}

    def end_epoch(self) -> None:
        """Let the objectives weigh what they cost."""
        self._loss.rebalance()
        for name, weight in self._loss.state().items():
            logger.info("Objective weight of %s: %.4f", name, weight)

    def state(self) -> dict[str, Any]:
        """Return the weights of the objectives."""
        changed = self._loss.state()
        return {"objective_weights": changed} if changed else {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on with the weights of the objectives."""
        self._loss.restore(state.get("objective_weights", {}))


def _is_file_name(name: str) -> bool:
    """Whether a model can be called so; to be known before the training, whose last file it is."""
    plain = name.isprintable() and "/" not in name and name not in {"", ".", ".."}
    return plain and len(name.encode()) <= _LONGEST_NAME


def _detectnet(model: nn.Module) -> DetectNet:
    assert isinstance(model, DetectNet)
    return model
