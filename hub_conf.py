"""Entry point of the Hub module: ``hub_conf.create_network(...)``."""

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_NAME = "multitasknet"


def _package() -> ModuleType:
    """The package beside this file, also where another copy of it is loaded already.

    In a checkout or a hub folder it is below ``src``; with a wheel it is installed.
    """
    source = Path(__file__).resolve().parent / "src"
    path = source / _NAME / "__init__.py"
    if not path.is_file():
        return importlib.import_module(_NAME)
    loaded = sys.modules.get(_NAME)
    if loaded is None or Path(str(loaded.__file__)).resolve() == path:
        if str(source) not in sys.path:
            sys.path.insert(0, str(source))
        return importlib.import_module(_NAME)
    name = f"{_NAME}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            name, path, submodule_search_locations=[str(path.parent)]
        )
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


create_network = _package().create_network

__all__ = ["create_network"]
