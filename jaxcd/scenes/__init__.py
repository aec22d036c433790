"""Raster I/O under one input contract, and the simulator of a damaged town. Never imports jax."""
