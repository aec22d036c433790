"""Ground that all rooms stand on and that knows no domain: types, errors, files and locks, processes, progress."""
