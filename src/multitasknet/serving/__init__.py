"""The network for other runtimes: folded, exported, quantised."""
