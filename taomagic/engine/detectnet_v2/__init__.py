"""DetectNet_v2: a grid of cells, each of which says whether an object covers it, and where that object's sides are."""
