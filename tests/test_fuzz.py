"""Anything at all, for every reader: only this package's errors or a valid result come out.

Two dozen surfaces share a profile's examples: 2,400 in a normal run, 24,000 with
``--hypothesis-profile=deep``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import stores
import yaml
from conftest import CARD
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save
from test_commands import all_commands

from multitasknet.cli import main
from multitasknet.data.coco import read_coco
from multitasknet.data.labels import COLUMNS, read_labels, read_visibility
from multitasknet.data.layouts import read_dataset
from multitasknet.errors import MultiTaskNetError
from multitasknet.gallery.entries import read_manifest
from multitasknet.gallery.gallery import Gallery
from multitasknet.hub.card import ModelCard, load_card
from multitasknet.images import read_image
from multitasknet.inference import cache
from multitasknet.inference.metadata import Metadata
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.models.vehiclepose.spec import VehiclePoseSpec
from multitasknet.training.settings import SETTINGS, check_settings, read_config
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.ckpt_file import _message_class
from multitasknet.weights.read import check_values, read_weights
from multitasknet.weights.sidecar import Sidecar, read_sidecar, write_sidecar

# The profile says how many examples a surface gets.
fuzz = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)


def survives(call: Callable[[], Any]) -> Any:
    """What a call gives, None if it is one of this package's errors; any other is a failure."""
    try:
        return call()
    except MultiTaskNetError as error:
        assert str(error)
        return None


# Values, from the plain to the hostile

odd_text = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", " ", "..", "/", "a/b", "\0", "\ufeff", "-1", "1e999", "nan", "\uff11"]),
)
odd_numbers = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400]),
    st.floats(),
    st.booleans(),
    st.none(),
)
odd_values = st.recursive(
    odd_numbers | odd_text,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
hostile_json = st.sampled_from(["", "[" * 3000, '{"a":' * 2000, "nul", '"\ud800"', "[1]]"])


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes that were cut, overwritten, or into which others came."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["flip", "cut", "zero", "insert", "repeat"]))
        place = draw(st.integers(0, max(len(changed) - 1, 0)))
        if kind == "flip" and changed:
            changed[place] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del changed[place:]
        elif kind == "zero":
            changed[place : place + 64] = bytes(len(changed[place : place + 64]))
        elif kind == "insert":
            changed[place:place] = draw(st.binary(max_size=32))
        else:
            changed[place:place] = changed[place : place + 32] * 3
    return bytes(changed)


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """JSON with a few of its values, at any depth, replaced, taken out or added."""
    changed = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 3))):
        place = changed
        while isinstance(place, dict | list) and place:
            keys = sorted(place) if isinstance(place, dict) else range(len(place))
            key = draw(st.sampled_from(list(keys)))
            below = place[key]
            if isinstance(below, dict | list) and below and draw(st.booleans()):
                place = below
                continue
            if draw(st.booleans()):
                place[key] = draw(odd_values)
            elif isinstance(place, dict):
                del place[key]
            else:
                place.append(draw(odd_values))
            break
    return changed


def json_texts(value: Any) -> st.SearchStrategy[str]:
    """Texts in place of a JSON document: altered, damaged or hostile."""
    return st.one_of(
        altered(value).map(json.dumps),
        altered(value).map(json.dumps),
        damaged(json.dumps(value).encode()).map(lambda one: one.decode("latin-1")),
        odd_values.map(json.dumps),
        hostile_json,
    )


def write(path: Path, content: str | bytes) -> Path:
    # Unlinked, not truncated: readers may have mapped what was there.
    path.unlink(missing_ok=True)
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    )
    return path


# Cards

PLAIN_CARD = CARD.format(
    url="https://example.com/a.ckpt",
    repo="https://example.com/r",
    sha256="0" * 64,
    mirrors="",
    version="1.7",
)
LINES = PLAIN_CARD.splitlines()
yaml_bits = (
    odd_text
    | st.sampled_from(
        ["*a", "&a [*a]", "!!int abc", "!!timestamp x", "!!python/object/apply:os.getpid []", "'"]
    )
    | st.sampled_from(
        ["2022-13-45", "[" * 500, "{a: 1}", "<http://[>", "https://example.com/%2e%2e", "|\n  x"]
    )
)


def use_card(path: Path) -> None:
    card = load_card(path)
    assert isinstance(card, ModelCard)
    assert ".." not in card.asset.folder.parts and "/" not in card.asset.file_name
    assert all(isinstance(value, float) for value in card.metrics.values())
    assert card.uid and card.asset.urls


@fuzz
@given(st.lists(st.tuples(st.integers(0, len(LINES) - 1), yaml_bits), min_size=1, max_size=4))
def test_card_fields(tmp_path: Path, changes: list[tuple[int, str]]) -> None:
    lines = list(LINES)
    for number, bit in changes:
        field, colon, _ = lines[number].partition(":")
        lines[number] = f"{field}{colon} {bit}"
    survives(lambda: use_card(write(tmp_path / "c.md", "\n".join(lines))))


@fuzz
@given(
    st.dictionaries(
        st.sampled_from([line.partition(":")[0] for line in LINES]) | odd_text, odd_values
    )
)
def test_card_front_matters(tmp_path: Path, fields: dict[str, Any]) -> None:
    text = f"---\n{yaml.safe_dump(fields)}---\n"
    survives(lambda: use_card(write(tmp_path / "c.md", text)))


# Documents

SIDECAR = {
    "format": 1,
    "vehicle_ids": [1, 2],
    "color_ids": [1],
    "type_ids": [],
    "size": [64, 64],
    "variant": "segment",
    "colors": list(MultiTaskNetSpec.color_names),
    "types": list(MultiTaskNetSpec.type_names),
    "pose_convention": "published",
    "metrics": {"mAP": 1.0},
    "origin": {"epoch": 1, "versions": {"mindspore": "2"}},
}


@fuzz
@given(json_texts(SIDECAR))
@example(json.dumps(SIDECAR))
def test_sidecars(tmp_path: Path, text: str) -> None:
    write(tmp_path / "w.json", text)
    found = survives(lambda: read_sidecar(tmp_path / "w.ckpt", MultiTaskNetSpec(num_ids=2)))
    if found is not None:
        assert isinstance(found, Sidecar) and isinstance(found.class_maps, ClassMaps)
        assert all(isinstance(value, float) for value in found.metrics.values())
        write_sidecar(tmp_path / "w.ckpt", found)


RULES = dict.fromkeys(name for kind in SETTINGS.values() for name in kind.rules())


@fuzz
@given(st.dictionaries(st.sampled_from([*RULES, "more"]), odd_values, max_size=4))
@example({"size": 10**400})
def test_settings(values: dict[str, Any]) -> None:
    found = survives(lambda: check_settings(values, "python"))
    if found is not None:
        assert all(rule.allows(getattr(found, name)) for name, rule in found.rules().items())
        assert json.dumps(found.as_json(), allow_nan=False)


@fuzz
@given(
    st.lists(
        st.tuples(st.sampled_from([*sorted(RULES), "", "? a"]), yaml_bits | odd_values.map(str)),
        max_size=4,
    )
)
def test_settings_in_yaml(tmp_path: Path, lines: list[tuple[str, str]]) -> None:
    text = "\n".join(f"{name}: {bit}" for name, bit in lines)
    found = survives(lambda: read_config(write(tmp_path / "s.yaml", text)))
    assert found is None or isinstance(found, dict)


@fuzz
@given(st.sampled_from([MultiTaskNetSpec(), VehiclePoseSpec()]), st.data())
def test_metadata(spec: Any, data: st.DataObject) -> None:
    (text,) = Metadata(spec).as_strings().values()
    hostile = data.draw(json_texts(json.loads(text)))
    found = survives(lambda: Metadata.from_strings({"multitasknet": hostile}, "model"))
    if found is not None:
        assert found.spec.input_shapes(found.spec.input_size)
        assert found.spec.output_shapes(found.spec.input_size)
        assert found.as_strings()


# Labels

ROW = ["0001_c001_00000001_0.jpg", "1", "2", "3", *["0.5"] * (COLUMNS - 4)]
cells = st.one_of(
    odd_text, odd_numbers.map(str), st.sampled_from(["1e39", "-3", "\u0663", "1.0", "1."])
)


def table(row: list[str]) -> st.SearchStrategy[list[list[str]]]:
    """Rows like this one, of which some cells are others, or some are missing."""
    cell = st.tuples(st.integers(0, len(row) - 1), cells)
    change = st.tuples(st.lists(cell, max_size=3), st.sampled_from([0, 0, 0, 1, -1]))
    return st.lists(change, min_size=1, max_size=3).map(lambda changes: list(_rows(row, changes)))


def _rows(row: list[str], changes: list[Any]) -> Iterator[list[str]]:
    for cells_of_row, more in changes:
        changed = list(row)
        for place, text in cells_of_row:
            changed[place] = text
        yield changed[: len(row) + min(more, 0)] + ["x"] * max(more, 0)


def csv_text(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[cell.replace("\0", "") for cell in row] for row in rows])
    return text.getvalue()


@fuzz
@given(table(ROW) | table([ROW[0], "64", "48", *["1"] * (COLUMNS - 4)]))
def test_label_rows(tmp_path: Path, rows: list[list[str]]) -> None:
    found = survives(lambda: read_labels(write(tmp_path / "label_train.csv", csv_text(rows))))
    for row in (found or {}).values():
        assert row.keypoints.shape == (36, 3) and np.isfinite(row.keypoints).all()
    dataset = survives(lambda: read_dataset(tmp_path, check=False))
    if dataset is not None:
        assert len(dataset.train) == len(found)
        assert dataset.train.vehicle_ids.dtype == np.int64


@fuzz
@given(damaged(csv_text([ROW, ROW]).encode()), damaged(b"a.jpg" + b",0" * 36 + b"\n"))
def test_damaged_label_files(tmp_path: Path, labels: bytes, visibility: bytes) -> None:
    survives(lambda: read_labels(write(tmp_path / "l.csv", labels)))
    found = survives(lambda: read_visibility(write(tmp_path / "v.csv", visibility)))
    assert all(len(seen) == 36 for seen in (found or {}).values())


HEADER = ["image", "vehicle_id", "camera", "color", "type"]


@fuzz
@given(
    table(["a.jpg", "1", "c002", "red", "3"]), st.permutations(HEADER) | st.lists(cells, max_size=6)
)
def test_csv_data_sets(tmp_path: Path, rows: list[list[str]], header: list[str]) -> None:
    write(tmp_path / "train.csv", csv_text([header, *rows]))
    dataset = survives(lambda: read_dataset(tmp_path, check=False))
    if dataset is not None:
        assert len(dataset.train.vehicle_ids) == len(dataset.train.camera_ids)


attributes = st.fixed_dictionaries(
    {"imageName": st.sampled_from(["a.jpg", "b.jpg", "..\\a.jpg"]) | odd_text},
    optional={
        "vehicleID": st.just("1") | cells,
        "cameraID": st.just("c001") | cells,
        "camID": st.just("1") | cells,
        "colorID": st.just("2") | cells,
        "typeID": st.just("0") | cells,
    },
)


@fuzz
@given(
    st.lists(attributes, max_size=3),
    st.sampled_from(["", "<", "&x;", "</Items>", "\x01"]),
    st.data(),
)
def test_xml_lists(
    tmp_path: Path, items: list[dict[str, str]], more: str, data: st.DataObject
) -> None:
    from xml.sax.saxutils import quoteattr

    rows = ["".join(f" {name}={quoteattr(value)}" for name, value in one.items()) for one in items]
    inside = "".join(f"<Item{one}/>" for one in rows) + more
    encoding = data.draw(st.sampled_from(["gb2312", "utf-8", "utf-16", "latin-1"]))
    text = f'<?xml version="1.0" encoding="{encoding}"?><T><Items>{inside}</Items></T>'
    content = text.encode(encoding, "ignore")
    if data.draw(st.booleans()):
        content = data.draw(damaged(content))
    write(tmp_path / "train_label.xml", content)
    names = data.draw(st.lists(st.sampled_from(["a.jpg", "b.jpg"]) | odd_text, max_size=3))
    write(tmp_path / "name_train.txt", "\n".join(names))
    survives(lambda: read_dataset(tmp_path, check=False))


COCO = {
    "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2] * 36, "attributes": {}}
    ],
    "categories": [{"id": 1, "name": "vehicle"}],
}


@fuzz
@given(json_texts(COCO))
@example(json.dumps(COCO))
def test_coco_files(tmp_path: Path, text: str) -> None:
    found = survives(lambda: read_coco(write(tmp_path / "c.json", text)))
    for row in (found or {}).values():
        assert row.keypoints.shape == (36, 3) and np.isfinite(row.keypoints).all()


# Pictures


def picture(form: str, mode: str = "RGB") -> bytes:
    content = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(content, form)
    return content.getvalue()


PICTURES = [
    *(picture(form) for form in ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "TGA", "ICO")),
    *(picture("PNG", mode) for mode in ("RGBA", "L", "P", "1", "I;16")),
    picture("TIFF", "F"),
    picture("JPEG", "CMYK"),
]


@fuzz
@given(st.sampled_from(PICTURES).flatmap(damaged) | st.binary(max_size=64))
@pytest.mark.filterwarnings("ignore")
def test_pictures(tmp_path: Path, content: bytes) -> None:
    found = survives(lambda: read_image(write(tmp_path / "x.jpg", content)))
    assert found is None or (found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3)


# Weights

ARRAYS = {
    "base.conv0.weight": np.zeros((2, 3, 1, 1), np.float32),
    "fc_vid.weight": np.zeros((2, 1132), np.float32),
    "classifier_vid.bias": np.zeros(2, np.float32),
}


def ckpt(entries: dict[str, np.ndarray]) -> bytes:
    message = _message_class()()
    for name, array in entries.items():
        entry = message.value.add()
        entry.tag = name
        entry.tensor.tensor_type = "Float32"
        entry.tensor.dims.extend(array.shape)
        entry.tensor.tensor_content = array.tobytes()
    return message.SerializeToString()


def use_weights(path: Path) -> None:
    weights = read_weights(path)
    survives(lambda: check_values(weights))
    _ = weights.spec


@fuzz
@given(damaged(ckpt(ARRAYS)) | damaged(ckpt({"a": np.zeros(3, np.float32)})))
def test_damaged_checkpoints(tmp_path: Path, content: bytes) -> None:
    survives(lambda: use_weights(write(tmp_path / "w.ckpt", content)))


parts = ["conv1.weight", "stage2.0.branches.0.0.conv1.weight", "final_layer.weight", "fc.weight"]
names = st.sampled_from([*ARRAYS, *parts]) | st.text(max_size=12)
shapes = st.lists(st.integers(0, 3), max_size=4)
kinds = st.sampled_from(["Float32", "Int64", "BFloat16", "str", "Float9", ""])


@fuzz
@given(st.lists(st.tuples(names, shapes, kinds, st.integers(-4, 4)), max_size=5))
def test_checkpoints_of_any_names_and_shapes(tmp_path: Path, entries: list[Any]) -> None:
    message = _message_class()()
    for name, shape, kind, more in entries:
        entry = message.value.add()
        entry.tag = name.encode("utf-8", "ignore").decode()
        entry.tensor.tensor_type = kind
        entry.tensor.dims.extend([*shape, more] if more < 0 else shape)
        entry.tensor.tensor_content = bytes(4 * int(np.prod(shape)) + max(more, 0))
    survives(lambda: use_weights(write(tmp_path / "w.ckpt", message.SerializeToString())))


SAFE = save(ARRAYS)
SAFE_HEAD = json.loads(SAFE[8 : 8 + int.from_bytes(SAFE[:8], "little")])


@fuzz
@given(damaged(SAFE) | json_texts(SAFE_HEAD))
def test_safetensors(tmp_path: Path, content: bytes | str) -> None:
    if isinstance(content, str):
        head = content.encode("utf-8", "replace")
        content = (
            len(head).to_bytes(8, "little") + head + SAFE[8 + int.from_bytes(SAFE[:8], "little") :]
        )
    survives(lambda: use_weights(write(tmp_path / "w.safetensors", content)))


# What is kept


@fuzz
@given(st.data())
def test_what_is_kept_is_used_whole_or_not_at_all(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    cache.keep(tmp_path / "c", "k", ".onnx", b"content" * 9)
    (made,) = (tmp_path / "c").iterdir()
    content = data.draw(damaged(made.read_bytes()))
    write(made, content)
    found = cache.find(tmp_path / "c", "k", ".onnx")
    assert found == (content if content == b"content" * 9 else None)


# Gallery stores


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("city") / "city.lance"
    predictor = stores.PixelPredictor()
    gallery = Gallery.create(path, predictor)
    gallery.add(predictor, [stores.draw(path.parent / "crops", 4)[0].parent], progress=False)
    return path


@fuzz
@given(st.data())
def test_damaged_stores(tmp_path: Path, city: Path, data: st.DataObject) -> None:
    path = tmp_path / "city.lance"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(city, path)
    files = sorted(one for one in path.rglob("*") if one.is_file() and one.stat().st_size)
    chosen = data.draw(st.sampled_from(range(len(files))))
    write(files[chosen], data.draw(damaged(files[chosen].read_bytes())))

    def use() -> None:
        gallery = Gallery(path)
        gallery.search(np.ones((1, gallery.store.width)), top=2)
        gallery.origins()

    survives(use)


words = st.sampled_from(
    ["camera", "time", "=", "in", "(", ")", "'2026'", "3", "and", "not", "id", "embedding",
     "is null", "between", "null", "1 / 0", "like", ";", "--", "keypoints[0]", "cast(id as int)"]
)  # fmt: skip


@fuzz
@given(odd_text | st.lists(words, max_size=7).map(" ".join))
@example("time between '2026-01-01' and '2026-02-01' and camera in (3, 4)")
@example("?")
def test_conditions(city: Path, where: str) -> None:
    gallery = Gallery(city)
    count = survives(lambda: gallery.store.count(where))
    queries = np.ones((1, gallery.store.width))
    found = survives(lambda: gallery.search(queries, top=9, where=where)[0])
    assert count is None or found is None or len(found) == count


MANIFEST = ["a.jpg", "x", "c1", "2026-11-01T08:00:00", "5"]


@fuzz
@given(
    table(MANIFEST), st.permutations(["image", "id", "camera", "time", "lane"]) | st.lists(odd_text)
)
@example([["9" * 3000]], ["image"])
def test_manifests(tmp_path: Path, rows: list[list[str]], header: list[str]) -> None:
    write(tmp_path / "a.jpg", PICTURES[0])
    found = survives(lambda: read_manifest(write(tmp_path / "m.csv", csv_text([header, *rows]))))
    for entry in found or ():
        assert entry.image.is_file() and isinstance(entry.id, str)


# Command lines

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"
words_of_a_line = st.one_of(
    st.sampled_from(["nowhere", "..", "/proc/self/mem", "/dev/null", "~nosuchuser/x", "x" * 300]),
    st.sampled_from(["a\udcff", "", "nowhere.lance", ".lance", "a.ckpt", "x.onnx", str(PHOTO)]),
    st.sampled_from(["0", "-1", "1", "9" * 40, "1e9", "nan", "\uff11"]),
    odd_text,
)
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
    before = Path.cwd()
    os.chdir(tmp_path)
    # Not the card's, as in tests nothing is shipped: nothing is downloaded.
    os.environ["MULTITASKNET_WEIGHTS"] = "nowhere.ckpt"
    try:
        code = main(line)
    except SystemExit as stopped:
        code = stopped.code
    finally:
        os.chdir(before)
        del os.environ["MULTITASKNET_WEIGHTS"]
    assert code in (0, 1, 2)
