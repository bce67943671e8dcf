"""A stand-in for the Hub client 2.0.0, which no package registry carries.

It follows, step by step, what ``mindspore_hub.load`` does with card, code folder and asset.
"""

from __future__ import annotations

import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import requests
import yaml
from mindspore import load_checkpoint, load_param_into_net, nn

_FREE_FIELDS = ("repo-link", "asset", "evaluation")


class _Manage(types.ModuleType):
    hub_dir = "~/.mscache"

    def set_hub_dir(self, path: str) -> None:
        self.hub_dir = path

    def get_hub_dir(self) -> str:
        return str(Path(self.hub_dir).expanduser().absolute())


def install() -> types.ModuleType:
    """The real client if it is installed, else this one under its name."""
    try:
        import mindspore_hub
    except ImportError:
        mindspore_hub = types.ModuleType("mindspore_hub")
        mindspore_hub.manage = _Manage("mindspore_hub.manage")
        mindspore_hub.load = load
        sys.modules["mindspore_hub"] = mindspore_hub
        sys.modules["mindspore_hub.manage"] = mindspore_hub.manage
    return mindspore_hub


def load(
    name: str,
    *args: Any,
    source: str = "gitee",
    pretrained: bool = True,
    force_reload: bool = False,
    **kwargs: Any,
) -> nn.Cell:
    """Find the card, find the code, call ``create_network``, load the asset."""
    if source == "local":
        warnings.warn("Use local directory, `pretrained` maybe not work.", stacklevel=2)
        card = Path(name).expanduser().resolve()
    else:
        hub_dir = Path(sys.modules["mindspore_hub"].manage.get_hub_dir())
        card = hub_dir / f"{name}.md"
    if not card.is_file() or force_reload:
        raise OSError(f"the stand-in fetches no cards: {card}")
    header = _validate(card)
    code = card.parent / header["repo-link"].strip("<>").rpartition("/")[2]
    if not code.is_dir():
        raise OSError(f"the stand-in fetches no code: {code}")
    network = _create(header["model-name"], code, *args, **kwargs)
    if pretrained:
        asset = header["asset"][-1]["asset-link"].strip("<>")
        path = card.parent / asset.rpartition("/")[2]
        if not path.exists():
            print(f"the client downloads {asset}")
            path.write_bytes(requests.get(asset, timeout=30).content)
        load_param_into_net(network, load_checkpoint(str(path)))
    return network


def _validate(card: Path) -> dict[str, Any]:
    lines = card.read_text().splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("---")]
    if len(fences) != 2:
        raise ValueError(f"expected two lines that start with '---' in {card}")
    header = yaml.safe_load("\n".join(lines[fences[0] + 1 : fences[1]]))
    if not isinstance(header["fine-tunable"], bool):
        raise TypeError("`fine-tunable` must be `bool`")
    for field, value in header.items():
        if field not in _FREE_FIELDS and ":" in str(value):
            raise ValueError(f"Remove extra ':' in field {field}")
    for link in (header["repo-link"], *(asset["asset-link"] for asset in header["asset"])):
        with requests.get(link.strip("<>"), timeout=30, stream=True) as response:
            if not response.ok:
                raise ValueError(f"{link} is not a valid url")
    return header


def _create(name: str, code: Path, *args: Any, **kwargs: Any) -> nn.Cell:
    sys.path.insert(0, str(code))
    configuration = code / "mindspore_hub_conf.py"
    if not configuration.exists():
        raise ValueError(f"{configuration} not exists.")
    spec = importlib.util.spec_from_file_location("mindspore_hub_conf.py", configuration)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.create_network(name.lower(), *args, **kwargs)
    if not isinstance(network, nn.Cell):
        raise TypeError(f"`create_net` should be return a `Cell`, but got {type(network)}")
    return network
