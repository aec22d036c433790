"""Augmentation of batches on the device: what both dates share, and what makes them differ."""
