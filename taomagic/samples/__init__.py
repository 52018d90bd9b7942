"""Sample data to learn with: drawn street scenes, and the specs and notebooks that use them.

Importing this needs nothing but the standard library; NumPy and OpenCV are loaded when something is drawn.
"""

from taomagic.samples.files import CopyReport, copy_notebook, copy_specs, notebook_nets, read_notebook
from taomagic.samples.layout import SampleSet, create

__all__ = [
    "CopyReport",
    "SampleSet",
    "copy_notebook",
    "copy_specs",
    "create",
    "notebook_nets",
    "read_notebook",
]
