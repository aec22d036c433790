"""What a map is made of: rasters, polygons, buildings, cells, styles, summary."""
