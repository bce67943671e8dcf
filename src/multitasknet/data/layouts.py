"""Reading data sets. A layout is recognised by the files in the root; each is a function here."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from ..errors import DataError
from ..files import reading
from ..images import find_images
from ..vehicle.attributes import COLORS, TYPES
from ..vehicle.cameras import UNKNOWN_CAMERA
from .file_names import camera_in, path_in, vehicle_in
from .labels import LabelRow, parse_rows, read_labels, read_visibility, refuse, whole_number
from .records import SPLITS, Record, Split, VehicleDataset, check_images
from .text import read_csv, read_lines, read_text

logger = logging.getLogger(__name__)

FOLDERS = {"train": "train", "query": "query", "gallery": "test"}
_MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_UNKNOWN = ("", "unknown", "nan", "none", "null", "-1")
_SPELT = {"grey": "gray", "gold": "golden"}
_COLUMNS = ("image", "vehicle_id", "camera", "color", "type")
_NAMED = re.compile(r"(?:-1|[0-9]+)_")
_FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]+")
# Market's crops that show none of the vehicles, and images whose vehicle is not stated.
_NO_VEHICLE = -1


def read_dataset(
    root: str | Path, splits: Sequence[str] | None = None, *, check: bool = True
) -> VehicleDataset:
    """Read and check a data set in any of this module's layouts.

    Args:
        root: its folder.
        splits: which of ``train``, ``query`` and ``gallery`` are wanted; each must be there.
            Default is what is there.
        check: decode every image once, so that a bad one is named now and not hours later.

    Raises:
        DataError: no known layout, or faulty labels or images; one message names file, line and
            value of up to 20 problems of a split.
    """
    root = Path(root)
    unknown = [name for name in splits or () if name not in SPLITS]
    if unknown:
        raise ValueError(f"split is {unknown[0]!r}; expected some of {', '.join(SPLITS)}")
    layout = _layout_of(root)
    found = {}
    for name in splits or layout.splits:
        place = layout.places[name]
        if name not in layout.splits:
            raise DataError(f"{root}: there is no split {name!r}; expected {place}")
        records = tuple(layout.read(name))
        if not records and splits:
            raise DataError(f"{place}: the split {name!r} is empty; expected at least one image")
        if check:
            check_images(records)
        found[name] = Split(name, records)
    if not any(map(len, found.values())):
        raise DataError(f"{root}: no split has an image; expected at least one")
    return VehicleDataset(root, **found)


def has_split(root: Path, name: str) -> bool:
    """Whether a folder is a data set in any of these layouts, with that split."""
    try:
        return name in _layout_of(root).splits
    except DataError:
        return False


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out.

    Attributes:
        places: where each split's labels, or else images, have to be.
        read: reads the records of a split.
    """

    places: Mapping[str, Path]
    read: Callable[[str], Iterable[Record]]

    @property
    def splits(self) -> list[str]:
        """The splits that are there."""
        return [name for name, place in self.places.items() if place.exists()]


def _layout_of(root: Path) -> Layout:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give the root of a data set")
    for layout in (_pamtri(root), _nvlabs(root), _table(root), _veri(root), _market(root)):
        if layout.splits:
            return layout
    raise DataError(
        f"{root}: no known layout; expected label_<split>.csv (PAMTRI), annot/label_<split>.csv "
        f"(NVlabs), train.csv, query.csv and gallery.csv, image_train, image_query and image_test "
        f"(VeRi), or bounding_box_train, query and bounding_box_test (Market)"
    )


def _pamtri(root: Path) -> Layout:
    """PAMTRI: ``label_train.csv``, ``label_query.csv``, ``label_test.csv``, ``image_<split>/``.

    Each split may have ``visibility_<split>.csv`` and maps, ``heatmap_<split>/<stem>/00.jpg`` to
    ``35.jpg`` and ``segment_<split>/<stem>/00.jpg`` to ``12.jpg``.
    """

    def read(split: str) -> list[Record]:
        folder = FOLDERS[split]
        visibility = read_visibility(root / f"visibility_{folder}.csv")
        return [
            _labelled(
                root / f"image_{folder}" / row.image,
                row,
                visibility=visibility.get(row.image),
                heatmaps=_maps_of(row.image, root / f"heatmap_{folder}"),
                segments=_maps_of(row.image, root / f"segment_{folder}"),
            )
            for row in read_labels(root / f"label_{folder}.csv").values()
        ]

    return Layout({split: root / f"label_{one}.csv" for split, one in FOLDERS.items()}, read)


def _nvlabs(root: Path) -> Layout:
    """NVlabs' pose annotations: ``annot/label_train.csv`` and ``label_test.csv``, the gallery.

    The images are in ``image_train/``, ``image_test/`` or ``images/``.
    """
    places = {split: root / "annot" / f"label_{one}.csv" for split, one in FOLDERS.items()}

    def read(split: str) -> list[Record]:
        own = root / f"image_{FOLDERS[split]}"
        folders = own, root / "image_train", root / "image_test", root / "images"

        def image_of(row: LabelRow) -> Path:
            candidates = (folder / row.image for folder in folders)
            return next(filter(Path.exists, candidates), own / row.image)

        return [_labelled(image_of(row), row) for row in read_labels(places[split]).values()]

    return Layout(places, read)


def _table(root: Path) -> Layout:
    """CSV: ``train.csv``, ``query.csv`` and ``gallery.csv`` with a header.

    The columns are ``image`` (a path below the root), ``vehicle_id`` and optionally ``camera``,
    ``color`` and ``type``; others are passed over.
    """
    places = {split: root / f"{split}.csv" for split in SPLITS}

    def read(split: str) -> list[Record]:
        # Words become numbers in the order of all splits' words, which must be the same in each.
        tables = {one: _rows_of(place) for one, place in places.items() if place.exists()}
        rows = [row for table in tables.values() for _, row in table]
        numbers = {
            column: _numbering({row.get(column, "") for row in rows})
            for column in ("vehicle_id", "camera")
        }
        by_name = not any("camera" in row for row in rows)

        def number(column: str, word: str) -> int:
            if column == "camera" and word.lower() in _UNKNOWN:
                return UNKNOWN_CAMERA
            if word not in numbers[column]:
                raise ValueError(f"{column} is {word!r}; expected a whole number or a name")
            return numbers[column][word]

        def parse(row: dict[str, str], origin: str) -> tuple[str, Record]:
            image = path_in(row["image"])
            if not image:
                raise ValueError("image is empty; expected a path below the data set's root")
            return image, _record(
                root / image,
                origin,
                vehicle=number("vehicle_id", row["vehicle_id"]),
                camera=None if by_name else number("camera", row.get("camera", "")),
                color_id=_class(row.get("color", ""), COLORS, "color"),
                type_id=_class(row.get("type", ""), TYPES, "type"),
            )

        return list(parse_rows(tables[split], parse).values())

    return Layout(places, read)


def _veri(root: Path) -> Layout:
    """VeRi and CityFlow-ReID: ``image_train/``, ``image_query/`` and ``image_test/``.

    With ``name_<split>.txt`` and ``train_label.xml``, ``test_label.xml`` if there; without labels,
    file names such as ``0002_c002_00030600_0.jpg`` state vehicle and camera.
    """
    folders = {split: root / f"image_{one}" for split, one in FOLDERS.items()}
    lists = {split: root / f"name_{one}.txt" for split, one in FOLDERS.items()}
    places = {split: lists[split] if lists[split].exists() else folders[split] for split in SPLITS}

    def read(split: str) -> list[Record]:
        listed = lists[split].is_file()
        names = read_lines(lists[split]) if listed else _pictures(folders[split])
        sources = ("train",) if split == "train" else (FOLDERS[split], "test")
        files = (root / f"{source}_label.xml" for source in sources)
        file = next(filter(Path.is_file, files), None)
        if file is None:
            return _listed(folders[split], names, _labels_in_name)
        items = parse_rows(_xml_items(file), _xml_labels, "has an item already")

        def labels_of(name: str) -> dict[str, Any]:
            if name not in items:
                raise ValueError(f"image {name!r} has no item in {file}")
            return items[name]

        return _listed(folders[split], names, labels_of)

    return Layout(places, read)


def _market(root: Path) -> Layout:
    """Market: ``bounding_box_train/``, ``query/``, ``bounding_box_test/``; names state labels."""
    places = {split: root / folder for split, folder in _MARKET.items()}
    return Layout(
        places,
        lambda split: _listed(places[split], _pictures(places[split]), _labels_in_name),
    )


# Records


def _record(
    image: Path, origin: str, *, vehicle: int | None, camera: int | None, **known: Any
) -> Record:
    """An image and its labels; without a camera, its name states that."""
    return Record(
        image=image,
        vehicle_id=_NO_VEHICLE if vehicle is None else vehicle,
        camera_id=camera_in(image.name) if camera is None else camera,
        origin=origin,
        **known,
    )


def _labelled(image: Path, row: LabelRow, **known: Any) -> Record:
    """An image with its row of a label file."""
    return _record(
        image,
        row.origin,
        vehicle=row.vehicle_id,
        camera=None,
        color_id=row.color_id or None,
        type_id=row.type_id or None,
        keypoints=row.keypoints,
        **known,
    )


def _listed(
    folder: Path, names: Iterable[tuple[str, str]], labels_of: Callable[[str], dict[str, Any]]
) -> list[Record]:
    """Pictures of a folder, each name after its place; those of no known vehicle are left out."""

    def parse(text: str, origin: str) -> tuple[str, Record]:
        name = path_in(text)
        return name, _record(folder / name, origin, **labels_of(name))

    found = parse_rows(names, parse, "is listed already").values()
    kept = [record for record in found if record.vehicle_id != _NO_VEHICLE]
    if len(kept) < len(found):
        left_out = len(found) - len(kept)
        logger.warning("%s: %d images of no known vehicle are left out", folder, left_out)
    return kept


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """The pictures in a folder: each one's place, and its path below the folder."""
    return [(str(path), path.relative_to(folder).as_posix()) for path in find_images(folder)]


def _labels_in_name(name: str) -> dict[str, Any]:
    file = Path(name).name
    if not _NAMED.match(file):
        raise ValueError(
            f"the name of {file!r} states no vehicle; expected one such as "
            f"0002_c002_00030600_0.jpg, or labels in XML or CSV files"
        )
    return {"vehicle": vehicle_in(file), "camera": camera_in(file)}


def _maps_of(image: str, folder: Path) -> Path | None:
    """The folder of an image's stored maps, which has the image's name; None if there is none."""
    maps = folder / Path(image).with_suffix("")
    return maps if maps.is_dir() else None


# XML and CSV


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


def _xml_labels(attributes: dict[str, str], _: str) -> tuple[str, dict[str, Any]]:
    def number(*names: str) -> int | None:
        name = next((one for one in names if attributes.get(one)), None)
        return None if name is None else _number(attributes[name], name)

    return path_in(attributes["imageName"]), {
        "vehicle": number("vehicleID"),
        "camera": number("cameraID", "camID"),
        "color_id": number("colorID") or None,
        "type_id": number("typeID") or None,
    }


def _rows_of(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The rows of a CSV file by the columns of its header, each after its place."""
    (origin, fields), *rows = [*read_csv(path)] or [(f"{path}:1", [])]
    header = [name.strip().lower() for name in fields]
    if {"image", "vehicle_id"} - set(header):
        raise DataError(
            f"{origin}: the header is {','.join(header)!r}; expected {','.join(_COLUMNS)}, of "
            f"which image and vehicle_id must be there"
        )
    refuse(
        f"{origin}: the header has the column {name!r} twice"
        for name in _COLUMNS
        if header.count(name) > 1
    )
    refuse(
        f"{place}: {len(row)} columns; expected {len(header)}, as in the header"
        for place, row in rows
        if len(row) != len(header)
    )
    return [(place, dict(zip(header, map(str.strip, row), strict=True))) for place, row in rows]


def _numbering(words: Iterable[str]) -> dict[str, int]:
    """A column's words as numbers: as they state, or by rank where they are names."""
    known = sorted(
        word
        for word in words
        if word.lower() not in _UNKNOWN
        and not (_FRACTION.fullmatch(word) and whole_number(word) is None)
    )
    try:
        return {word: _number(word, "") for word in known}
    except ValueError:
        return {word: rank for rank, word in enumerate(known, start=1)}


def _number(text: str, field: str) -> int:
    """A number such as ``2``, ``2.0`` or, of a camera, ``c002``."""
    value = whole_number(text.strip().lower().removeprefix("c"))
    if value is None or value < 0:
        raise ValueError(f"{field} is {text!r}; expected a whole number")
    return value


def _class(text: str, names: tuple[str, ...], field: str) -> int | None:
    word = _SPELT.get(text.lower(), text.lower())
    if word in _UNKNOWN:
        return None
    if word in names:
        return names.index(word) + 1
    value = whole_number(word)
    if value is None or value < 0:
        raise ValueError(f"{field} is {text!r}; expected a number or one of {', '.join(names)}")
    return value
