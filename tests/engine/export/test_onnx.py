from __future__ import annotations

import time

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from taomagic.engine.inference.models import open_exported
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.engine.ssd.postprocess import Detections, detect
from taomagic.engine.ssd.predictor import ExportedPredictor
from taomagic.engine.storage.model_file import write_onnx
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import ModelFileProblem, UsageProblem
from taomagic.spec.settings import NMSSettings

from .export_cases import Case, experiment, network


@pytest.fixture(params=["random", "trained"])
def case(request: pytest.FixtureRequest) -> Case:
    trained = request.param == "trained"
    nms = NMSSettings(0.05 if trained else 0.01, 0.5, 50, 0)
    return Case(network(trained=trained), experiment(nms))


def expected(case: Case, images: torch.Tensor) -> list[Detections]:
    model = case.model
    with torch.inference_mode():
        scores, offsets = model(images)
    variances = torch.tensor(model.architecture.anchors.variances)
    return detect(scores, offsets, model.anchors, variances, model.architecture.input_shape[1:], case.nms)


def opened(path, key: str = "") -> ExportedPredictor:
    return ExportedPredictor(open_exported(path, key, task="ssd", shown_as=str(path)), str(path))


def raw(runtime: ExportedPredictor, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    outputs = runtime.model.runner.run(images)
    return outputs["NMS"], outputs["NMS_1"]


def predictor(tmp_path, case: Case, **settings: object) -> ExportedPredictor:
    path = tmp_path / "model.onnx"
    write_onnx(path, export_onnx(case.model, case.experiment, **settings))
    return opened(path)


def assert_same(found: Detections, wanted: Detections) -> None:
    assert len(found) == len(wanted)
    # Scores that differ by rounding alone may change places; so compare as sets, ordered by class and position.
    for part in (found, wanted):
        assert np.all(np.diff(part.scores) <= 0)
    orders = [
        np.lexsort((part.boxes[:, 1].round(2), part.boxes[:, 0].round(2), part.labels))
        for part in (found, wanted)
    ]
    np.testing.assert_array_equal(found.labels[orders[0]], wanted.labels[orders[1]])
    np.testing.assert_allclose(found.scores[orders[0]], wanted.scores[orders[1]], atol=1e-5)
    # Pixels of an image of 128: 1e-4 of its size.
    np.testing.assert_allclose(found.boxes[orders[0]], wanted.boxes[orders[1]], atol=1e-2)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_exported_model_finds_what_the_network_finds(tmp_path, case, batch):
    images = torch.randn(batch, 3, 96, 128) * 60
    found = predictor(tmp_path, case).predict(images)
    wanted = expected(case, images)
    assert sum(map(len, wanted)) > 10
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("opset", [12, 13, 17, 20])
def test_every_operator_set_gives_the_same(tmp_path, opset):
    case = Case(network(trained=True), experiment(NMSSettings(0.05, 0.5, 20, 0)))
    images = torch.randn(2, 3, 96, 128) * 60
    model = onnx.load_from_string(export_onnx(case.model, case.experiment, opset=opset))
    assert [entry.version for entry in model.opset_import if not entry.domain] == [opset]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    for one, other in zip(
        predictor(tmp_path, case, opset=opset).predict(images), expected(case, images), strict=True
    ):
        assert_same(one, other)


def test_an_operator_set_that_is_too_old_or_too_new_is_refused():
    case = Case(network(), experiment(NMSSettings(0.1, 0.5, 10, 0)))
    for opset in (11, 21):
        with pytest.raises(UsageProblem, match="12 to 20"):
            export_onnx(case.model, case.experiment, opset=opset)


def test_outputs_have_the_names_shapes_and_rows_of_the_nms_node(tmp_path, case):
    images = np.random.default_rng(0).normal(size=(2, 3, 96, 128)).astype("f4") * 60
    runtime = predictor(tmp_path, case)
    detections, counts = raw(runtime, images)
    assert (detections.shape, detections.dtype) == ((2, 1, case.nms.top_k, 7), np.float32)
    assert (counts.shape, counts.dtype) == ((2, 1, 1, 1), np.int32)
    for image, (rows, count) in enumerate(zip(detections[:, 0], counts.reshape(-1), strict=True)):
        assert np.all(rows[:count, 0] == image)
        assert set(rows[:count, 1]) <= {1.0, 2.0, 3.0}
        assert np.all(rows[:count, 2] > case.nms.confidence_threshold)
        assert not rows[count:].any()


def test_an_image_with_nothing_in_it_gives_zeros(tmp_path):
    case = Case(network(trained=True), experiment(NMSSettings(0.999999, 0.5, 10, 0)))
    detections, counts = raw(predictor(tmp_path, case), np.zeros((2, 3, 96, 128), "f4"))
    assert not detections.any()
    assert not counts.any()


def test_more_rows_than_boxes_are_padded(tmp_path):
    case = Case(network(), experiment(NMSSettings(0.01, 0.99, 100_000, 0)))
    detections, counts = raw(predictor(tmp_path, case), np.zeros((1, 3, 96, 128), "f4"))
    assert detections.shape == (1, 1, 100_000, 7)
    assert 0 < counts.item() < 100_000
    assert not detections[0, 0, counts.item() :].any()


def test_a_fixed_batch_size_is_part_of_the_model(tmp_path):
    case = Case(network(), experiment(NMSSettings(0.01, 0.5, 10, 0)))
    model = onnx.load_from_string(export_onnx(case.model, case.experiment, batch_size=2))
    assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [2, 3, 96, 128]
    assert model.graph.output[0].type.tensor_type.shape.dim[0].dim_value == 2
    dynamic = onnx.load_from_string(export_onnx(case.model, case.experiment))
    assert dynamic.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_model_of_a_fixed_batch_size_takes_any_number_of_images(tmp_path, count):
    case = Case(network(trained=True), experiment(NMSSettings(0.05, 0.5, 50, 0)))
    images = torch.randn(count, 3, 96, 128) * 60
    found = predictor(tmp_path, case, batch_size=2).predict(images)
    assert len(found) == count
    for one, wanted in zip(found, expected(case, images), strict=True):
        assert_same(one, wanted)


def test_the_model_says_what_it_needs_and_what_it_is(tmp_path):
    case = Case(network(1, ("汽车", "person")), experiment(NMSSettings(0.01, 0.5, 10, 0)))
    runtime = predictor(tmp_path, case)
    assert runtime.classes == ("汽车", "person")
    assert runtime.input_shape == (1, 96, 128)
    assert runtime.mean == (117.3786,)
    assert runtime.parameters == parameter_count(case.model)
    assert runtime.model.metadata["channel_order"] == "grey"
    assert len(runtime.model.metadata["fingerprint"]) == 64
    assert len(runtime.predict(torch.zeros(1, 1, 96, 128))) == 1


def test_the_fingerprint_follows_the_weights(tmp_path):
    first = predictor(tmp_path, Case(network(), experiment(NMSSettings(0.01, 0.5, 10, 0)))).model.metadata[
        "fingerprint"
    ]
    same = predictor(tmp_path, Case(network(), experiment(NMSSettings(0.2, 0.5, 9, 0)))).model.metadata[
        "fingerprint"
    ]
    other = predictor(tmp_path, Case(network(trained=True), experiment(NMSSettings(0.01, 0.5, 10, 0))))
    assert first == same
    assert first != other.model.metadata["fingerprint"]


def test_the_network_itself_is_not_changed(case):
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    case.model.train()
    export_onnx(case.model, case.experiment)
    assert case.model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in case.model.state_dict().items())


def test_an_encrypted_export_runs_with_its_key(tmp_path, case):
    path = tmp_path / "model.etlt"
    write_onnx(path, export_onnx(case.model, case.experiment), "secret")
    assert opened(path, "secret").classes == ("car", "cyclist", "person")
    with pytest.raises(ModelFileProblem, match="key is not the one"):
        opened(path, "Secret")


def test_a_model_from_elsewhere_is_refused_with_the_reason(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    shape = [1, 3, 8, 8]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    path = tmp_path / "other.onnx"
    opsets = [onnx.helper.make_opsetid("", 17)]
    path.write_bytes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    with pytest.raises(ModelFileProblem, match="wasn't made by"):
        opened(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelFileProblem, match="can't load"):
        opened(path)


def test_suppression_of_eight_thousand_anchors_takes_milliseconds():
    from taomagic.engine.export.nms import append_nms

    anchors, classes = 8000, 3
    names = {"scores": ["N", classes, anchors], "boxes": ["N", anchors, 4]}
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in names.items()
    ]
    graph = onnx.helper.make_graph([], "tail", infos, [])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    append_nms(
        model,
        scores="scores",
        boxes="boxes",
        classes=classes,
        anchors=anchors,
        settings=NMSSettings(0.01, 0.6, 200, 0),
    )
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.9, (1, anchors, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0.02, 0.3, (1, anchors, 2))], axis=2).astype("f4")
    # As after a training: nearly all anchors are sure of the background.
    scores = (rng.uniform(size=(1, classes, anchors)) ** 40).astype("f4")
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        session.run(None, {"scores": scores, "boxes": boxes})
        seconds.append(time.perf_counter() - start)
    print(f"\nmedian {np.median(seconds) * 1e3:.2f} ms, {int((scores > 0.01).sum())} candidates")
    # A few milliseconds on two cores; the bound leaves room for a busy machine.
    assert np.median(seconds) < 0.05
