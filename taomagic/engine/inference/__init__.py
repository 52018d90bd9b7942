"""What the commands of all networks do with images and finished models: open, look, draw, list."""
