"""Tile datasets: how they are built from a source, and how they are read."""
