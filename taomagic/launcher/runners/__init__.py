"""The ways to run a command, behind one contract."""
