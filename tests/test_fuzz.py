"""Anything at all, for every reader: only this package's errors or a valid result come out.

A surface gets 100 examples in a normal run, 1,000 with ``--hypothesis-profile=deep``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from conftest import ASSETS, PHOTO
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save
from test_commands import all_commands

from multitasknet.cli import main
from multitasknet.data.boxes import read_boxes
from multitasknet.data.labels import COLUMNS, read_labels
from multitasknet.data.layouts import read_dataset
from multitasknet.errors import MultiTaskNetError
from multitasknet.gallery.entries import read_manifest
from multitasknet.hub.card import load_card
from multitasknet.images import read_image
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.training.settings import SETTINGS, check_settings, read_config
from multitasknet.weights.formats import _message_class
from multitasknet.weights.read import check_values, read_weights
from multitasknet.weights.sidecar import read_sidecar, write_sidecar

fuzz = settings(deadline=None, suppress_health_check=list(HealthCheck))
Contents = st.SearchStrategy[Any]


def survives(call: Callable[[], Any]) -> Any:
    """What a call gives, None if it is one of this package's errors; any other is a failure."""
    try:
        return call()
    except MultiTaskNetError as error:
        assert str(error)
        return None


def write(path: Path, content: str | bytes) -> Path:
    # Unlinked, not truncated: readers may have mapped what was there.
    path.unlink(missing_ok=True)
    is_bytes = isinstance(content, bytes)
    path.write_bytes(content if is_bytes else content.encode("utf-8", "surrogatepass"))
    return path


# Values, from the plain to the hostile

odd_text = st.text(max_size=20) | st.sampled_from(
    ["", " ", "..", "/", "a/b", "\0", "\ufeff", "-1", "1e999", "nan", "\uff11", "*a", "&a [*a]"]
)
odd_numbers = st.one_of(
    *(st.integers(), st.floats(), st.booleans(), st.none()),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400]),
)
odd_values = st.recursive(
    odd_numbers | odd_text,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
hostile = st.sampled_from(["", "[" * 3000, '{"a":' * 2000, "nul", '"\ud800"', "[1]]"])
cells = odd_text | odd_numbers.map(str) | st.sampled_from(["1e39", "-3", "\u0663", "1.0", "1."])


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut, overwritten, or into which others came."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        kept = changed[place : place + 64]
        flipped, inserted = bytes(one ^ 1 for one in kept), draw(st.binary(max_size=32))
        new = [b"", bytes(len(kept)), bytes(kept) * 3, flipped, inserted + kept]
        changed[place : place + 64] = draw(st.sampled_from(new))
    return bytes(changed[: draw(st.sampled_from([None, len(changed) // 2]))])


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """JSON of which some values, at any depth, are others or missing."""
    if draw(st.integers(0, 5)) == 0 or not isinstance(value, dict | list) or not value:
        return draw(odd_values) if draw(st.booleans()) else value
    if isinstance(value, dict):
        kept = {name: draw(altered(one)) for name, one in value.items()}
        kept.pop(draw(st.sampled_from([None, None, None, *value])), None)
        return kept
    return [draw(altered(one)) if place < 3 else one for place, one in enumerate(value)]


def json_texts(plain: str) -> Contents:
    """Texts in place of a JSON document: altered, damaged or hostile."""
    broken = damaged(plain.encode()).map(lambda one: one.decode("latin-1"))
    return altered(json.loads(plain)).map(json.dumps) | broken | hostile


def csv_text(rows: Sequence[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[cell.replace("\0", "") for cell in row] for row in rows])
    return text.getvalue()


@st.composite
def csv_texts(draw: st.DrawFn, *rows: list[str]) -> str:
    """Rows like these, of which some cells are others, or some are missing."""
    changed = []
    for row in draw(st.lists(st.sampled_from(rows), min_size=1, max_size=4)):
        found = [draw(st.sampled_from([cell] * 9) | cells) for cell in row[:6]] + row[6:]
        changed.append(found[: draw(st.sampled_from([None, None, None, -1]))])
    return csv_text(changed)


# Files: what each looks like, and what is made of it

CARD = (ASSETS / "multitasknet_veri.md").read_text().partition("## Introduction")[0]


@st.composite
def cards(draw: st.DrawFn) -> str:
    """The card with another value."""
    lines = CARD.splitlines()
    number = draw(st.integers(0, len(lines) - 1))
    field, colon, _ = lines[number].partition(":")
    lines[number] = f"{field}{colon} {draw(odd_text | odd_values.map(json.dumps))}"
    return "\n".join(lines)


SIDECAR = json.dumps(
    {"format": 1, "vehicle_ids": [1, 2], "color_ids": [1], "type_ids": [], "size": [64, 64]}
    | {"colors": list(MultiTaskNetSpec.color_names), "types": list(MultiTaskNetSpec.type_names)}
    | {"variant": "segment", "pose_convention": "published", "metrics": {"mAP": 1.0}}
    | {"origin": {"epoch": 1, "versions": {"mindspore": "2"}}}
)


def use_sidecar(path: Path) -> None:
    weights = path.with_suffix(".ckpt")
    write_sidecar(weights, read_sidecar(weights, MultiTaskNetSpec(num_ids=2)))


RULES = dict.fromkeys(name for kind in SETTINGS.values() for name in kind.model_fields)
some_settings = st.dictionaries(st.sampled_from([*RULES, "more"]), odd_values, max_size=4)
odd_yaml = st.sampled_from(["&a [*a]", "!!int abc", "2022-13-45", "'", "[" * 500])
one_setting = st.tuples(st.sampled_from([*RULES]), odd_yaml).map(": ".join)


def use_settings(path: Path) -> None:
    found = check_settings(read_config(path), path.name)
    assert check_settings(found.as_json(), path.name) == found
    assert json.dumps(found.as_json(), allow_nan=False)


ROW = ["0001_c001_00000001_0.jpg", "1", "2", "3", *["0.5"] * (COLUMNS - 4)]
ANNOTATED = [ROW[0], "64", "48", *["1"] * (COLUMNS - 4)]
LABELS = csv_text([ROW, ["0002_c001_00000001_0.jpg", *ROW[1:]]])
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "attributes": {}, "bbox": [1, 2, 3, 4], "score": 0.5}
            | {"keypoints": [1, 2, 2] * 36}
        ],
        "categories": [{"id": 1, "name": "vehicle"}],
    }
)


def use_dataset(path: Path) -> None:
    read_dataset(path.parent, check=False)


XML = '<T><Items><Item imageName="a.jpg" vehicleID="1" cameraID="c001"/></Items></T>'
LIST = "a.jpg 1 2\nb.jpg 3 c004"


def picture(form: str, mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(content, form)
    return content.getvalue()


FORMS = "JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "ICO"
MODES = [("PNG", "RGBA"), ("PNG", "P"), ("PNG", "I;16"), ("TIFF", "F"), ("JPEG", "CMYK")]
PICTURES = [*map(picture, FORMS), *(picture(*one) for one in MODES)]
ARRAYS = {
    "base.conv0.weight": np.zeros((2, 3, 1, 1), np.float32),
    "fc_vid.weight": np.zeros((2, 1132), np.float32),
    "classifier_vid.bias": np.zeros(2, np.float32),
}
SAFE = save(ARRAYS)


def ckpt() -> bytes:
    message = _message_class()()
    for name, array in ARRAYS.items():
        entry = message.value.add()
        entry.tag, entry.tensor.tensor_type = name, "Float32"
        entry.tensor.dims.extend(array.shape)
        entry.tensor.tensor_content = array.tobytes()
    return message.SerializeToString()


def use_weights(path: Path) -> None:
    weights = read_weights(path)
    survives(lambda: check_values(weights))
    _ = weights.spec


class Surface(NamedTuple):
    """A file that is accepted, what may come in its place, and what reads it."""

    name: str
    plain: str | bytes
    contents: Contents
    use: Callable[[Path], object]

    def read(self, folder: Path, content: str | bytes) -> None:
        write(folder / "a.jpg", PICTURES[0])
        write(folder / "name_train.txt", "a.jpg")
        self.use(write(folder / self.name, content))


VEHICLES = ["image", "vehicle_id", "camera", "color", "type"], ["a.jpg", "1", "c002", "red", "3"]
MANIFEST = ["image", "id", "camera", "time", "lane"], ["a.jpg", "x", "c1", "2026-11-01T08:00", "5"]
BOXES = ["image", "x1", "y1", "x2", "y2", "track"], ["a.jpg", "1", "2", "50", "60", "7"]
MOT = b"1,2,10,20,30,40,1,-1,-1,-1\n2,2,10,20,30,40,1,-1,-1,-1\n"
YOLO, KITTI = b"2 0.5 0.5 0.2 0.2 0.9\n", b"Car 0 0 -1.6 1 2 50 60 -1 -1 -1 -1 -1 -1 -1 0.9\n"
SURFACES = [
    Surface("card.md", CARD, cards(), load_card),
    Surface("w.json", SIDECAR, json_texts(SIDECAR), use_sidecar),
    Surface("a.yaml", "epochs: 2", some_settings.map(yaml.safe_dump) | one_setting, use_settings),
    Surface("l.csv", LABELS, csv_texts(ROW, ANNOTATED) | damaged(LABELS.encode()), read_labels),
    Surface("c.json", COCO, json_texts(COCO), read_labels),
    Surface("train.csv", csv_text(VEHICLES), csv_texts(*VEHICLES), use_dataset),
    Surface("train_label.xml", XML, damaged(XML.encode()), use_dataset),
    Surface("vric_train.txt", LIST, damaged(LIST.encode()), use_dataset),
    Surface("m.csv", csv_text(MANIFEST), csv_texts(*MANIFEST), read_manifest),
    Surface("boxes.csv", csv_text(BOXES), csv_texts(*BOXES), read_boxes),
    Surface("boxes.json", COCO, json_texts(COCO), read_boxes),
    Surface("boxes.txt", MOT, damaged(MOT) | damaged(YOLO) | damaged(KITTI), read_boxes),
    Surface("x.jpg", PICTURES[0], st.sampled_from(PICTURES).flatmap(damaged), read_image),
    Surface("w.ckpt", ckpt(), damaged(ckpt()), use_weights),
    Surface("w.safetensors", SAFE, damaged(SAFE), use_weights),
]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
@pytest.mark.filterwarnings("ignore")
def test_a_plain_file_is_read(surface: Surface, tmp_path: Path) -> None:
    surface.read(tmp_path, surface.plain)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
@pytest.mark.filterwarnings("ignore")
@fuzz
@given(data=st.data())
def test_any_file_is_read_or_refused(surface: Surface, tmp_path: Path, data: st.DataObject) -> None:
    content = data.draw(surface.contents)
    survives(lambda: surface.read(tmp_path, content))


# Command lines

odd_words = ["nowhere", "/proc/self/mem", "/dev/null", "~nosuchuser/x", "x" * 300, "a\udcff"]
files_and_numbers = [".lance", "a.ckpt", "x.onnx", str(PHOTO), "0", "1", "9" * 40, "1e9"]
words_of_a_line = odd_text | st.sampled_from([*odd_words, *files_and_numbers])
# They train, draw or serve if what they are given happens to be right; or go online.
COMMANDS = {
    name: [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    for name, parser in all_commands().items()
    if name not in ("demo", "serve", "synthesize", "finetune", "adapt", "download", "gallery")
}
KEPT_OUT = {"--ray", "--system"}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    name = draw(st.sampled_from(sorted(COMMANDS)))
    line = name.split()
    for action in COMMANDS[name]:
        option = list(action.option_strings[:1])
        if KEPT_OUT & set(option) or (option and not action.required and draw(st.integers(0, 3))):
            continue
        words = st.sampled_from(list(action.choices)) if action.choices else words_of_a_line
        line += option if action.nargs == 0 else [*option, str(draw(words))]
    return [part.replace("\0", "") for part in line]


@fuzz
@given(command_lines())
@pytest.mark.filterwarnings("ignore")
def test_command_lines(tmp_path: Path, line: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        # Not the card's, as in tests nothing is shipped: nothing is downloaded.
        patch.setenv("MULTITASKNET_WEIGHTS", "nowhere.ckpt")
        try:
            code = main(line)
        except SystemExit as stopped:
            code = stopped.code
    assert code in (0, 1, 2)
