"""Where things are: path variables, the mount map, path translation."""
