"""Imports go one way: each room knows itself and those below it."""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from importlib.util import resolve_name
from pathlib import Path

from multitasknet.models import NETWORKS

SOURCE = Path(__file__).resolve().parents[1] / "src"
# Low to high. A room is a folder or a module of the package.
ROOMS = (
    "errors; files runtime device; images; vehicle; models; weights; hub; data; report; ranking; "
    "inference; evaluation; gallery; tracking; training; demo; integrations; system; server; cli; "
    "__main__"
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS.split(";")) for room in rooms.split()}


def imports_of(path: Path) -> set[str]:
    """Full names of all that a module imports, wherever it does."""
    package, found = ".".join(path.relative_to(SOURCE).parts[:-1]), set[str]()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = resolve_name("." * node.level + (node.module or ""), package)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


IMPORTS = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts): imports_of(path)
    for path in SOURCE.rglob("*.py")
    if path != SOURCE / "multitasknet" / "__init__.py"
}
ROOM_OF = {name: name.split(".")[1] for name in IMPORTS if name.startswith("multitasknet.")}


def test_imports_go_one_way() -> None:
    assert set(ROOM_OF.values()) == set(LEVEL)
    for name, room in ROOM_OF.items():
        for other in IMPORTS[name]:
            if other.startswith("multitasknet.") and (to := other.split(".")[1]) != room:
                assert LEVEL.get(to, -1) < LEVEL[room], f"{name} imports {other}"


def test_rooms_below_training_work_for_any_network_and_import_none() -> None:
    networks = tuple(f"multitasknet.models.{network}" for network in NETWORKS)
    found = [name for name in ROOM_OF if any(one.startswith(networks) for one in IMPORTS[name])]
    below = [name for name in found if LEVEL[ROOM_OF[name]] <= LEVEL["tracking"]]
    assert [one for one in below if ROOM_OF[one] != "models"] == []


def test_the_generator_knows_vehicles_alone_and_only_its_command_knows_the_generator() -> None:
    own = set().union(*(IMPORTS[name] for name in IMPORTS if name.startswith("vehiclesynth.")))
    known = {name.rpartition(".")[0] for name in own if name.startswith("multitasknet")}
    rooms = ("attributes", "keypoints", "maps")
    assert known == {f"multitasknet.vehicle.{room}" for room in rooms}
    users = [name for name in ROOM_OF if "vehiclesynth" in " ".join(IMPORTS[name])]
    assert users == ["multitasknet.cli.synthesize"]


def test_the_wheel_has_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(SOURCE.parent / "setup.cfg")
    named = set(setup["options"]["packages"].split()) - {"multitasknet.assets"}
    found = (path.parent.relative_to(SOURCE).parts for path in SOURCE.rglob("__init__.py"))
    assert named == set(map(".".join, found))


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, multitasknet; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mindspore", "numpy", "cv2", "PIL", "onnxruntime"} & set(done.stdout.split())
