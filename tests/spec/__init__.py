"""Tests of the spec room; a package, because its modules share helpers."""
