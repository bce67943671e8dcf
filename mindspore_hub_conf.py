"""The file name that the MindSpore Hub client looks for; see ``hub_conf.py``."""

from hub_conf import create_network

__all__ = ["create_network"]
