"""Sources of tiles: layouts of folders, label files, and scenes that are cut into tiles."""
