"""Building damage maps from pre-/post-event satellite image pairs, in JAX."""

__version__ = "0.1.0"
