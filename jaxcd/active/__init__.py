"""Scores of buildings while a person labels: frozen features of both dates, a light head, the next to judge."""
