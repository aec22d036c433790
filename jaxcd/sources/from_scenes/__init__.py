"""Turns large scenes into labelled tiles: plans places, registers acquisitions, reads and filters tiles."""
