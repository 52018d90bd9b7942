"""NVIDIA TAO in a notebook cell, with NVIDIA's containers or without them."""

__version__ = "0.1.0"
