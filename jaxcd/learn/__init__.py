"""Augmentation, losses, metrics, the optimiser and the training step, on arrays alone."""
