"""The file name that the MindSpore Hub client looks for; see ``hub_conf.py`` beside it."""

import runpy
from pathlib import Path

# By location: a module of that name may have come from another hub folder.
create_network = runpy.run_path(str(Path(__file__).resolve().with_name("hub_conf.py")))[
    "create_network"
]

__all__ = ["create_network"]
