from __future__ import annotations

from dataclasses import replace

from taomagic.engine.export.deepstream import write_deepstream_files
from taomagic.engine.ssd.export import deepstream_model
from taomagic.spec.settings import NMSSettings

from .export_cases import experiment, network


def written(
    tmp_path, name: str, channels: int = 3, codec: str = "taomagic", **precision
) -> tuple[dict[str, str], str, str]:
    architecture = replace(network(channels).architecture, classes=("car", "person"))
    spec = experiment(NMSSettings(0.01, 0.5, 10, 0))
    config, labels = write_deepstream_files(
        tmp_path / name, deepstream_model(architecture, spec), codec=codec, **precision
    )
    text = config.read_text()
    values = dict(line.split("=", 1) for line in text.splitlines() if not line.startswith("#"))
    return values, labels.read_text(), text


def test_a_colour_model(tmp_path):
    values, labels, _ = written(tmp_path, "ssd.onnx")
    assert values == {
        "onnx-file": "ssd.onnx",
        "net-scale-factor": "1.0",
        "offsets": "103.939;116.779;123.68",
        "infer-dims": "3;96;128",
        "network-type": "0",
        "num-detected-classes": "3",
        "labelfile-path": "labels.txt",
        "output-blob-names": "NMS;NMS_1",
        "model-color-format": "1",
        "maintain-aspect-ratio": "0",
        "output-tensor-meta": "0",
        "cluster-mode": "4",
    }
    assert labels == "background\ncar\nperson\n"


def test_a_grey_model(tmp_path):
    values, _, _ = written(tmp_path, "ssd.onnx", channels=1)
    assert values["model-color-format"] == "2"
    assert values["offsets"] == "117.3786"
    assert values["infer-dims"] == "1;96;128"


def test_the_limit_of_an_encrypted_model_is_said(tmp_path, caplog):
    values, _, text = written(tmp_path, "ssd.etlt")
    assert "nvinfer can't open ssd.etlt" in text
    assert "# onnx-file=ssd.onnx" in text
    assert "onnx-file" not in values, "there is no such file"
    assert "names no model" in caplog.text


def test_a_precision_and_its_calibration_are_named(tmp_path):
    cache = tmp_path / "more" / "cal.bin"
    values, _, _ = written(tmp_path, "ssd.onnx", data_type="int8", calibration=cache)
    assert (values["network-mode"], values["int8-calib-file"]) == ("1", "more/cal.bin")
    values, _, _ = written(tmp_path, "ssd.onnx", data_type="fp16")
    assert (values["network-mode"], "int8-calib-file" in values) == ("2", False)
    values, _, text = written(tmp_path, "ssd.onnx", data_type="int8")
    assert "network-mode" not in values
    assert "int8-calib-file" in text


def test_an_etlt_in_nvidias_encryption_is_named_and_its_key_is_not_written(tmp_path):
    values, _, text = written(tmp_path, "ssd.etlt", codec="nvidia")
    assert values["tlt-encoded-model"] == "ssd.etlt"
    assert "onnx-file" not in values
    assert "tlt-model-key" not in values
    assert "tlt-model-key" in text
