"""From a tile dataset to batches: splits, crops, loaders."""
