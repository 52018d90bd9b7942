"""DetectNet_v2's weights: files of networks, and what a training begins with."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet, left_in_float
from taomagic.engine.quantization import restart
from taomagic.engine.quantization.placement import SUFFIX
from taomagic.engine.storage.model_file import ModelFile
from taomagic.engine.weights import files
from taomagic.engine.weights.files import TorchvisionState, architecture_of, read_start
from taomagic.engine.weights.freezing import freeze_blocks, stop_batch_norm
from taomagic.engine.weights.kind import Kind
from taomagic.engine.weights.preprocessing import backbone_of, preprocessing_of
from taomagic.engine.weights.report import layers_of
from taomagic.engine.weights.state import BACKBONE, HEADS, portable_state, shortened
from taomagic.engine.weights.takeover import (
    adapt_first_convolution,
    backbone_misfits,
    by_module_names,
    pruned_like,
    refuse_other_architecture,
    require_fit,
    take_by_name,
)
from taomagic.engine.weights.torchvision import take_from_torchvision
from taomagic.errors import ModelFileProblem
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment, DetectNetModelSettings

logger = logging.getLogger(__name__)

KIND = Kind(
    task="detectnet_v2",
    title="DetectNet_v2",
    read=Architecture.from_json,
    build=DetectNet,
    block="model_config",
    layers_field="num_layers",
    other_file="name another pretrained_model_file",
    how_to_start="pretrained_model_file in the spec of detectnet_v2 train",
    head_settings="classes",
    red_first=True,
)
#: Under this name, the layers whose weights came from ``pretrained_model_file`` are noted in a checkpoint.
_PRETRAINED = "pretrained_layers"


def model_from_file(path: Path, key: str, *, shown_as: str = "") -> tuple[DetectNet, ModelFile]:
    """Rebuild the network of a ``.tlt`` or ``.hdf5`` file; see :mod:`taomagic.engine.weights.files`."""
    model, file = files.model_from_file(KIND, path, key, shown_as=shown_as)
    model.pretrained_layers = frozenset(file.extra.get(_PRETRAINED, ()))
    return model, file


def save(
    path: Path, model: DetectNet, key: str, *, epoch: int = 0, optimizer: Mapping[str, Any] | None = None
) -> None:
    """Write a network, and the optimiser's state where training may go on; see :mod:`taomagic.engine.weights.files`."""
    extra = {_PRETRAINED: sorted(model.pretrained_layers)} if model.pretrained_layers else {}
    files.save(path, model, key, epoch=epoch, optimizer=optimizer, extra=extra)


def starting_model(experiment: DetectNetExperiment, path: Path | None, key: str, shown_as: str) -> DetectNet:
    """Return the network that a training begins with.

    Without a file: random weights. Without ``load_graph``, the weights of the file's backbone are taken over by layer
    name, as far as shapes agree, and the heads are random. The file may be NVIDIA's or any other of Keras', of ours
    (DetectNet_v2 or SSD), or a state dict in torchvision's layout.

    With ``load_graph``, the file's whole network is used: backbone, channels (of a pruned one), input size and heads.
    Only what ``objective_set`` and ``enable_qat`` say still comes from the spec.

    Parameters
    ----------
    experiment
        The training spec.
    path
        ``pretrained_model_file`` on this machine, or ``None``.
    key
        For ``.tlt``.
    shown_as
        ``pretrained_model_file`` as the person wrote it.

    Raises
    ------
    ModelFileProblem
        The file can't be read, is of another network, nothing in it fits, or it lacks what ``load_graph`` needs.
    """
    assert experiment.model is not None
    wanted = Architecture.from_experiment(experiment)
    if left_in_float(experiment):
        logger.warning(
            "enable_qat has no effect on %s that is built from the spec, as in TAO. Train it without, then "
            "again with load_graph: true and enable_qat: true.",
            wanted.arch,
        )
    if path is None:
        return DetectNet(wanted)
    settings = experiment.model
    source = read_start(KIND, path, key, wanted, shown_as)
    if not settings.load_graph:
        return _with_backbone_of(source, wanted, shown_as)
    if _has_heads(source):
        assert isinstance(source, ModelFile)
        if source.architecture is None:
            return _whole_keras_model(source, wanted, settings, shown_as)
        return _whole_model(source, wanted, settings, shown_as)
    if not settings.allow_loaded_model_modification:
        raise ModelFileProblem(
            "load_graph: true takes the file's whole network, and this one has no output_cov and output_bbox",
            where=shown_as,
            hint="Remove load_graph to take its backbone alone, or set allow_loaded_model_modification: true, which "
            "adds the missing layers with random weights.",
        )
    logger.info("%s has no output_cov and output_bbox: they are added with random weights.", shown_as)
    if isinstance(source, ModelFile) and source.architecture is not None:
        wanted = _around_backbone_of(source.architecture, wanted, shown_as)
    return _with_backbone_of(source, wanted, shown_as)


def _has_heads(source: ModelFile | TorchvisionState) -> bool:
    if isinstance(source, TorchvisionState):
        return False
    if source.architecture is not None:
        return source.architecture.get("task") == KIND.task and any(
            n.startswith(HEADS) for n in source.weights
        )
    return {"output_cov.weight", "output_bbox.weight"} <= set(source.weights)


def _with_backbone_of(source: ModelFile | TorchvisionState, wanted: Architecture, shown_as: str) -> DetectNet:
    """Build a network whose backbone takes over what fits of a file's."""
    model = DetectNet(wanted)
    if isinstance(source, TorchvisionState):
        images = preprocessing_of(KIND.task, wanted.input_shape[0])
        taken = take_from_torchvision(KIND, model, source.network, source.state, images, shown_as)
    else:
        offered = _offered_backbone(source, model, shown_as)
        misfits = backbone_misfits(offered, model)
        taken = take_by_name(KIND, model, offered, shown_as)
        if misfits:
            logger.warning(
                "%d weights of %s have other shapes than the spec's network and are skipped. If the file is pruned, "
                "load_graph: true takes its network as it is.",
                len(misfits),
                shown_as,
            )
    model.pretrained_layers = frozenset(layers_of(name for name in taken if name.endswith(".weight")))
    _report_layers(model)
    return model


def _offered_backbone(file: ModelFile, model: DetectNet, shown_as: str) -> dict[str, Tensor]:
    """Return the weights of a file's backbone by our names."""
    wanted = model.architecture
    if file.architecture is None:
        refuse_other_architecture(KIND, file.weights, wanted, shown_as)
        offered = by_module_names(file.weights, model)
    else:
        offered = backbone_of(KIND, file, model, shown_as)
    backbone = {name: tensor for name, tensor in offered.items() if name.startswith(BACKBONE)}
    return adapt_first_convolution(KIND, backbone, model, shown_as)


def _report_layers(model: DetectNet) -> None:
    """Say of each layer with weights whether they came from the file, in NVIDIA's words."""
    for layer in layers_of(name for name in portable_state(model) if name.startswith(BACKBONE)):
        done = "set" if layer in model.pretrained_layers else "skipped"
        logger.info("Layer %s weights %s from pre-trained model.", layer, done)


def _whole_model(
    file: ModelFile, wanted: Architecture, settings: DetectNetModelSettings, shown_as: str
) -> DetectNet:
    """Build the network of a file of ours, with its weights."""
    assert file.architecture is not None
    stored = architecture_of(KIND, file.architecture, shown_as)
    _require_input(stored.input_shape, wanted, shown_as)
    _refuse_twice_quantized(stored.quantized, wanted, shown_as)
    same_classes = stored.classes == wanted.classes
    if not same_classes and not settings.allow_loaded_model_modification:
        raise ModelFileProblem(
            f"the file's network has the classes {', '.join(stored.classes)}, and the spec has "
            f"{', '.join(wanted.classes)}",
            where=shown_as,
            hint="Give cost_function_config the same target_classes in the same order, or set "
            "allow_loaded_model_modification: true, which replaces the heads by random ones.",
        )
    if (stored.arch, stored.nlayers) != (wanted.arch, wanted.nlayers):
        logger.info("load_graph: the %s of %s is used, and not the spec's.", _named(stored), shown_as)
    architecture = replace(
        stored,
        classes=wanted.classes,
        bbox_scale=wanted.bbox_scale,
        bbox_offset=wanted.bbox_offset,
        dropout_rate=wanted.dropout_rate,
        quantized=stored.quantized or wanted.quantized,
    )
    whole = files.build(KIND, stored, shown_as)
    files.load_exactly(whole, file.weights, shown_as)
    model = files.build(KIND, architecture, shown_as)
    offered = file.weights
    if not same_classes:
        logger.info("The heads of %s are replaced by random ones, for other classes.", shown_as)
        offered = {name: tensor for name, tensor in offered.items() if not name.startswith(HEADS)}
    _take_whole(model, offered, shown_as, pruned=bool(stored.channels))
    return model


def _whole_keras_model(
    file: ModelFile, wanted: Architecture, settings: DetectNetModelSettings, shown_as: str
) -> DetectNet:
    """Build the network of a Keras file, as far as its layers show it, with its weights."""
    refuse_other_architecture(KIND, file.weights, wanted, shown_as)
    shape = file.extra.get("input_shape")
    if shape is not None:
        _require_input(tuple(shape), wanted, shown_as)
    layers = {name.rpartition(".")[0] for name in file.weights}
    quantized = any(layer.endswith(SUFFIX) for layer in layers)
    _refuse_twice_quantized(quantized, wanted, shown_as)
    architecture = replace(
        wanted,
        use_batch_norm=any(name.endswith(".running_mean") for name in file.weights),
        all_projections="block_1b_conv_shortcut" in layers or "block_2b_conv_shortcut" in layers,
        quantized=quantized or wanted.quantized,
    )
    model = DetectNet(architecture)
    own = set(layers_of(portable_state(model)))
    if extra := [layer for layer in layers if layer not in own and not layer.endswith(SUFFIX)]:
        raise ModelFileProblem(
            f"the file's network has layers that {_named(wanted)} doesn't have ({shortened(sorted(extra))})",
            where=shown_as,
            hint="Set arch and num_layers in the spec's model_config to the file's network.",
        )
    offered = by_module_names(file.weights, model)
    pruned = bool(backbone_misfits(offered, model))
    if pruned:
        channels = pruned_like(KIND, file.weights, model, shown_as)
        model = DetectNet(replace(architecture, channels=channels))
        offered = by_module_names(file.weights, model)
    if settings.allow_loaded_model_modification:
        own_state = portable_state(model)
        offered = {
            name: tensor
            for name, tensor in offered.items()
            if not name.startswith(HEADS) or own_state[name].shape == tensor.shape
        }
    require_fit(KIND, offered, model, shown_as)
    _take_whole(model, offered, shown_as, pruned=pruned)
    return model


def _take_whole(model: DetectNet, offered: Mapping[str, Tensor], shown_as: str, *, pruned: bool) -> None:
    """Load a file's whole network."""
    if pruned:
        logger.info("%s is pruned: its channels are used in place of the spec's.", shown_as)
    taken = take_by_name(KIND, model, offered, shown_as)
    restart(model)
    model.pretrained_layers = frozenset(layers_of(name for name in taken if name.startswith(BACKBONE)))


def _require_input(shape: tuple[int, ...], wanted: Architecture, shown_as: str) -> None:
    """Check that the spec's images are what the file's network takes."""
    if tuple(shape) != wanted.input_shape:
        theirs, ours = ("×".join(map(str, (*s[:0:-1], s[0]))) for s in (shape, wanted.input_shape))
        raise ModelFileProblem(
            f"the file's network takes images of {theirs} (width, height, channels), and the spec makes them {ours}",
            where=shown_as,
            hint="With load_graph the input is the file's: set output_image_width, output_image_height and "
            "output_image_channel in augmentation_config to it.",
        )


def _refuse_twice_quantized(quantized: bool, wanted: Architecture, shown_as: str) -> None:
    """Refuse ``enable_qat`` for a network that has been trained with it: TAO ends with an AssertionError there."""
    if quantized and wanted.quantized:
        raise ModelFileProblem(
            "the spec has enable_qat, and this network has been trained with it already",
            where=shown_as,
            hint="Start from the network that was trained without it, or remove enable_qat: with load_graph the "
            "file's network stays quantisation-aware.",
        )
    if quantized:
        logger.info("%s was trained with enable_qat: its network stays quantisation-aware.", shown_as)


def _around_backbone_of(stored: Mapping[str, Any], wanted: Architecture, shown_as: str) -> Architecture:
    """Return the architecture with the backbone of another kind of network of ours, an SSD."""
    try:
        _require_input(tuple(stored["input_shape"]), wanted, shown_as)
        own = set(layers_of(portable_state(DetectNet(wanted))))
        channels = {layer: int(count) for layer, count in stored["channels"].items() if layer in own}
        return replace(
            wanted,
            arch=stored["arch"],
            nlayers=stored["nlayers"],
            width_multiplier=stored["width_multiplier"],
            use_batch_norm=True,
            all_projections=True,
            channels=channels,
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise files.damaged_description(error, shown_as) from error


def _named(architecture: Architecture) -> str:
    return f"{architecture.arch} {architecture.nlayers or ''}".rstrip()


def freeze(model: DetectNet, settings: DetectNetModelSettings) -> None:
    """Stop what doesn't learn: the blocks of ``freeze_blocks``, and with ``freeze_pretrained_layers`` what was loaded.

    The heads always learn.
    """
    freeze_blocks(model.backbone, settings.freeze_blocks)
    if settings.freeze_pretrained_layers:
        for layer in _pretrained(model):
            layer.requires_grad_(False)


def to_training_mode(model: DetectNet, settings: DetectNetModelSettings) -> None:
    """Put a network into training mode, except for batch normalisation that is frozen.

    ``freeze_bn`` stops that of the whole backbone; with ``freeze_pretrained_layers``, what was loaded keeps its
    statistics.
    """
    model.train()
    if settings.freeze_bn:
        stop_batch_norm(model.backbone)
    if settings.freeze_pretrained_layers:
        for layer in _pretrained(model):
            stop_batch_norm(layer)


def _pretrained(model: DetectNet) -> Iterable[nn.Module]:
    """Return the layers whose weights came from ``pretrained_model_file``."""
    for path, layer in model.named_modules():
        if keras_name(path) in model.pretrained_layers and not any(layer.children()):
            yield layer
