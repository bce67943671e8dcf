"""Data sets: labels, layouts, records, samples and batches."""
