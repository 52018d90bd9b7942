"""Model files: the encrypted container, Keras-style HDF5, and what taomagic puts inside."""
