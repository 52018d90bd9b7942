"""``ssd train``: from a spec and data to a checkpoint an epoch. What isn't SSD's own is in ``engine/training``."""

from __future__ import annotations

import argparse
import logging
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import nn

from taomagic.engine.console import say
from taomagic.engine.data.loading import TrainingData, ValidationData
from taomagic.engine.device import Device, choose_device, prefer
from taomagic.engine.evaluation.report import metrics_of, print_table
from taomagic.engine.quantization import describe_quantization
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.evaluation import validate
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.objective import Objective
from taomagic.engine.ssd.predictor import TorchPredictor
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import ModelFile
from taomagic.engine.training import members
from taomagic.engine.training.checkpoints import EpochCheckpoints
from taomagic.engine.training.distributed import join, leave, world
from taomagic.engine.training.keras_report import KerasReport
from taomagic.engine.training.network import Network
from taomagic.engine.training.plan import Command, Plan
from taomagic.engine.training.run import TrainingRun
from taomagic.engine.training.schedule import FixedLength, SoftStartAnnealing
from taomagic.engine.training.start import check_initial_epoch
from taomagic.engine.training.tensorboard import BoardSettings
from taomagic.engine.training.trackers import TrackerSettings
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import SSDExperiment, read_experiment

logger = logging.getLogger(__name__)

#: Architectures whose number of layers is part of TAO's file names.
_ARCHS_WITH_LAYERS = {"resnet", "darknet", "vgg"}


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd train``; the flags are those of :mod:`taomagic.spec.arguments`."""
    results_dir = paths.to_host(args.results_dir)
    # First, so that a failure has a folder to be recorded in.
    status = StatusLog(results_dir if members.rank() == 0 else None)
    experiment = read_experiment(paths.to_host(args.spec), purpose="train", shown_as=args.spec)
    assert experiment.training is not None
    if args.arch == "dssd":
        raise UsageProblem(
            "--arch dssd: the embedded engine has no DSSD", where="ssd train", hint="Drop --arch."
        )
    # Flags go before what the spec says.
    named = experiment.training.load_model
    model = args.model or (named.path if named is not None else "")
    command = Command(
        results_dir=results_dir,
        paths=paths,
        key=args.key,
        model=paths.to_host(model) if model else None,
        model_shown=model,
        initial_epoch=args.initial_epoch,
        resume=args.resume,
        continues=args.initial_epoch > 1 or (named is not None and named.kind == "resume" and not args.model),
    )
    check_initial_epoch(command, experiment.training.num_epochs)
    prefer()
    scaling = experiment.training.cost_scaling
    device = choose_device(args.gpu_index, amp=args.use_amp, cost_scaling=scaling)
    if scaling is not None and device.precision is None:
        logger.warning("cost_scaling has nothing to scale: it belongs to --use_amp on a GPU.")
    join(device.torch_device)
    images = TrainingData(
        experiment,
        paths,
        experiment.random_seed,
        use_multiprocessing=args.use_multiprocessing or experiment.training.use_multiprocessing,
        on_gpu=device.is_cuda,
    )
    # In a notebook's kernel, what failed stays in the traceback; its processes and decoded images must not.
    with closing(images):
        network = SSDNetwork(experiment, paths, args.key, on_gpu=device.is_cuda)
        logger.info("Number of images in the training dataset:\t%6d", len(images))
        logger.info("Number of images in the validation dataset:\t%6d", network.validation_images)
        TrainingRun(network, images, command, device, status).run()
    leave()


class SSDNetwork(Network):
    """SSD as a training sees it: see :class:`taomagic.engine.training.network.Network`.

    Parameters
    ----------
    experiment
        The spec, read for ``train``.
    paths
        Container paths to host paths.
    key
        Of the checkpoints.
    on_gpu
        Whether it is trained on a GPU.
    """

    _experiment: SSDExperiment
    _validation: ValidationData | None

    def __init__(self, experiment: SSDExperiment, paths: PathMap, key: str, *, on_gpu: bool = False) -> None:
        assert experiment.training is not None
        assert experiment.evaluation is not None
        assert experiment.nms is not None
        assert experiment.dataset is not None
        has_validation = bool(experiment.dataset.validation_data_sources)
        super().__init__(
            experiment, ValidationData(experiment, paths, on_gpu=on_gpu) if has_validation else None
        )
        self._evaluation = experiment.evaluation
        self._nms = experiment.nms
        self._key = key
        layers = str(experiment.model.nlayers) if experiment.model.arch in _ARCHS_WITH_LAYERS else ""
        self.name = f"ssd_{experiment.model.arch}{layers}"
        self._log_name = f"ssd_training_log_{experiment.model.arch}{layers}.csv"
        self.classes = experiment.dataset.classes
        self.settings = self._training = experiment.training
        self.seed = experiment.random_seed
        self.validation_period = self.first_validation_epoch = experiment.evaluation.validation_period
        self.averages_weights = experiment.training.model_ema

    def describe(self, model: nn.Module) -> str:
        """Return the network in a line, for the log."""
        ssd = _ssd(model)
        shapes = " ".join(f"{h}×{w}" for h, w in ssd.feature_sizes)
        line = f"SSD with {parameter_count(ssd):,} parameters, {len(ssd.anchors)} anchors on maps {shapes}"
        return f"{line}; {describe_quantization(ssd)}" if ssd.architecture.quantized else line

    def checkpoints(self, command: Command, steps: int) -> EpochCheckpoints:  # noqa: ARG002 - epochs name them
        """Return the names of the checkpoints."""
        return EpochCheckpoints(command.results_dir, ".tlt" if command.key else ".hdf5", self.name)

    def report(self, command: Command, status: StatusLog, plan: Plan) -> KerasReport:
        """Return Keras' lines, with a CSV log."""
        metrics = [*(f"AP_{name}" for name in self.classes), "mAP", "validation_loss"]
        log = command.results_dir / self._log_name
        return KerasReport(status, plan, log, metrics if self.has_validation else [])

    def schedule(self, steps: int, processes: int) -> FixedLength:
        """Return the learning rates."""
        settings = self._training
        # A batch of N processes holds N times the images: TAO makes both ends of the schedule N times as high.
        curve = SoftStartAnnealing(
            settings.min_learning_rate * processes,
            settings.max_learning_rate * processes,
            settings.soft_start,
            settings.annealing,
        )
        return FixedLength(curve, settings.num_epochs, steps, settings.early_stopping)

    def board(self, plan: Plan) -> BoardSettings | None:  # noqa: ARG002 - every step is shown
        """Return what TensorBoard is to show."""
        visualizer = self._training.visualizer
        if visualizer is None or not visualizer.enabled:
            return None
        return BoardSettings(visualizer.num_images, visualizer.weight_histograms)

    @property
    def trackers(self) -> TrackerSettings | None:
        """Which services hear of the training."""
        return self._training.visualizer

    def start(self, path: Path | None, shown_as: str) -> SSD:
        """Return a network with random weights, or with what fits of a file."""
        return weights.starting_model(self._experiment, self.classes, path, self._key, shown_as)

    def load(self, path: Path, shown_as: str) -> tuple[SSD, ModelFile]:
        """Return the network of a checkpoint, and what else is in the file."""
        model, file = weights.model_from_file(path, self._key, shown_as=shown_as)
        wanted, stored = Architecture.from_experiment(self._experiment, self.classes), model.architecture
        weights.require_same_quantization(wanted, stored.quantized, bool(stored.channels), shown_as)
        return model, file

    def save(self, path: Path, model: nn.Module, *, epoch: int, state: dict[str, Any] | None) -> None:
        """Write a checkpoint."""
        weights.save(path, _ssd(model), self._key, epoch=epoch, optimizer=state)

    def freeze(self, model: nn.Module) -> None:
        """Stop the gradients of what ``freeze_blocks`` names."""
        weights.freeze(_ssd(model), self._experiment.model.freeze_blocks, batch_norm=False)

    def to_training_mode(self, model: nn.Module) -> None:
        """Put a network into training mode, except for batch normalisation that ``freeze_bn`` stops."""
        model.train()
        if self._experiment.model.freeze_bn:
            weights.freeze(_ssd(model), (), batch_norm=True)

    def objective(self, model: nn.Module, *, alone: bool = False) -> Objective:
        """Return matching and loss; hard negatives are mined on all processes together, unless ``alone``."""
        return Objective(_ssd(model), self._experiment.model, shared=not (alone or world().is_alone))

    def needs_twins(self, model: nn.Module) -> bool:
        """Whether the last map has a single cell, as with images of 300×300."""
        return (1, 1) in _ssd(model).feature_sizes

    def validate(self, model: nn.Module, device: Device) -> dict[str, float]:
        """Judge the network on the validation data and print the table."""
        assert self._validation is not None
        ssd = _ssd(model)
        ssd.eval()
        predictor = TorchPredictor(ssd, device, self._nms)
        objective = self.objective(ssd, alone=True)
        evaluation, loss = validate(predictor, self._validation, self._evaluation, objective)
        print_table(evaluation, digits=5)
        say(f"Validation loss: {loss}")
        return {**metrics_of(evaluation), "validation_loss": loss}


def _ssd(model: nn.Module) -> SSD:
    assert isinstance(model, SSD)
    return model
