"""Distances, re-ranking, thresholds and search; pure NumPy."""
