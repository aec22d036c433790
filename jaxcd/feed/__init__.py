"""From a dataset to batches: splits, crops, the loaders of both tasks."""
