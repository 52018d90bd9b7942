"""What the experiment is: the files that describe it and the command lines that run it."""
