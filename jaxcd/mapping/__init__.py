"""Whole scenes to a damage map: seam-free windows, rasters, polygons, buildings, a page to look at."""
