"""Reading data sets; the layout is recognised by the files in the root.

- PAMTRI: ``label_train.csv``, ``label_query.csv``, ``label_test.csv`` (112 columns, no header) and
  ``image_<split>/``, optionally ``heatmap_<split>/<stem>/00.jpg..35.jpg`` and
  ``segment_<split>/<stem>/00.jpg..12.jpg``.
- NVlabs' pose annotations: ``annot/label_train.csv`` and ``annot/label_test.csv`` (111 columns, no
  header; the second is the gallery), images in ``image_train/``, ``image_test/`` or ``images/``.
- CSV: ``train.csv``, ``query.csv``, ``gallery.csv`` with a header; the columns ``image`` (path
  below the root) and ``vehicle_id``, and optionally ``camera``, ``color`` and ``type``.
- VeRi and CityFlow-ReID: ``image_train/``, ``image_query/``, ``image_test/``, with
  ``train_label.xml``, ``test_label.xml`` and ``name_<split>.txt`` where there are any; without
  labels, file names such as ``0002_c002_00030600_0.jpg`` state vehicle and camera.
- Market: ``bounding_box_train/``, ``query/``, ``bounding_box_test/``; file names state the labels.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.parsers import expat

from ..errors import DataError
from ..files import reading
from ..images import find_images
from ..vehicle.attributes import COLORS, TYPES
from ..vehicle.cameras import UNKNOWN_CAMERA
from .labels import parse_rows, read_csv, read_labels, read_visibility, whole_number
from .names import camera_in, path_in, vehicle_in
from .records import SPLITS, Record, Split, VehicleDataset, check_images, check_records
from .text import read_lines, read_text

logger = logging.getLogger(__name__)

FOLDERS = {"train": "train", "query": "query", "gallery": "test"}
_MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_UNKNOWN = ("", "unknown", "nan", "none", "null", "-1")
_SPELT = {"grey": "gray", "gold": "golden"}
_COLUMNS = "image,vehicle_id,camera,color,type"
_NAMED = re.compile(r"(?:-1|[0-9]+)_")
# Market's crops that show none of the vehicles, and images whose vehicle is not stated.
_NO_VEHICLE = -1


def read_dataset(
    root: str | Path,
    splits: Sequence[str] | None = None,
    *,
    check: bool = True,
    allow_outside: bool = False,
) -> VehicleDataset:
    """Read and check a data set in any of this module's layouts.

    Args:
        root: its folder.
        splits: which of ``train``, ``query`` and ``gallery`` are wanted; each must be there.
            Default is what is there.
        check: decode every image once, so that a bad one is named now and not hours later.
        allow_outside: whether pictures, maps and labels may lie outside the root, by their names
            or through symbolic links.

    Raises:
        DataError: no known layout, or faulty labels or images; one message names file, line and
            value of up to 20 problems of a split.
    """
    root = Path(root)
    unknown = [name for name in splits or () if name not in SPLITS]
    if unknown:
        raise ValueError(f"split is {unknown[0]!r}; expected some of {', '.join(SPLITS)}")
    layout = _layout_of(root)
    there = [name for name in SPLITS if layout.place(root, name).exists()]
    found = {}
    for name in splits or there:
        place = layout.place(root, name)
        if name not in there:
            raise DataError(f"{root}: there is no split {name!r}; expected {place}")
        records = layout.read(root, name)
        if not records and splits:
            raise DataError(f"{place}: the split {name!r} is empty; expected at least one image")
        check_records(records, labels=place, root=None if allow_outside else root)
        if check:
            check_images(records)
        found[name] = Split(name, tuple(records))
    if not any(map(len, found.values())):
        raise DataError(f"{root}: no split has an image; expected at least one")
    return VehicleDataset(root, **found)


def has_split(root: Path, name: str) -> bool:
    """Whether a folder is a data set in any of these layouts, with that split."""
    try:
        return _layout_of(root).place(root, name).exists()
    except DataError:
        return False


@dataclass(frozen=True)
class _Layout:
    """A layout: what a split's labels or else images are called, and how the split is read."""

    names: tuple[str, ...]
    read: Callable[[Path, str], list[Record]]

    def place(self, root: Path, split: str) -> Path:
        """The first of the names that is there; the first of all if none is."""
        words = {"split": split, "folder": FOLDERS[split], "market": _MARKET[split]}
        places = [root / name.format(**words) for name in self.names]
        return next((place for place in places if place.exists()), places[0])


def _layout_of(root: Path) -> _Layout:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give the root of a data set")
    for layout in (
        _Layout(("label_{folder}.csv",), _read_pamtri),
        _Layout(("annot/label_{folder}.csv",), _read_annotations),
        _Layout(("{split}.csv",), _read_table),
        _Layout(("name_{folder}.txt", "image_{folder}"), _read_veri),
        _Layout(("{market}",), _read_market),
    ):
        if any(layout.place(root, split).exists() for split in SPLITS):
            return layout
    raise DataError(
        f"{root}: no known layout; expected label_<split>.csv (PAMTRI), annot/label_<split>.csv "
        f"(NVlabs), train.csv, query.csv and gallery.csv, image_train, image_query and image_test "
        f"(VeRi), or bounding_box_train, query and bounding_box_test (Market)"
    )


# PAMTRI and NVlabs


def _read_pamtri(root: Path, split: str) -> list[Record]:
    folder = FOLDERS[split]
    heatmaps, segments = (_entries(root / f"{kind}_{folder}") for kind in ("heatmap", "segment"))
    visibility = read_visibility(root / f"visibility_{folder}.csv")
    return [
        Record(
            image=root / f"image_{folder}" / row.image,
            vehicle_id=row.vehicle_id,
            camera_id=camera_in(Path(row.image).name),
            color_id=row.color_id or None,
            type_id=row.type_id or None,
            keypoints=row.keypoints,
            visibility=visibility.get(row.image),
            heatmaps=_maps_of(row.image, root / f"heatmap_{folder}", heatmaps),
            segments=_maps_of(row.image, root / f"segment_{folder}", segments),
            origin=row.origin,
        )
        for row in read_labels(root / f"label_{folder}.csv").values()
    ]


def _read_annotations(root: Path, split: str) -> list[Record]:
    own = root / f"image_{FOLDERS[split]}"
    there: dict[str, Path] = {}
    for images in (root / "images", root / "image_test", root / "image_train", own):
        there |= _entries(images)
    return [
        Record(
            image=there.get(row.image, own / row.image),
            vehicle_id=row.vehicle_id,
            camera_id=camera_in(Path(row.image).name),
            keypoints=row.keypoints,
            origin=row.origin,
        )
        for row in read_labels(root / "annot" / f"label_{FOLDERS[split]}.csv").values()
    ]


def _maps_of(image: str, folder: Path, there: Mapping[str, Path]) -> Path | None:
    """The folder of an image's stored maps, which is named as the image; None if it has none."""
    path = Path(image).with_suffix("")
    if path.name == str(path):
        return there.get(path.name)
    return folder / path if (folder / path).is_dir() else None


def _entries(folder: Path) -> dict[str, Path]:
    # Listed once instead of asking the disk for every image.
    return {entry.name: entry for entry in folder.iterdir()} if folder.is_dir() else {}


# VeRi, CityFlow and Market: pictures in folders, labels in XML or in the pictures' names


def _read_veri(root: Path, split: str) -> list[Record]:
    folder = FOLDERS[split]
    images, listed = root / f"image_{folder}", root / f"name_{folder}.txt"
    names = list(read_lines(listed)) if listed.is_file() else _pictures(images)
    sources = ("train",) if split == "train" else (folder, "test")
    labels = [path for one in sources if (path := root / f"{one}_label.xml").is_file()]
    if not labels:
        return _named_records(images, names)
    known = parse_rows(_xml_items(labels[0]), _xml_record, "has an item already")

    def find(text: str, origin: str) -> tuple[str, Record]:
        name = path_in(text)
        if name not in known:
            raise ValueError(f"image {name!r} has no item in {labels[0]}")
        return name, replace(known[name], image=images / name, origin=origin)

    return _with_vehicle(parse_rows(names, find, "is listed already"), images)


def _read_market(root: Path, split: str) -> list[Record]:
    return _named_records(root / _MARKET[split], _pictures(root / _MARKET[split]))


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """The pictures in a folder: each one's place, and its path below the folder."""
    return [(str(path), path.relative_to(folder).as_posix()) for path in find_images(folder)]


def _named_records(folder: Path, names: Iterable[tuple[str, str]]) -> list[Record]:
    """Of pictures in a folder whose names state the labels, each after its place."""

    def parse(text: str, origin: str) -> tuple[str, Record]:
        path = folder / path_in(text)
        if not _NAMED.match(path.name):
            raise ValueError(
                f"the name of {path.name!r} states no vehicle; expected one such as "
                f"0002_c002_00030600_0.jpg, or labels in XML or CSV files"
            )
        record = Record(path, vehicle_in(path.name), camera_in(path.name), origin=origin)
        return path_in(text), record

    return _with_vehicle(parse_rows(names, parse, "is listed already"), folder)


def _with_vehicle(found: Mapping[str, Record], place: Path) -> list[Record]:
    kept = [record for record in found.values() if record.vehicle_id != _NO_VEHICLE]
    left_out = len(found) - len(kept)
    if left_out:
        logger.warning("%s: %d images of no known vehicle are left out", place, left_out)
    return kept


def _xml_items(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The attributes of a label file's items, each after its place."""
    items = []
    parser = expat.ParserCreate()

    def start(_: str, attributes: dict[str, str]) -> None:
        if "imageName" in attributes:
            items.append((f"{path}:{parser.CurrentLineNumber}", attributes))

    parser.StartElementHandler = start
    text = read_text(path)
    with reading(path, DataError, "the label file cannot be read", "expected XML"):
        # Text, not bytes: expat does not know the gb2312 that VeRi's files declare.
        parser.Parse(text, True)
    return items


def _xml_record(attributes: dict[str, str], origin: str) -> tuple[str, Record]:
    image = path_in(attributes["imageName"])

    def number(*names: str) -> int | None:
        name = next((one for one in names if attributes.get(one)), None)
        return None if name is None else _number(attributes[name], name)

    vehicle, camera = number("vehicleID"), number("cameraID", "camID")
    return image, Record(
        image=Path(image),
        vehicle_id=_NO_VEHICLE if vehicle is None else vehicle,
        camera_id=camera_in(Path(image).name) if camera is None else camera,
        color_id=number("colorID") or None,
        type_id=number("typeID") or None,
        origin=origin,
    )


# CSV with a header


@dataclass(frozen=True)
class _Table:
    """A CSV file: where its header is, the columns' names, and the rows after their places."""

    origin: str
    columns: tuple[str, ...]
    rows: list[tuple[str, list[str]]]

    @classmethod
    def read(cls, path: Path) -> _Table:
        origin, fields = next(rows := read_csv(path), (f"{path}:1", []))
        return cls(origin, tuple(name.strip().lower() for name in fields), list(rows))

    def words(self, column: str) -> Iterator[str]:
        """What a column holds."""
        if column in self.columns:
            place = self.columns.index(column)
            yield from (row[place].strip() for _, row in self.rows if place < len(row))


def _read_table(root: Path, split: str) -> list[Record]:
    # Words become numbers in the order of all splits' words, which must be the same in each.
    tables = {one: _Table.read(path) for one in SPLITS if (path := root / f"{one}.csv").is_file()}
    table = tables[split]
    if {"image", "vehicle_id"} - set(table.columns):
        raise DataError(
            f"{table.origin}: the header is {','.join(table.columns)!r}; expected {_COLUMNS}, of "
            f"which image and vehicle_id must be there"
        )
    for name in _COLUMNS.split(","):
        if table.columns.count(name) > 1:
            raise DataError(f"{table.origin}: the header has the column {name!r} twice")
    vehicles, cameras = (
        _numbering([word for one in tables.values() for word in one.words(name)])
        for name in ("vehicle_id", "camera")
    )
    by_name = not any("camera" in one.columns for one in tables.values())

    def parse(fields: list[str], origin: str) -> tuple[str, Record]:
        if len(fields) != len(table.columns):
            raise ValueError(f"{len(fields)} columns; expected as many as in the header")
        values = dict(zip(table.columns, map(str.strip, fields), strict=True))
        image = path_in(values["image"])
        if not image:
            raise ValueError("image is empty; expected a path below the data set's root")
        vehicle = vehicles(values["vehicle_id"], "vehicle_id")
        if vehicle is None:
            raise ValueError(f"vehicle_id is {values['vehicle_id']!r}; expected a number or name")
        camera = cameras(values.get("camera", ""), "camera")
        if by_name:
            camera = camera_in(Path(image).name)
        return image, Record(
            image=root / image,
            vehicle_id=vehicle,
            camera_id=UNKNOWN_CAMERA if camera is None else camera,
            color_id=_class(values.get("color", ""), COLORS, "color"),
            type_id=_class(values.get("type", ""), TYPES, "type"),
            origin=origin,
        )

    return list(parse_rows(table.rows, parse).values())


def _numbering(words: Sequence[str]) -> Callable[[str, str], int | None]:
    """How a column's words become numbers: as they state, or by rank where they are names."""
    known = sorted({word for word in words if word.lower() not in _UNKNOWN})
    try:
        numbers = {word: _number(word, "") for word in known}
    except ValueError:
        numbers = {word: rank for rank, word in enumerate(known, start=1)}

    def number(word: str, field: str) -> int | None:
        if word in numbers and _is_fraction(word):
            raise ValueError(f"{field} is {word!r}; expected a whole number or a name")
        return numbers.get(word)

    return number


def _number(text: str, field: str) -> int:
    """A number such as ``2``, ``2.0`` or, of a camera, ``c002``."""
    value = whole_number(text.strip().lower().removeprefix("c"))
    if value is None or value < 0:
        raise ValueError(f"{field} is {text!r}; expected a whole number")
    return value


def _is_fraction(word: str) -> bool:
    try:
        return not float(word).is_integer()
    except ValueError:
        return False


def _class(text: str, names: tuple[str, ...], field: str) -> int | None:
    word = text.lower()
    word = _SPELT.get(word, word)
    if word in _UNKNOWN:
        return None
    if word in names:
        return names.index(word) + 1
    value = whole_number(word)
    if value is None or value < 0:
        raise ValueError(f"{field} is {text!r}; expected a number or one of {', '.join(names)}")
    return value
