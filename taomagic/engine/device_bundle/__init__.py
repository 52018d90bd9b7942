"""A model as a folder that runs without taomagic: on a Jetson, or wherever NumPy, Pillow and a runtime are."""
