"""SSD: Single Shot MultiBox Detector (Liu et al., 2016), as NVIDIA TAO trains it."""
