"""Convolutions by XLA, or on a CPU by jaxlib's oneDNN, if a trial has shown that its numbers are right."""
