"""Files in Keras' layouts, as NVIDIA's containers and other programs write them."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
from torch import nn

from taomagic.engine.backbones.base import keras_name


def keras_layers(model: nn.Module, *, backbone_only: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """Return a network's weights as Keras has them: by layer and name, in Keras' axis order."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for path, layer in model.named_modules():
        if backbone_only and not path.startswith("backbone."):
            continue
        if isinstance(layer, nn.Conv2d):
            depthwise = layer.groups > 1
            array = layer.weight.detach().numpy().transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
            layers[keras_name(path)] = {"depthwise_kernel" if depthwise else "kernel": array}
            if layer.bias is not None:
                layers[keras_name(path)]["bias"] = layer.bias.detach().numpy()
        elif isinstance(layer, nn.BatchNorm2d):
            layers[keras_name(path)] = {
                "gamma": layer.weight.detach().numpy(),
                "beta": layer.bias.detach().numpy(),
                "moving_mean": layer.running_mean.numpy(),
                "moving_variance": layer.running_var.numpy(),
            }
    return layers


def write_keras(
    path: Path,
    layers: dict[str, dict[str, np.ndarray]],
    *,
    form: str = "model",
    input_shape: tuple[int | None, ...] | None = None,
) -> None:
    """Write a file in the layouts that Keras has had.

    ``model``: ``model.save`` of 2.2, with the network as JSON and optimizer weights; ``weights``: ``save_weights``;
    ``nested``: the network is a layer of another; ``tf2``: names made unique, and texts in place of bytes. With an
    input shape [channels, height, width], the network's description has it.
    """
    with h5py.File(path, "w") as file:
        group = file if form == "weights" else file.create_group("model_weights")
        group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.2.4"
        names = {
            layer: [f"{layer}{'_1' if form == 'tf2' else ''}/{a}:0" for a in arrays]
            for layer, arrays in layers.items()
        }
        if form == "nested":
            inner = group.create_group("model_1")
            inner.attrs["weight_names"] = np.array([n for each in names.values() for n in each], dtype="S")
            group.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
            group.attrs["layer_names"] = np.array([b"input_1", b"model_1"])
            owners = dict.fromkeys(layers, inner)
        else:
            group.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
            texts = ["input_1", *layers]
            group.attrs["layer_names"] = texts if form == "tf2" else np.array(texts, dtype="S")
            owners = {layer: group.create_group(layer) for layer in layers}
            for layer, owner in owners.items():
                owner.attrs["weight_names"] = (
                    names[layer] if form == "tf2" else np.array(names[layer], dtype="S")
                )
        for layer, arrays in layers.items():
            for name, array in zip(names[layer], arrays.values(), strict=True):
                owners[layer][name] = array
        if form == "weights":
            return
        children = [{"class_name": "Layer", "name": layer, "config": {"name": layer}} for layer in layers]
        if input_shape is not None:
            shape = {"name": "input_1", "batch_input_shape": [None, *input_shape]}
            children.insert(0, {"class_name": "InputLayer", "name": "input_1", "config": shape})
        children.append(
            {"class_name": "Lambda", "name": "evil", "config": {"name": "evil", "function": ["4wEAAAA="]}}
        )
        whole = {"class_name": "Model", "config": {"name": "model_1", "layers": children}}
        if form == "nested":
            whole = {"class_name": "Model", "config": {"layers": [{**whole, "name": "model_1"}]}}
        file.attrs["model_config"] = json.dumps(whole).encode()
        file.create_dataset("optimizer_weights/SGD/iterations:0", data=7)
