"""Exported models: ONNX with post-processing inside, its runtime, and the files that DeepStream wants beside it."""
