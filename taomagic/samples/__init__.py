"""Sample data to learn with: drawn street scenes, the specs and notebooks that use them, and pretrained weights.

Importing this needs nothing but the standard library; NumPy and OpenCV are loaded when something is drawn.
"""

from taomagic.samples.files import CopyReport, copy_notebook, copy_specs, notebook_nets, read_notebook
from taomagic.samples.layout import SampleSet, create
from taomagic.samples.weights import FetchedWeights, fetch_weights

__all__ = [
    "CopyReport",
    "FetchedWeights",
    "SampleSet",
    "copy_notebook",
    "copy_specs",
    "create",
    "fetch_weights",
    "notebook_nets",
    "read_notebook",
]
