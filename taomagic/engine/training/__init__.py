"""What every network's training needs: schedule, regulariser, one epoch, checkpoints, and resuming."""
