"""Imports go one way: each room knows itself and those below it."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

from multitasknet.models import NETWORKS

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "multitasknet"
# Low to high. A room is a folder or a module of the package.
ROOMS = (
    ("errors",),
    ("files", "runtime", "device"),
    ("images",),
    ("vehicle",),
    ("models",),
    ("weights",),
    ("hub",),
    ("data",),
    ("report",),
    ("ranking",),
    ("inference",),
    ("evaluation",),
    ("gallery",),
    ("tracking",),
    ("training",),
    ("demo",),
    ("integrations",),
    ("system",),
    ("server",),
    ("cli",),
    ("__main__",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
# These work for any network, through its spec; create_network's overloads name each for editors.
ANY_NETWORK = (
    *("vehicle", "weights", "hub", "data", "report", "ranking"),
    *("inference", "evaluation", "gallery", "tracking"),
)
NAMES_NETWORKS = ("hub/create_network.py",)


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """Absolute places below the package, of all imports in a file, wherever they stand."""
    here = path.relative_to(PACKAGE).with_suffix("").parts
    package = here[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = (*base, *(node.module or "").split(".")) if node.module else base
            yield from ((*module, alias.name) for alias in node.names)


def room_of(place: tuple[str, ...]) -> str:
    return place[0]


def test_every_room_is_on_the_list() -> None:
    assert {room_of(path.relative_to(PACKAGE).with_suffix("").parts) for path in modules()} == set(
        LEVEL
    )


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    here = room_of(path.relative_to(PACKAGE).with_suffix("").parts)
    for place in imported(path):
        room = room_of(place)
        if room in LEVEL:
            assert room == here or LEVEL[room] < LEVEL[here], f"{here} imports {'.'.join(place)}"


def test_the_rooms_for_any_network_import_none() -> None:
    found = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if room_of(path.relative_to(PACKAGE).parts) in ANY_NETWORK
        and any(place[:1] == ("models",) and place[1] in NETWORKS for place in imported(path))
    }
    assert found == set(NAMES_NETWORKS)


def test_the_generator_knows_vehicles_alone_and_only_its_command_knows_the_generator() -> None:
    def names(path: Path) -> set[str]:
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        plain = [alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names]
        return {*plain, *(n.module or "" for n in nodes if isinstance(n, ast.ImportFrom))}

    generator = PACKAGE.parent / "vehiclesynth"
    known = set().union(*map(names, generator.glob("*.py")))
    assert {name for name in known if name.startswith("multitasknet")} == {
        "multitasknet.vehicle.attributes",
        "multitasknet.vehicle.keypoints",
        "multitasknet.vehicle.maps",
    }
    users = [path for path in modules() if any("vehiclesynth" in name for name in names(path))]
    assert users == [PACKAGE / "cli" / "synthesize.py"]


def test_the_wheel_has_every_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parents[1] / "setup.cfg")
    named = set(setup["options"]["packages"].split()) - {"multitasknet.assets"}
    source = PACKAGE.parent
    found = {path.parent.relative_to(source) for path in source.rglob("__init__.py")}
    assert named == {".".join(path.parts) for path in found}


def test_importing_the_package_loads_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, multitasknet; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"mindspore", "numpy", "cv2", "PIL", "onnxruntime"} & set(done.stdout.split())
