"""Whether this machine computes what it should; see :mod:`.checks`."""
