"""From source folders to training batches: labels, layouts, the TFDS builder, splits, the Grain loader."""
