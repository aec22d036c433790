"""Rasters under one input contract: scenes, windows, grids, pairing, registration, vector layers. Never imports jax."""
