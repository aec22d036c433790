"""A run on disk and what a finished one offers: folder, checkpoints, logs, panels, inference."""
