"""Evaluating a network on a data set."""
