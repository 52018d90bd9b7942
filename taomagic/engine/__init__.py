"""The networks, in PyTorch: everything that a ``<task> <sub-task>`` command does, as a process of its own."""
