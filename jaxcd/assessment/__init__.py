"""Figures that hold: a blind sample of buildings, what follows from it with intervals, and calibration."""
