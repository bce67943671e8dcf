"""Every code block of README and docs runs, or says in a comment above it why it does not."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

from multitasknet import __version__, create_network, save_weights
from multitasknet.cli import main
from vehiclesynth import synthesize

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"(?:^<!-- (.+?) -->\n)?^```(\w+)\n(.*?)^```$", re.M | re.S)
# What a shell does more with than pass it on.
_SHELL = re.compile(r"[$`*?~|&;<>(){}\\\[\]]")
# Why a block may stay unrun; the test command is what runs this.
_MARKS = re.compile(r"not run: .{5,}|needs the network|test command")


def blocks_of(page: Path) -> list[tuple[str, str, str, str]]:
    """Page and line of each code block, the comment above it or nothing, language, and code."""
    text = page.read_text(encoding="utf-8")
    return [
        (f"{page.name}:{text.count(chr(10), 0, found.start(3)) + 1}", *found.groups(""))
        for found in _BLOCK.finditer(text)
    ]


@pytest.fixture(scope="module")
def supplies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take as given: a data set ROOT, crops, a picture, and weights."""
    folder = tmp_path_factory.mktemp("supplies")
    synthesize(folder / "ROOT", vehicles=4, images=4, cameras=2, pixels=48)
    (folder / "crops").mkdir()
    for image in sorted((folder / "ROOT" / "image_test").iterdir())[:8]:
        shutil.copy(image, folder / "crops")
    shutil.copytree(ROOT / "assets", folder / "assets")
    shutil.copy(next((folder / "ROOT" / "image_query").iterdir()), folder / "car.jpg")
    network = create_network(weights=None, num_ids=4)
    network.spec = replace(network.spec, input_size=(64, 64))
    save_weights(network, folder / "tuned.ckpt")
    return folder


@pytest.fixture
def _nothing_shipped() -> None:
    """Pages are run with what this version ships, as their readers run them."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_block_of_a_page_is_passed_over(page: Path) -> None:
    blocks, text = blocks_of(page), page.read_text(encoding="utf-8")
    languages = {language for _, _, language, _ in blocks}
    assert languages & {"sh", "python"} and languages <= {"sh", "python", "text"}
    fences = re.findall(r"^\s*```", text, re.M)
    assert len(fences) == 2 * len(blocks), "a block in a form that the runner does not find"
    marks = [mark for _, mark, *_ in blocks if mark]
    assert text.count("<!--") == len(marks), "a mark above no block"
    assert all(map(_MARKS.fullmatch, marks))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(
    page: Path, supplies: Path, tmp_path: Path, monkeypatch
) -> None:
    shutil.copytree(supplies, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for where, mark, language, code in blocks_of(page):
        if language == "python" and not mark:
            exec(compile(code, where, "exec"), names)
        elif language == "sh" and not mark:
            run(code, where)


def run(code: str, where: str) -> None:
    """Run a shell block: plain commands of ours in this process, anything else by the shell."""
    lines = [shlex.split(line, comments=True) for line in code.splitlines()]
    if any(line[0] != "multitasknet" or _SHELL.search(" ".join(line)) for line in lines):
        done = bash(code)
        assert done.returncode == 0, f"{where}\n{done.stdout}\n{done.stderr}"
        return
    for _, *arguments in lines:
        assert main(arguments) == 0, f"{where}: {arguments}"


def bash(command: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    how = {"capture_output": True, "text": True, "env": environment}
    return subprocess.run(["bash", "-euc", command], **how)


def test_the_shell_finds_the_command_that_the_blocks_are_run_by() -> None:
    assert bash("multitasknet --version").stdout == f"multitasknet {__version__}\n"


def test_what_benchmarks_and_examples_import_is_there() -> None:
    for script in (*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "examples").glob("*.py")):
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("multitasknet"):
                module = import_module(str(node.module))
                missing = [one.name for one in node.names if not hasattr(module, one.name)]
                assert not missing, f"{script.name}: {node.module} has no {missing}"


def test_what_docstrings_refer_to_is_there() -> None:
    """Modules, classes, functions and attributes; of other libraries the standard one's alone."""
    sources, names = [*(ROOT / "src").rglob("*.py")], {"dataclasses", "asdict"}
    texts = [path.read_text(encoding="utf-8") for path in sources]
    for path, text in zip(sources, texts, strict=True):
        names |= {*path.with_suffix("").parts}
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                names.add(node.name)
            elif isinstance(getattr(node, "ctx", None), ast.Store):
                names.add(getattr(node, "id", getattr(node, "attr", "")))
    for path, text in zip(sources, texts, strict=True):
        for named in re.findall(r":\w+:`[~.]*([\w.]+)`", text):
            assert {*named.split(".")} <= names, f"{path}: {named}"


def test_nothing_says_that_the_package_is_on_an_index() -> None:
    """Whoever takes that name there could put anything into it."""
    places = [*PAGES, ROOT / "CONTRIBUTING.md"]
    for folder in ("src", "assets", "examples"):
        places += [p for p in (ROOT / folder).rglob("*") if p.suffix in {".py", ".md", ".ipynb"}]
    wrong = re.compile(r"""pip install (-\S+ )*['"]?multitasknet""")
    assert [path for path in places if wrong.search(path.read_text(encoding="utf-8"))] == []
    # Nor is the Hub's client, whose name is free there.
    assert "mindspore-hub" not in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def test_the_tests_that_pages_name_are_there() -> None:
    tests = {path.stem: path.read_text(encoding="utf-8") for path in ROOT.glob("tests/*.py")}
    for page in PAGES:
        named = re.findall(r"`(test_\w+)(?:::(test_\w+))?`", page.read_text(encoding="utf-8"))
        for file, test in named:
            assert f"def {test}" in tests[file], f"{page.name}: {file}::{test}"


def test_every_picture_and_the_notebook_are_shown_or_linked() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for path in (*ROOT.glob("assets/*.jpg"), *ROOT.glob("examples/*.ipynb")):
        assert f"{path.parent.name}/{path.name}" in pages
