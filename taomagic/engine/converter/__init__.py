"""Engines: models built for the device they run on, by ONNX Runtime or TensorRT, and what it takes to build them."""
