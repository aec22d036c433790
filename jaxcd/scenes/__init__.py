"""Scenes: raster I/O under one input contract, catalogues, pairing, grids, registration. Never imports jax."""
