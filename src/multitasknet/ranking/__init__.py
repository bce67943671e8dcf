"""Distances, metrics, re-ranking and thresholds; pure NumPy."""
