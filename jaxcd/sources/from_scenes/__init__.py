"""From large scenes to labelled tiles: planned, registered, read, judged."""
