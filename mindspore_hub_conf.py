"""The file name that the MindSpore Hub client looks for; see ``hub_conf.py`` beside it."""

import importlib.util
from pathlib import Path

# By location: a module of that name may have come from another hub folder.
_spec = importlib.util.spec_from_file_location(
    "multitasknet_hub_conf", Path(__file__).resolve().with_name("hub_conf.py")
)
assert _spec is not None and _spec.loader is not None
_hub_conf = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_hub_conf)

create_network = _hub_conf.create_network

__all__ = ["create_network"]
