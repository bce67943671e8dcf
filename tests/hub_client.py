"""A stand-in for the Hub client 2.0.0, which no package registry carries.

It follows, step by step, what ``mindspore_hub.load`` does with card, code folder and asset, and
refuses what the client's validator refuses. It asks for no links and downloads nothing.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import yaml
from mindspore import load_checkpoint, load_param_into_net, nn

_REQUIRED = (
    *("model-name", "backbone-name", "module-type", "fine-tunable", "model-version", "author"),
    *("update-time", "repo-link", "user-id", "used-for", "mindspore-version", "license", "summary"),
)
# Those of the client's 388 that are known for certain; all others count as unknown.
_DATASETS = {"VeRi", "veri", "veir"}
_MODULES = {*("gnn", "rl", "audio", "cv", "cvtmodel", "nlp", "recommend", "cross", "hpc", "mm")}
_USES = {"inference", "extract-feature", "transfer-learning"}
_FORMATS = {"air", "ckpt", "onnx", "mindir", "mslite"}
_COLON_ALLOWED = ("repo-link", "asset", "evaluation")


def install(hub_dir: str) -> types.ModuleType:
    """The client under its name, with a hub folder."""
    client, manage = (types.ModuleType(f"mindspore_hub{end}") for end in ("", ".manage"))
    folder = [hub_dir]
    manage.get_hub_dir = lambda: folder[-1]
    manage.set_hub_dir = folder.append
    client.manage, client.load = manage, load
    sys.modules |= {"mindspore_hub": client, "mindspore_hub.manage": manage}
    return client


def load(
    name: str, *args: Any, source: str = "gitee", pretrained: bool = True, **kwargs: Any
) -> nn.Cell:
    """Find the card, find the code, call ``create_network``, load the asset."""
    hub_dir = Path(sys.modules["mindspore_hub"].manage.get_hub_dir())
    card = Path(name) if source == "local" else hub_dir / f"{name}.md"
    header = check_card(card.read_text(encoding="utf-8"))
    code = card.parent / header["repo-link"].strip("<>").rpartition("/")[2]
    sys.path.insert(0, str(code))
    spec = importlib.util.spec_from_file_location("conf", code / "mindspore_hub_conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    network = module.create_network(header["model-name"].lower(), *args, **kwargs)
    assert isinstance(network, nn.Cell)
    if pretrained:
        asset = header["asset"][-1]["asset-link"].strip("<>")
        values = load_checkpoint(str(card.parent / asset.rpartition("/")[2]))
        load_param_into_net(network, values)
    return network


def check_card(text: str) -> dict[str, Any]:
    """The front matter; ValueError for a card that the client's validator refuses."""
    lines = text.splitlines()
    first, last = (number for number, line in enumerate(lines) if line.startswith("---"))
    header = yaml.safe_load("\n".join(lines[first + 1 : last]))
    module, *detail = str(header.get("module-type")).split("-")
    checks = {
        "a heading ends in ':'": not any(re.match(r"#+ .*:\s*$", line) for line in lines),
        "a field is missing": all(header.get(field) is not None for field in _REQUIRED),
        "a colon too many": not any(
            ":" in str(value) for field, value in header.items() if field not in _COLON_ALLOWED
        ),
        "fine-tunable": isinstance(header.get("fine-tunable"), bool),
        "module-type": module in _MODULES | {"other"} and len(detail) <= 1,
        "used-for": set(str(header.get("used-for")).split("/")) <= _USES,
        "train-dataset": set(str(header.get("train-dataset", "veri")).split("_")) <= _DATASETS,
        "asset": all(map(_is_asset, header["asset"])),
    }
    if faults := [fault for fault, is_fine in checks.items() if not is_fine]:
        raise ValueError("; ".join(faults))
    return header


def _is_asset(asset: dict[str, Any]) -> bool:
    is_stated = {"asset-link", "asset-sha256", "file-format"} <= set(asset)
    return is_stated and asset["file-format"] in _FORMATS
