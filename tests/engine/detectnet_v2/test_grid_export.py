"""DetectNet_v2 as ONNX: the same numbers as in PyTorch, and what the file says about itself."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.detectnet_v2.export import deepstream_model
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.detectnet_v2.onnx_export import INPUT, export_with_scales
from taomagic.engine.detectnet_v2.predictor import BOXES, COVERAGE
from taomagic.engine.export.deepstream import write_deepstream_files
from taomagic.engine.quantization import QuantizedConv2d, quantizers, without_quantization
from taomagic.engine.quantization.fake_quantize import fake_quantize_weight
from taomagic.errors import UsageProblem
from taomagic.spec.detectnet_v2 import DetectNetExperiment, read_experiment
from tests.engine.export.integers import insert_integers

SPEC = Path(__file__).parents[3] / "specs" / "detectnet_v2" / "detectnet_v2_train_resnet18_kitti.txt"


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(arch: str = "resnet", num_layers: int = 10, **changes: Any) -> DetectNet:
    """Return a network that has seen images, with answers as large as a trained one's."""
    torch.manual_seed(3)
    base = Architecture(arch, num_layers, 0.125, (3, 64, 96), ("car", "cyclist"), True, False, 35.0, 0.5)
    model = DetectNet(replace(base, **changes))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    x = images(4, model.architecture.input_shape[0])
    with torch.no_grad():
        model.train()(x)
        coverage, boxes = model.eval()(x)
        model.heads["output_cov"].weight /= torch.logit(coverage.double()).std().float()
        model.heads["output_bbox"].weight /= boxes.std()
    return model


def images(count: int, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, 64, 96, generator=torch.Generator().manual_seed(count))


def predictions(model: DetectNet, x: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    with torch.inference_mode():
        coverage, boxes = model(x)
    return {COVERAGE: coverage.numpy(), BOXES: boxes.numpy()}


def onnx_predictions(
    model: bytes, x: Tensor, scales: dict[str, float] | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    proto = onnx.load_from_string(model)
    if scales is not None:
        insert_integers(proto.graph, scales)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: x.numpy()}), strict=True))


def metadata(model: bytes) -> dict[str, Any]:
    return {entry.key: json.loads(entry.value) for entry in onnx.load_from_string(model).metadata_props}


def test_the_exported_model_gives_the_maps_of_the_network() -> None:
    """The other backbones are in the matrix of precisions."""
    model = network()
    exported = export_with_scales(model)
    assert exported.tensor_scales == {}
    for count in (1, 3):
        x = images(count)
        wanted, found = predictions(model, x), onnx_predictions(exported.model, x)
        assert list(found) == [BOXES, COVERAGE], "in the order of NVIDIA's network"
        assert found[BOXES].shape == (count, 8, 4, 6)
        assert np.ptp(wanted[COVERAGE]) > 0.1, "a constant would prove nothing"
        for name, values in wanted.items():
            np.testing.assert_allclose(found[name], values, atol=1e-4)


@pytest.mark.parametrize("opset", [12, 13, 20])
def test_the_operator_set_is_the_one_asked_for(opset: int) -> None:
    model = network(use_batch_norm=False)
    exported = export_with_scales(model, opset=opset).model
    assert [entry.version for entry in onnx.load_from_string(exported).opset_import] == [opset]
    x = images(2)
    for name, values in predictions(model, x).items():
        np.testing.assert_allclose(onnx_predictions(exported, x)[name], values, atol=1e-4)
    with pytest.raises(UsageProblem, match="12 to 20"):
        export_with_scales(model, opset=21)


@pytest.mark.parametrize(("batch_size", "dimension"), [(None, "N"), (2, 2)])
def test_the_batch_is_any_or_fixed(batch_size: int | None, dimension: str | int) -> None:
    graph = onnx.load_from_string(export_with_scales(network(), batch_size=batch_size).model).graph
    for value in (*graph.input, *graph.output):
        first = value.type.tensor_type.shape.dim[0]
        assert (first.dim_param or first.dim_value) == dimension
    assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim][1:] == [3, 64, 96]


def test_every_weight_is_a_constant_beside_its_convolution() -> None:
    graph = onnx.load_from_string(export_with_scales(network("squeezenet", 0)).model).graph
    stored = {tensor.name for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 27
    assert all(stored.issuperset(node.input[1:]) for node in convolutions)


def test_a_grey_model_says_so() -> None:
    model = network(input_shape=(1, 64, 96))
    exported = export_with_scales(model).model
    assert metadata(exported)["channel_order"] == "grey"
    assert metadata(exported)["mean"] == [0.0]
    x = images(2, 1)
    for name, values in predictions(model, x).items():
        np.testing.assert_allclose(onnx_predictions(exported, x)[name], values, atol=1e-4)


def test_the_model_says_what_a_reader_needs(experiment: DetectNetExperiment) -> None:
    model = network(classes=experiment.classes, bbox_scale=30.0, bbox_offset=0.25)
    values = metadata(export_with_scales(model, experiment).model)
    assert values["task"] == "detectnet_v2"
    assert values["classes"] == list(experiment.classes)
    assert values["input_shape"] == [3, 64, 96]
    assert values["channel_order"] == "RGB"
    assert (values["bbox_scale"], values["bbox_offset"], values["stride"]) == (30.0, 0.25, 16)
    assert values["input_scale"] == pytest.approx(1 / 255)
    assert values["clustering"] == {n: asdict(c) for n, c in experiment.clustering.items()}
    assert len(values["fingerprint"]) == 64
    other = metadata(export_with_scales(network(classes=experiment.classes)).model)
    assert other["fingerprint"] != values["fingerprint"]
    assert "clustering" not in other


def test_the_network_is_left_alone() -> None:
    model = network(quantized=True).train()
    before = copy.deepcopy(model.state_dict())
    export_with_scales(model)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("arch", "num_layers"), [("resnet", 10), ("vgg", 16), ("googlenet", 0)])
def test_the_scales_of_a_quantised_network_give_in_integers_what_it_computes(
    arch: str, num_layers: int
) -> None:
    model = network(arch, num_layers, quantized=True)
    for module in model.modules():
        if isinstance(module, QuantizedConv2d):
            module.weight.data = fake_quantize_weight(module.weight.data)
    exported = export_with_scales(model)
    assert len(exported.tensor_scales) == len(quantizers(model)) > 10
    assert next(iter(exported.tensor_scales)) == INPUT
    assert not any(node.domain for node in onnx.load_from_string(exported.model).graph.node)
    x = images(4)
    wanted = predictions(model, x)[BOXES]
    in_integers = onnx_predictions(exported.model, x, exported.tensor_scales)[BOXES]
    in_floats = onnx_predictions(exported.model, x)[BOXES]
    # Beside the middle of two integers rounding errors decide, and change all behind; not so in every image.
    ratios = np.abs(wanted - in_integers).mean((1, 2, 3)) / np.abs(wanted - in_floats).mean((1, 2, 3))
    assert ratios.min() < 0.05
    assert ratios.max() < 2
    plain = copy.deepcopy(model)
    without_quantization(plain)
    np.testing.assert_allclose(predictions(plain, x)[BOXES], in_floats, atol=1e-4)


@pytest.fixture(scope="module")
def experiment() -> DetectNetExperiment:
    return read_experiment(SPEC, purpose="export")


def deepstream(tmp_path: Path, **changes: Any) -> tuple[dict[str, str], str, str]:
    experiment = changes.pop("experiment", None)
    base = Architecture(
        "resnet", 10, 0.125, (3, 384, 1248), ("car", "cyclist", "pedestrian"), True, False, 35.0, 0.5
    )
    model = deepstream_model(replace(base, **changes), experiment)
    config, labels = write_deepstream_files(tmp_path / "model.onnx", model)
    text = config.read_text()
    values = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    return values, labels.read_text(), text


def test_deepstreams_files_have_the_values_of_the_reference(
    tmp_path: Path, experiment: DetectNetExperiment
) -> None:
    values, labels, text = deepstream(tmp_path, experiment=experiment)
    assert float(values.pop("net-scale-factor")) == pytest.approx(1 / 255, rel=1e-12)
    assert values == {
        "onnx-file": "model.onnx",
        "offsets": "0.0;0.0;0.0",
        "infer-dims": "3;384;1248",
        "network-type": "0",
        "num-detected-classes": "3",
        "labelfile-path": "labels.txt",
        "output-blob-names": "output_bbox/BiasAdd;output_cov/Sigmoid",
        "model-color-format": "0",
        "maintain-aspect-ratio": "0",
        "output-tensor-meta": "0",
        "cluster-mode": "1",
    }
    assert labels == "car\ncyclist\npedestrian\n"
    assert "# [class-attrs-2]\n# pre-cluster-threshold=0.0075\n# detected-min-h=20\n# eps=0.23" in text
    assert "would be wrong" not in text


def test_deepstream_is_told_what_its_own_parser_cannot_know(tmp_path: Path) -> None:
    values, _, text = deepstream(tmp_path, bbox_scale=30.0, input_shape=(1, 64, 96))
    assert (values["model-color-format"], values["offsets"], values["infer-dims"]) == ("2", "0.0", "1;64;96")
    assert "has 30 and 0.5" in text
    assert "would be wrong" in text
    assert "class-attrs" not in text


def test_deepstream_clusters_as_the_spec_does(tmp_path: Path, experiment: DetectNetExperiment) -> None:
    by_nms = replace(
        experiment,
        clustering={
            name: replace(each, algorithm="NMS", nms_iou_threshold=0.25)
            for name, each in experiment.clustering.items()
        },
    )
    values, _, text = deepstream(tmp_path, experiment=by_nms)
    assert values["cluster-mode"] == "2"
    assert "# nms-iou-threshold=0.25" in text
    assert "eps" not in text
