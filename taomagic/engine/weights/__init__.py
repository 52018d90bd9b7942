"""Weights of a network: in its files, and from files of other programs. The same for every network."""
