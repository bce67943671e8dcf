"""A stand-in for the Hub client 2.0.0, which no package registry carries.

It follows, step by step, what ``mindspore_hub.load`` does with card, code folder and asset, and
refuses what the client's validator refuses.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import types
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml
from mindspore import load_checkpoint, load_param_into_net, nn

# Where links are asked for that lead elsewhere than to loopback, such as those of shipped cards.
SITE = "HUB_CLIENT_SITE"
_REQUIRED = (
    *("model-name", "backbone-name", "module-type", "fine-tunable", "model-version", "author"),
    *("update-time", "repo-link", "user-id", "used-for", "mindspore-version", "license", "summary"),
)
# Those of the client's 388 that are known for certain; all others count as unknown.
_DATASETS = {"VeRi", "veri", "veir"}
_MODULES = {"gnn", "rl", "audio", "cv", "cvtmodel", "nlp", "recommend", "cross"}
_MODULES |= {"hpc", "mm", "other"}
_USES = {"inference", "extract-feature", "transfer-learning"}
_FORMATS = {"air", "ckpt", "onnx", "mindir", "mslite"}
_COLON_ALLOWED = ("repo-link", "asset", "evaluation")


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
    header = check_card(card.read_text(encoding="utf-8"))
    for link in (header["repo-link"], *(asset["asset-link"] for asset in header["asset"])):
        with _get(link, stream=True) as response:
            if not response.ok:
                raise ValueError(f"{link} is not a valid url")
    code = card.parent / header["repo-link"].strip("<>").rpartition("/")[2]
    if not code.is_dir():
        raise OSError(f"the stand-in fetches no code: {code}")
    network = _create(header["model-name"], code, *args, **kwargs)
    if pretrained:
        asset = header["asset"][-1]["asset-link"].strip("<>")
        path = card.parent / asset.rpartition("/")[2]
        if not path.exists():
            print(f"the client downloads {asset}")
            path.write_bytes(_get(asset).content)
        load_param_into_net(network, load_checkpoint(str(path)))
    return network


def check_card(text: str) -> dict[str, Any]:
    """The front matter; ValueError for a card that the client's validator refuses."""
    lines = text.splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("---")]
    if len(fences) != 2:
        raise ValueError("expected two lines that start with '---'")
    if any(re.match(r"#+ .*:\s*$", line) for line in lines):
        raise ValueError("a heading ends in ':'")
    header = yaml.safe_load("\n".join(lines[fences[0] + 1 : fences[1]]))
    faults = [f"{field} is missing" for field in _REQUIRED if header.get(field) is None]
    faults += [
        f"remove the extra ':' in {field}"
        for field, value in header.items()
        if field not in _COLON_ALLOWED and ":" in str(value)
    ]
    module, *detail = str(header.get("module-type")).split("-")
    image = str(header.get("featured-image", "no-image"))
    assets = header.get("asset") or []
    checks = {
        "fine-tunable": isinstance(header.get("fine-tunable"), bool),
        "module-type": module in _MODULES and len(detail) <= 1,
        "used-for": set(str(header.get("used-for")).split("/")) <= _USES,
        "train-dataset": set(str(header.get("train-dataset", "veri")).split("_")) <= _DATASETS,
        "accuracy": isinstance(header.get("accuracy", 0), int | float),
        "allow-cache-ckpt": isinstance(header.get("allow-cache-ckpt", True), bool),
        "featured-image": image == "no-image" or image.startswith("images/"),
        "asset": isinstance(assets, list) and all(map(_is_asset, assets)),
    }
    faults += [f"{field} is {header.get(field)!r}" for field, fine in checks.items() if not fine]
    if faults:
        raise ValueError("; ".join(faults))
    return header


def _is_asset(asset: dict[str, Any]) -> bool:
    is_stated = {"asset-link", "asset-sha256", "file-format"} <= set(asset)
    return is_stated and asset["file-format"] in _FORMATS


def _get(link: str, **options: Any) -> requests.Response:
    url = urlsplit(link.strip("<>"))
    site = os.environ.get(SITE)
    if site and url.hostname != "127.0.0.1":
        return requests.get(f"{site}{url.path}", timeout=30, **options)
    return requests.get(url.geturl(), timeout=30, **options)


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
