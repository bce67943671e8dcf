"""Galleries of vehicle crops: added to, searched, grouped, linked, and forgotten from."""
