"""The product shown in one command, offline: from shipped weights, or trained from nothing."""
