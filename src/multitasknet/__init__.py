"""Vehicle re-identification with colour and type (PAMTRI) as a MindSpore Hub module.

The public names stand in ``__init__.pyi``. They are imported on first use, so that ``import
multitasknet`` stays light and MindSpore is loaded only by what needs it.
"""

from __future__ import annotations

from typing import Any

import lazy_loader

__version__ = "0.4.0"

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _attribute(name)
