"""Data sets: records, samples, packs, and the input pipeline."""
