"""Non-maximum suppression as a node of TensorRT's plugin library, in the place of the standard operators.

Only TensorRT runs such a model. What it gains is the pipelines that are made for these nodes, NVIDIA's own among them.
Names and meanings of the attributes are those of TensorRT's open-source plugins (``plugin/nmsPlugin`` and
``plugin/efficientNMSPlugin`` in github.com/NVIDIA/TensorRT). TensorRT's parser finds a plugin by the operator's name,
whatever its domain; the domain keeps it apart from ONNX's own operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from taomagic.engine.export.detections import COUNTS, DETECTIONS, EFFICIENT_OUTPUTS, ROW
from taomagic.spec.settings import NMSSettings

#: ``--nms``: where the suppression of an exported SSD happens.
Suppression = Literal["onnx", "nms_dynamic_trt", "efficient_nms_trt"]

DOMAIN: Final = "TRT"
#: ``codeType``: offsets from the centre and the size of an anchor, x before y.
_CENTER_SIZE: Final = 1
#: ``scoreBits``: sort by all 16 bits of a score.
_ALL_BITS: Final = 16


def append_nms_dynamic_trt(
    model: onnx.ModelProto,
    *,
    probabilities: str,
    offsets: str,
    anchors: npt.NDArray[np.float32],
    variances: Sequence[float],
    classes: int,
    settings: NMSSettings,
) -> None:
    """Replace the outputs of a model by those of ``NMSDynamic_TRT``, which decodes the boxes itself.

    The outputs are ``NMS`` [N, 1, top_k, 7] float32, rows of image, class, confidence, x1, y1, x2, y2 in shares of the
    image; and ``NMS_1`` [N, 1, 1, 1], the number of detections. The plugin declares that number as float32, and writes
    the bits of an int32; readers have to take it for one.

    Parameters
    ----------
    model
        Changed in place.
    probabilities
        Name of the tensor [N, anchors, classes] float32, the background first.
    offsets
        Name of the tensor [N, anchors, 4] float32 of encoded boxes.
    anchors
        [anchors, 4] corners as shares of the image.
    variances
        Four divisors of the offsets.
    classes
        With the background.
    settings
        ``nms_config``.
    """
    graph = model.graph
    count = len(anchors)
    priors = np.stack([anchors.reshape(-1), np.tile(np.asarray(variances, np.float32), count)])
    constants = {
        "nms/priors": priors.astype(np.float32).reshape(1, 2, 4 * count, 1),
        "nms/batch_axis": np.array([0]),
        "nms/prior_shape": np.array([2, 4 * count, 1]),
        "nms/offsets_shape": np.array([0, 4 * count, 1, 1]),
        "nms/probabilities_shape": np.array([0, count * classes, 1, 1]),
    }
    nodes = [
        helper.make_node("Shape", [probabilities], ["nms/shape"]),
        helper.make_node("Gather", ["nms/shape", "nms/batch_axis"], ["nms/batch"], axis=0),
        helper.make_node("Concat", ["nms/batch", "nms/prior_shape"], ["nms/priors_shape"], axis=0),
        helper.make_node("Expand", ["nms/priors", "nms/priors_shape"], ["anchor_data"]),
        helper.make_node("Reshape", [offsets, "nms/offsets_shape"], ["loc_data"]),
        helper.make_node("Reshape", [probabilities, "nms/probabilities_shape"], ["conf_data"]),
        helper.make_node(
            "NMSDynamic_TRT",
            ["anchor_data", "loc_data", "conf_data"],
            [DETECTIONS, COUNTS],
            name=DETECTIONS,
            domain=DOMAIN,
            plugin_version="1",
            shareLocation=1,
            varianceEncodedInTarget=0,
            backgroundLabelId=0,
            confidenceThreshold=settings.confidence_threshold,
            nmsThreshold=settings.clustering_iou_threshold,
            topK=2 * settings.top_k,
            keepTopK=settings.top_k,
            codeType=_CENTER_SIZE,
            numClasses=classes,
            inputOrder=[1, 2, 0],  # where offsets, probabilities and anchors stand
            confSigmoid=0,
            isNormalized=1,
            scoreBits=settings.infer_nms_score_bits or _ALL_BITS,
        ),
    ]
    batch = _batch(graph)
    outputs = [
        helper.make_tensor_value_info(DETECTIONS, TensorProto.FLOAT, [batch, 1, settings.top_k, ROW]),
        helper.make_tensor_value_info(COUNTS, TensorProto.FLOAT, [batch, 1, 1, 1]),
    ]
    _append(model, nodes, constants, outputs)


def append_efficient_nms_trt(
    model: onnx.ModelProto, *, probabilities: str, boxes: str, settings: NMSSettings
) -> None:
    """Replace the outputs of a model by those of ``EfficientNMS_TRT``.

    The outputs are ``num_detections`` [N, 1] int32, ``detection_boxes`` [N, top_k, 4] float32 corners as shares of the
    image, ``detection_scores`` [N, top_k] float32 and ``detection_classes`` [N, top_k] int32, counted from 1.

    Parameters
    ----------
    model
        Changed in place.
    probabilities
        Name of the tensor [N, anchors, classes] float32, the background first.
    boxes
        Name of the tensor [N, anchors, 4] float32 of corners as shares of the image.
    settings
        ``nms_config``.
    """
    node = helper.make_node(
        "EfficientNMS_TRT",
        [boxes, probabilities],
        list(EFFICIENT_OUTPUTS),
        name="EfficientNMS",
        domain=DOMAIN,
        plugin_version="1",
        score_threshold=settings.confidence_threshold,
        iou_threshold=settings.clustering_iou_threshold,
        max_output_boxes=settings.top_k,
        background_class=0,
        score_activation=0,  # they are probabilities already
        class_agnostic=0,
        box_coding=0,  # corners
    )
    batch, most = _batch(model.graph), settings.top_k
    shapes = ((TensorProto.INT32, [1]), (TensorProto.FLOAT, [most, 4]), (TensorProto.FLOAT, [most]))
    outputs = [
        helper.make_tensor_value_info(name, kind, [batch, *shape])
        for name, (kind, shape) in zip(EFFICIENT_OUTPUTS, (*shapes, (TensorProto.INT32, [most])), strict=True)
    ]
    _append(model, [node], {}, outputs)


def _append(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, npt.NDArray[np.generic]],
    outputs: Sequence[onnx.ValueInfoProto],
) -> None:
    graph = model.graph
    graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in constants.items())
    graph.node.extend(nodes)
    del graph.output[:]
    graph.output.extend(outputs)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def _batch(graph: onnx.GraphProto) -> int | str:
    first = graph.input[0].type.tensor_type.shape.dim[0]
    return first.dim_value or first.dim_param or "N"
