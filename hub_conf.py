"""Entry point of the Hub module: ``hub_conf.create_network(...)``."""

import sys
from pathlib import Path

# In a checkout or a hub folder the package stands beside this file; in a wheel it is installed.
_SOURCE = Path(__file__).resolve().parent / "src"
if _SOURCE.is_dir() and str(_SOURCE) not in sys.path:
    sys.path.insert(0, str(_SOURCE))

from multitasknet import create_network  # noqa: E402

__all__ = ["create_network"]
