"""Imports go one way: each room knows itself and those below it."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from multitasknet.models import NETWORKS

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "multitasknet"
# Low to high. A room is a folder or a module of the package.
ROOMS = (
    "errors; files runtime device; images; vehicle; models; weights; hub; data; report; ranking; "
    "inference; evaluation; gallery; tracking; training; demo; integrations; system; server; cli; "
    "__main__"
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS.split(";")) for room in rooms.split()}
# These work for any network, through its spec; create_network's overloads name each for editors.
ANY_NETWORK = (
    *("vehicle", "weights", "hub", "data", "report", "ranking"),
    *("inference", "evaluation", "gallery", "tracking"),
)
NAMES_NETWORKS = ("hub", "create_network")
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").parts: ast.parse(path.read_text(encoding="utf-8"))
    for path in PACKAGE.rglob("*.py")
    if path != PACKAGE / "__init__.py"
}


def imported(place: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Absolute places below the package, of all imports of a module, wherever they stand."""
    for node in ast.walk(MODULES[place]):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = (*place[: len(place) - node.level], *(node.module or "").split("."))
            yield from ((*filter(None, module), alias.name) for alias in node.names)


def test_imports_go_one_way() -> None:
    assert {place[0] for place in MODULES} == set(LEVEL)
    wrong = [
        f"{'.'.join(place)} imports {'.'.join(other)}"
        for place in MODULES
        for other in imported(place)
        if other[0] != place[0] and LEVEL.get(other[0], -1) >= LEVEL[place[0]]
    ]
    assert wrong == []


def test_the_rooms_for_any_network_import_none() -> None:
    found = {
        place
        for place in MODULES
        if place[0] in ANY_NETWORK
        and any(other[0] == "models" and other[1] in NETWORKS for other in imported(place))
    }
    assert found == {NAMES_NETWORKS}


def test_the_generator_knows_vehicles_alone_and_only_its_command_knows_the_generator() -> None:
    def names(tree: ast.AST) -> set[str]:
        nodes = list(ast.walk(tree))
        plain = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
        return plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}

    files = (PACKAGE.parent / "vehiclesynth").glob("*.py")
    known = set().union(*(names(ast.parse(path.read_text(encoding="utf-8"))) for path in files))
    assert {name for name in known if name.startswith("multitasknet")} == {
        f"multitasknet.vehicle.{name}" for name in ("attributes", "keypoints", "maps")
    }
    users = [place for place, tree in MODULES.items() if "vehiclesynth" in " ".join(names(tree))]
    assert users == [("cli", "synthesize")]


def test_the_wheel_has_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parents[1] / "setup.cfg")
    named = set(setup["options"]["packages"].split()) - {"multitasknet.assets"}
    found = {
        path.parent.relative_to(PACKAGE.parent) for path in PACKAGE.parent.rglob("__init__.py")
    }
    assert named == {".".join(path.parts) for path in found}


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, multitasknet; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mindspore", "numpy", "cv2", "PIL", "onnxruntime"} & set(done.stdout.split())
