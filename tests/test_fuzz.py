"""Anything at all, for every reader: only this package's errors or a valid result come out.

A surface gets 100 examples in a normal run, 1,000 with ``--hypothesis-profile=deep``.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
import stores
import yaml
from conftest import ASSETS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save
from test_commands import all_commands

from multitasknet.cli import main
from multitasknet.data.boxes import read_boxes
from multitasknet.data.labels import COLUMNS, read_labels, read_visibility
from multitasknet.data.layouts import read_dataset
from multitasknet.errors import GalleryError, MultiTaskNetError
from multitasknet.gallery import index
from multitasknet.gallery.entries import read_manifest
from multitasknet.gallery.gallery import Gallery
from multitasknet.gallery.store import origin_in
from multitasknet.hub.card import load_card
from multitasknet.images import read_image
from multitasknet.inference.conversion import Metadata, find_kept, keep
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.models.vehiclepose.spec import VehiclePoseSpec
from multitasknet.training.history import read_history
from multitasknet.training.settings import SETTINGS, check_settings, read_config
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.formats import _message_class
from multitasknet.weights.read import check_values, read_weights
from multitasknet.weights.sidecar import read_sidecar, write_sidecar

fuzz = settings(
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
    ],
)
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
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    )
    return path


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
yaml_bits = st.one_of(
    odd_text,
    st.sampled_from(["*a", "&a [*a]", "!!int abc", "!!python/object/apply:os.getpid []", "'"]),
    st.sampled_from(["2022-13-45", "[" * 500, "{a: 1}", "<http://[>", "https://x.com/%2e%2e"]),
)
cells = st.one_of(
    odd_text, odd_numbers.map(str), st.sampled_from(["1e39", "-3", "\u0663", "1.0", "1."])
)


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


def json_texts(plain: str) -> Contents:
    """Texts in place of a JSON document: altered, damaged or hostile."""
    return st.one_of(
        altered(json.loads(plain)).map(json.dumps),
        damaged(plain.encode()).map(lambda one: one.decode("latin-1")),
        odd_values.map(json.dumps),
        hostile_json,
    )


@st.composite
def csv_texts(draw: st.DrawFn, row: list[str], headers: Contents | None = None) -> str:
    """Rows like this one, of which some cells are others, or some are missing."""
    change = st.tuples(st.integers(0, len(row) - 1), cells)
    rows = [] if headers is None else [draw(headers)]
    for _ in range(draw(st.integers(1, 3))):
        changed, more = list(row), draw(st.sampled_from([0, 0, 0, 1, -1]))
        for place, text in draw(st.lists(change, max_size=3)):
            changed[place] = text
        rows.append(changed[: len(row) + min(more, 0)] + ["x"] * max(more, 0))
    return csv_text(rows)


def csv_text(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([[cell.replace("\0", "") for cell in row] for row in rows])
    return text.getvalue()


# Files: what each looks like, and what is made of it

PLAIN_CARD = (ASSETS / "multitasknet_veri.md").read_text().partition("## Introduction")[0]


@st.composite
def cards(draw: st.DrawFn) -> str:
    """The card with other values."""
    lines = PLAIN_CARD.splitlines()
    for number in draw(st.lists(st.integers(0, len(lines) - 1), min_size=1, max_size=4)):
        field, colon, _ = lines[number].partition(":")
        value = draw(yaml_bits | odd_values.map(json.dumps))
        lines[number] = f"{field}{colon} {value}"
    return "\n".join(lines)


def use_card(path: Path) -> None:
    card = load_card(path)
    assert ".." not in card.asset.folder.parts and "/" not in card.asset.file_name
    assert all(isinstance(value, float) for value in card.metrics.values())
    assert card.uid and card.asset.urls


SIDECAR = json.dumps(
    {
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
)


def use_sidecar(path: Path) -> None:
    weights = path.with_suffix(".ckpt")
    found = read_sidecar(weights, MultiTaskNetSpec(num_ids=2))
    assert found is not None and isinstance(found.class_maps, ClassMaps)
    assert all(isinstance(value, float) for value in found.metrics.values())
    write_sidecar(weights, found)


RULES = dict.fromkeys(name for kind in SETTINGS.values() for name in kind.model_fields)
settings_texts = st.dictionaries(st.sampled_from([*RULES, "more"]), odd_values, max_size=4).map(
    yaml.safe_dump
) | st.tuples(st.sampled_from([*RULES, "? a"]), yaml_bits).map(": ".join)


def use_settings(path: Path) -> None:
    found = check_settings(read_config(path), path.name)
    assert check_settings(found.as_json(), path.name) == found
    assert json.dumps(found.as_json(), allow_nan=False)


HISTORY = json.dumps({"settings": {}, "before": {}, "epochs": []})

METADATA = [
    text
    for spec in (MultiTaskNetSpec(), VehiclePoseSpec())
    for text in Metadata(spec).as_strings().values()
]


def use_metadata(path: Path) -> None:
    text = path.read_text(encoding="utf-8", errors="replace")
    found = Metadata.from_strings({"multitasknet": text}, "model")
    assert found is not None
    assert found.spec.input_shapes(found.spec.input_size)
    assert found.spec.output_shapes(found.spec.input_size)
    assert found.as_strings()


ROW = ["0001_c001_00000001_0.jpg", "1", "2", "3", *["0.5"] * (COLUMNS - 4)]
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 9, "height": 9}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2] * 36}
            | {"attributes": {}}
        ],
        "categories": [{"id": 1, "name": "vehicle"}],
    }
)


def use_labels(path: Path) -> None:
    for row in read_labels(path).values():
        assert row.keypoints.shape == (36, 3) and np.isfinite(row.keypoints).all()


def use_visibility(path: Path) -> None:
    assert all(len(seen) == 36 for seen in read_visibility(path).values())


def use_dataset(path: Path) -> None:
    train = read_dataset(path.parent, check=False).train
    assert train.vehicle_ids.dtype == np.int64
    assert len(train.vehicle_ids) == len(train.camera_ids) == len(train)


XML = '<T><Items><Item imageName="a.jpg" vehicleID="1" cameraID="c001"/></Items></T>'
# Encodings: test_labels.
xml_texts = damaged(XML.encode()) | st.tuples(
    st.sampled_from(["a.jpg", "vehicleID", '"1"', '"c001"']), cells.map(quoteattr)
).map(lambda one: XML.replace(*one))


def use_xml(path: Path) -> None:
    write(path.with_name("name_train.txt"), "a.jpg")
    use_dataset(path)


WILD = "id/image;Camera ID;Time;Model;Type;Color\n1/a;92;2018;A4;SUV;white"
LIST = "a.jpg 1 2\nb.jpg 3 c004"
list_texts = damaged(LIST.encode()) | st.lists(
    st.lists(st.sampled_from(["a.jpg", "1"]) | odd_text, max_size=4).map(" ".join), max_size=3
).map("\n".join)


def use_wild(path: Path) -> None:
    for name in ("images", "train_test_split"):
        path.with_name(name).mkdir(exist_ok=True)
    write(path.parent / "train_test_split" / "train_list.txt", "1/a")
    use_dataset(path)


def use_classes(path: Path) -> None:
    write(path.with_name("train.csv"), "image,vehicle_id,color\na.jpg,1,silver")
    use_dataset(path)


def use_manifest(path: Path) -> None:
    write(path.with_name("a.jpg"), PICTURES[0])
    for entry in read_manifest(path):
        assert entry.image.is_file() and isinstance(entry.id, str)


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


def use_picture(path: Path) -> None:
    found = read_image(path)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3


ARRAYS = {
    "base.conv0.weight": np.zeros((2, 3, 1, 1), np.float32),
    "fc_vid.weight": np.zeros((2, 1132), np.float32),
    "classifier_vid.bias": np.zeros(2, np.float32),
}
SHIPPED = (ASSETS / "multitasknet_synthetic.ckpt").read_bytes()
SAFE = save(ARRAYS)
SAFE_BODY = 8 + int.from_bytes(SAFE[:8], "little")


def ckpt(entries: list[tuple[str, str, list[int], bytes]]) -> bytes:
    message = _message_class()()
    for name, kind, dims, content in entries:
        entry = message.value.add()
        entry.tag = name.encode("utf-8", "ignore").decode()
        entry.tensor.tensor_type = kind
        entry.tensor.dims.extend(dims)
        entry.tensor.tensor_content = content
    return message.SerializeToString()


PLAIN_CKPT = ckpt(
    [(name, "Float32", list(one.shape), one.tobytes()) for name, one in ARRAYS.items()]
)


@st.composite
def odd_ckpts(draw: st.DrawFn) -> bytes:
    """Checkpoints of any names, kinds and shapes, whose contents need not fit these."""
    parts = ["conv1.weight", "stage2.0.branches.0.0.conv1.weight", "final_layer.weight"]
    entries = []
    for _ in range(draw(st.integers(0, 5))):
        name = draw(st.sampled_from([*ARRAYS, *parts, "fc.weight"]) | st.text(max_size=12))
        kind = draw(st.sampled_from(["Float32", "Int64", "BFloat16", "str", "Float9", ""]))
        shape, more = draw(st.lists(st.integers(0, 3), max_size=4)), draw(st.integers(-4, 4))
        content = bytes(4 * int(np.prod(shape)) + max(more, 0))
        entries.append((name, kind, [*shape, more] if more < 0 else shape, content))
    return ckpt(entries)


def with_safe_head(text: str) -> bytes:
    head = text.encode("utf-8", "replace")
    return len(head).to_bytes(8, "little") + head + SAFE[SAFE_BODY:]


def use_weights(path: Path) -> None:
    weights = read_weights(path)
    survives(lambda: check_values(weights))
    _ = weights.spec


@dataclass(frozen=True)
class Surface:
    """A file's name, one that is accepted, what may come in its place, and what reads it.

    What is refused, and its file named, is hostile in ways that chance hardly finds.
    """

    name: str
    plain: str | bytes
    contents: Contents
    use: Callable[[Path], object]
    refused: Sequence[str | bytes] = ()


DEEP = "[" * 2500
URL = re.findall(r"asset-link: <(.*)>", PLAIN_CARD)[0]
BAD_CARDS = [
    PLAIN_CARD.replace(*one)
    for one in (
        ("author: MindSpore team", f"author: {DEEP}"),
        *((URL, odd) for odd in ("http://[", "http://a\u2100b/a.ckpt", f"{URL[:-5]} b", f'{URL}"')),
    )
]
BAD_SIDECARS = [
    json.dumps(json.loads(SIDECAR) | {name: value})
    for name, value in (
        *(("vehicle_ids", [1e999]), ("metrics", {"mAP": "x"}), ("metrics", 3), ("origin", 5)),
        *(("size", "big"), ("colors", 5), ("distance", "angle")),
    )
]
FACTS = json.loads(METADATA[0])
BAD_METADATA = [
    *(
        json.dumps(FACTS | {name: value})
        for name, value in (("batch", "x"), ("batch", 0), ("precision", []), ("network", []))
    ),
    *(
        json.dumps(FACTS | {"spec": FACTS["spec"] | {name: value}})
        for name, value in (
            *(("color_names", [[1]]), ("num_ids", "many"), ("keypoint_aware", 3)),
            *(("input_size", [1, 2]), ("more", 1), ("distance", "angle")),
        )
    ),
]
BAD_SETTINGS = [f"milestones: {one}" for one in ("&a [*a]", DEEP, "!!int abc", "{x: [1, {y: 2}]}")]
BAD_HISTORIES = [
    *("[]", "\0", '{"settings": {}, "before": {}, "more": 1, "epochs": []}'),
    '{"settings": {}, "before": {}, "epochs": [{"epoch": 1}]}',
]
HEADER = ["image", "vehicle_id", "camera", "color", "type"]
VEHICLE = ["a.jpg", "1", "c002", "red", "3"]
VISIBILITY = "a.jpg" + ",0" * 36 + "\n"
MANIFEST = ["image", "id", "camera", "time", "lane"]
ENTRY = ["a.jpg", "x", "c1", "2026-11-01T08:00:00", "5"]
SIZES = [ROW[0], "64", "48", *["1"] * (COLUMNS - 4)]
LABELS = csv_text([ROW, ["0002_c001_00000001_0.jpg", *ROW[1:]]])
label_texts = csv_texts(ROW) | csv_texts(SIZES) | damaged(LABELS.encode())
BOX = ["image", "x1", "y1", "x2", "y2", "track", "conf"]
BOXES = csv_text([BOX, ["a.jpg", "1", "2", "50", "60", "7", "0.5"]])
COCO_BOXES = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}],
        "categories": [{"id": 3, "name": "car"}],
    }
)
MOT = "1,2,10,20,30,40,1,-1,-1,-1\n2,2,10,20,30,40,1,-1,-1,-1\n"
YOLO, KITTI = b"2 0.5 0.5 0.2 0.2 0.9\n", b"Car 0 0 -1.6 1 2 50 60 -1 -1 -1 -1 -1 -1 -1 0.9\n"
SURFACES = [
    Surface("card.md", PLAIN_CARD, cards(), use_card, BAD_CARDS),
    Surface("w.json", SIDECAR, json_texts(SIDECAR), use_sidecar, [DEEP, *BAD_SIDECARS]),
    Surface("settings.yaml", "epochs: 2", settings_texts, use_settings, BAD_SETTINGS),
    Surface("history.json", HISTORY, json_texts(HISTORY), read_history, [DEEP, *BAD_HISTORIES]),
    *(
        Surface("model", one, json_texts(one), use_metadata, [DEEP, *BAD_METADATA])
        for one in METADATA
    ),
    Surface("l.csv", LABELS, label_texts, use_labels),
    Surface("label_train.csv", LABELS, label_texts, use_dataset),
    Surface("v.csv", VISIBILITY, damaged(VISIBILITY.encode()), use_visibility),
    Surface("c.json", COCO, json_texts(COCO), use_labels),
    Surface(
        "train.csv",
        csv_text([HEADER, VEHICLE]),
        csv_texts(VEHICLE, st.permutations(HEADER) | st.lists(cells, max_size=6)),
        use_dataset,
    ),
    Surface("train_label.xml", XML, xml_texts, use_xml),
    Surface("vric_train.txt", LIST, list_texts, use_dataset),
    Surface("vehicle_info.txt", WILD, damaged(WILD.encode()), use_wild),
    Surface(
        "classes.csv", "color,silver,gray", csv_texts(["color", "silver", "gray"]), use_classes
    ),
    Surface(
        "m.csv",
        csv_text([MANIFEST, ENTRY]),
        csv_texts(ENTRY, st.permutations(MANIFEST) | st.lists(odd_text)),
        use_manifest,
    ),
    Surface("boxes.csv", BOXES, csv_texts(BOX) | damaged(BOXES.encode()), read_boxes),
    Surface("boxes.json", COCO_BOXES, json_texts(COCO_BOXES), read_boxes),
    Surface("boxes.txt", MOT, damaged(MOT.encode()) | damaged(YOLO) | damaged(KITTI), read_boxes),
    Surface(
        "x.jpg",
        PICTURES[0],
        st.sampled_from(PICTURES).flatmap(damaged) | st.binary(max_size=64),
        use_picture,
    ),
    Surface(
        "w.ckpt",
        SHIPPED,
        damaged(PLAIN_CKPT) | odd_ckpts(),
        use_weights,
        # Made invalid behind protobuf's back.
        [ckpt([("nameless", "Float32", [], bytes(4))]).replace(b"nameless", b"\xff" * 8)],
    ),
    Surface(
        "w.safetensors",
        SAFE,
        damaged(SAFE) | json_texts(SAFE[8:SAFE_BODY].decode()).map(with_safe_head),
        use_weights,
    ),
]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
@pytest.mark.filterwarnings("ignore")
def test_a_plain_file_is_read(surface: Surface, tmp_path: Path) -> None:
    surface.use(write(tmp_path / surface.name, surface.plain))


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
@pytest.mark.filterwarnings("ignore")
def test_hostile_files_are_refused_by_name(surface: Surface, tmp_path: Path) -> None:
    for content in surface.refused:
        with pytest.raises(MultiTaskNetError, match=re.escape(Path(surface.name).stem)) as refused:
            surface.use(write(tmp_path / surface.name, content))
        assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
@pytest.mark.filterwarnings("ignore")
@fuzz
@given(data=st.data())
def test_any_file_is_read_or_refused(surface: Surface, tmp_path: Path, data: st.DataObject) -> None:
    content = data.draw(surface.contents)
    survives(lambda: surface.use(write(tmp_path / surface.name, content)))


@fuzz
@given(st.data())
def test_what_is_kept_is_used_whole_or_not_at_all(tmp_path: Path, data: st.DataObject) -> None:
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    keep(tmp_path / "c", "k", b"content" * 9)
    (made,) = (tmp_path / "c").iterdir()
    content = data.draw(damaged(made.read_bytes()))
    write(made, content)
    found = find_kept(tmp_path / "c", "k")
    assert found == (content if content == b"content" * 9 else None)


# Galleries


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
        gallery.search(np.ones((1, gallery.width)), top=2)
        gallery.origins()

    survives(use)


@pytest.mark.parametrize("text", ["", "{", '{"rows": 4}', "[]", '{"sows": 4}', "\udcff"])
def test_damaged_facts_beside_the_embeddings_are_as_if_not_there(tmp_path, city, text) -> None:
    """What a deep run of :func:`test_damaged_stores` found, for rates and the index's recall."""
    shutil.copytree(city, tmp_path / "city.lance")
    gallery = Gallery(tmp_path / "city.lance")
    facts = dict.fromkeys(("rates", "measured"), text.encode("utf-8", "replace").decode())
    gallery.table.update_field_metadata({"path": "embedding", "metadata": facts})
    again = Gallery(tmp_path / "city.lance")
    assert again.rates.doubt and index.measured(again) is None
    with pytest.raises(GalleryError, match="the column is damaged"):
        origin_in(text)


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
    count = survives(lambda: gallery.count(where))
    queries = np.ones((1, gallery.width))
    found = survives(lambda: gallery.search(queries, top=9, where=where)[0])
    assert count is None or found is None or len(found) == count


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
