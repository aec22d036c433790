"""Augmentation, losses, metrics, optimiser, steps, checkpoints and the training loop."""
