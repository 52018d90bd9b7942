"""Structured pruning: whole filters are removed, and the network gets really smaller."""
