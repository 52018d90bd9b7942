"""How good a detector is: matching detections with the truth, and average precision."""
