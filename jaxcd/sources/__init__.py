"""What lies on disk before a dataset is built: one file a layout of tiles, and scenes in `from_scenes`."""
