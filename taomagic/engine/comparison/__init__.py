"""What a network loses and gains on its way from a checkpoint to an engine: precision, size and speed side by side."""
