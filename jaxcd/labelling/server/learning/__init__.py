"""Routes of what learns from the labels: scores, the next to judge, the blind sample and its figures."""
