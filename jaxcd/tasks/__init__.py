"""What a run learns, one file a task, and the training loop."""
