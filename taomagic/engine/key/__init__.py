"""Keys of encrypted model files."""
