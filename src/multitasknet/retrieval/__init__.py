"""Embedding galleries and searching them."""
