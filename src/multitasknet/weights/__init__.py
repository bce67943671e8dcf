"""Weights files of every layout: reading, loading, converting."""
