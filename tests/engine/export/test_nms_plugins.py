"""SSD's suppression as a TensorRT plugin: the nodes are what TensorRT's documents ask for, with the right tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from taomagic.engine.boxes import decode
from taomagic.engine.ssd.export import deepstream_model
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.spec.settings import NMSSettings

from .export_cases import Case, experiment, network


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(network(), experiment(NMSSettings(0.05, 0.6, 30, 0)))


def exported(case: Case, suppression: str, **settings: Any) -> onnx.ModelProto:
    return onnx.load_from_string(
        export_onnx(case.model, case.experiment, suppression=suppression, **settings)
    )


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    values = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def inputs_of_plugin(model: onnx.ModelProto, images: np.ndarray) -> dict[str, np.ndarray]:
    """Run everything in front of the plugin."""
    plugin = model.graph.node.pop()
    assert plugin.domain == "TRT"
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in plugin.input)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return dict(zip(plugin.input, session.run(list(plugin.input), {"Input": images}), strict=True))


@pytest.mark.parametrize("suppression", ["nms_dynamic_trt", "efficient_nms_trt"])
@pytest.mark.parametrize("opset", [12, 17])
def test_only_the_last_node_is_of_another_domain(case: Case, suppression: str, opset: int) -> None:
    model = exported(case, suppression, opset=opset)
    assert [node.domain for node in model.graph.node if node.domain] == ["TRT"]
    assert model.graph.node[-1].domain == "TRT"
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset, "TRT": 1}
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    known = {value.name for value in inferred.graph.value_info} | {t.name for t in model.graph.initializer}
    assert known.issuperset(model.graph.node[-1].input), "the plugin's inputs have shapes"


def test_nms_dynamic_has_the_attributes_of_the_reference(case: Case) -> None:
    model = exported(case, "nms_dynamic_trt")
    node = model.graph.node[-1]
    assert (node.op_type, node.name, list(node.output)) == ("NMSDynamic_TRT", "NMS", ["NMS", "NMS_1"])
    assert attributes(node) == {
        "plugin_version": b"1",
        "shareLocation": 1,
        "varianceEncodedInTarget": 0,
        "backgroundLabelId": 0,
        "confidenceThreshold": 0.05,
        "nmsThreshold": 0.6,
        "topK": 60,
        "keepTopK": 30,
        "codeType": 1,
        "numClasses": 4,
        "inputOrder": [1, 2, 0],
        "confSigmoid": 0,
        "isNormalized": 1,
        "scoreBits": 16,
    }
    assert [shape(value) for value in model.graph.input] == [["N", 3, 96, 128]]
    assert [(v.name, shape(v)) for v in model.graph.output] == [
        ("NMS", ["N", 1, 30, 7]),
        ("NMS_1", ["N", 1, 1, 1]),
    ]


def test_score_bits_are_handed_on(case: Case) -> None:
    spec = experiment(NMSSettings(0.05, 0.6, 30, 8))
    model = onnx.load_from_string(export_onnx(case.model, spec, suppression="nms_dynamic_trt"))
    assert attributes(model.graph.node[-1])["scoreBits"] == 8


def test_nms_dynamic_gets_anchors_offsets_and_probabilities(case: Case) -> None:
    images = np.random.default_rng(0).normal(size=(2, 3, 96, 128)).astype("f4") * 60
    found = inputs_of_plugin(exported(case, "nms_dynamic_trt"), images)
    count = len(case.model.anchors)
    with torch.inference_mode():
        scores, offsets = case.model(torch.from_numpy(images))
    assert list(found) == ["anchor_data", "loc_data", "conf_data"]
    assert found["anchor_data"].shape == (2, 2, 4 * count, 1)
    for image in range(2):
        corners, variances = found["anchor_data"][image].reshape(2, count, 4)
        np.testing.assert_array_equal(corners, case.model.anchors.numpy())
        np.testing.assert_array_equal(variances, np.tile(np.float32([0.1, 0.1, 0.2, 0.2]), (count, 1)))
    assert found["loc_data"].shape == (2, 4 * count, 1, 1)
    np.testing.assert_allclose(found["loc_data"].reshape(2, count, 4), offsets.numpy(), atol=1e-4)
    assert found["conf_data"].shape == (2, 4 * count, 1, 1)  # four classes, the background among them
    probabilities = torch.softmax(scores, -1).numpy()
    np.testing.assert_allclose(found["conf_data"].reshape(2, count, 4), probabilities, atol=1e-5)


def test_efficient_nms_has_the_attributes_of_its_document(case: Case) -> None:
    model = exported(case, "efficient_nms_trt", batch_size=2)
    node = model.graph.node[-1]
    assert node.op_type == "EfficientNMS_TRT"
    assert attributes(node) == {
        "plugin_version": b"1",
        "score_threshold": 0.05,
        "iou_threshold": 0.6,
        "max_output_boxes": 30,
        "background_class": 0,
        "score_activation": 0,
        "class_agnostic": 0,
        "box_coding": 0,
    }
    outputs = {v.name: (v.type.tensor_type.elem_type, shape(v)) for v in model.graph.output}
    assert outputs == {
        "num_detections": (TensorProto.INT32, [2, 1]),
        "detection_boxes": (TensorProto.FLOAT, [2, 30, 4]),
        "detection_scores": (TensorProto.FLOAT, [2, 30]),
        "detection_classes": (TensorProto.INT32, [2, 30]),
    }


def test_efficient_nms_gets_corners_and_probabilities(case: Case) -> None:
    images = np.random.default_rng(1).normal(size=(2, 3, 96, 128)).astype("f4") * 60
    boxes, probabilities = inputs_of_plugin(exported(case, "efficient_nms_trt"), images).values()
    with torch.inference_mode():
        scores, offsets = case.model(torch.from_numpy(images))
        wanted = decode(offsets, case.model.anchors, torch.tensor([0.1, 0.1, 0.2, 0.2]))
    np.testing.assert_allclose(boxes, wanted.numpy(), atol=1e-4)
    np.testing.assert_allclose(probabilities, torch.softmax(scores, -1).numpy(), atol=1e-5)


def test_the_model_and_deepstream_say_what_suppresses(case: Case) -> None:
    for suppression in ("onnx", "nms_dynamic_trt", "efficient_nms_trt"):
        model = exported(case, suppression)
        values = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
        assert values["nms"] == suppression
        described = deepstream_model(case.model.architecture, case.experiment, suppression)
        assert list(described.outputs) == [value.name for value in model.graph.output]


def test_the_priors_are_stored_once_whatever_the_batch(case: Case) -> None:
    model = exported(case, "nms_dynamic_trt", batch_size=8)
    stored = {t.name: numpy_helper.to_array(t).shape for t in model.graph.initializer}
    assert stored["nms/priors"] == (1, 2, 4 * len(case.model.anchors), 1)
