"""Convolutions; on a CPU by the oneDNN that jaxlib carries, where a trial has shown that it is right."""
