"""Reading data sets: the PAMTRI layout, raw VeRi-776, any folder with CSV files, and packs.

Layouts, told apart by what lies in the root:

- PAMTRI: ``label_train.csv``, ``label_query.csv``, ``label_test.csv`` (112 columns, no header) and
  ``image_<split>/``, optionally ``heatmap_<split>/<stem>/00.jpg..35.jpg`` and
  ``segment_<split>/<stem>/00.jpg..12.jpg``.
- VeRi as its authors ship it: ``train_label.xml``, ``test_label.xml``, ``name_train.txt``,
  ``name_query.txt``, ``name_test.txt`` and ``image_<split>/``. No keypoints.
- CSV: ``train.csv``, ``query.csv``, ``gallery.csv`` with a header; the columns ``image`` (path
  below the root) and ``vehicle_id``, and optionally ``camera``, ``color`` and ``type`` (name or
  number, 0 is one as any other; empty or ``unknown`` where it is not known).
- A pack, as ``multitasknet pack`` writes it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.parsers import expat

from ..vehicle.attributes import COLORS, TYPES
from ..vehicle.cameras import UNKNOWN_CAMERA
from .labels import LabelError, LabelRow, read_labels
from .pack import MANIFEST, read_pack
from .records import SPLITS, Record, Split, VehicleDataset, check_ids, check_images, refuse

_FOLDER = {"train": "train", "query": "query", "gallery": "test"}
_CAMERA_IN_NAME = re.compile(r"^\d+_c(\d+)_")
_CAMERA = re.compile(r"c?(\d+)")
_CSV_COLUMNS = ("image", "vehicle_id", "camera", "color", "type")


def read_dataset(
    root: str | Path,
    splits: Sequence[str] | None = None,
    *,
    check: bool = True,
) -> VehicleDataset:
    """Read and check a data set in any of this module's layouts.

    Args:
        root: its folder.
        splits: which of ``train``, ``query`` and ``gallery`` are wanted; each must be there.
            Default is what is there.
        check: decode every image once, so that a bad one is named now and not hours later. A pack
            was checked when it was written.

    Raises:
        LabelError: no known layout, or faulty labels or images; one message names file, line and
            value of up to 20 problems of a split.
    """
    root = Path(root)
    unknown = [name for name in splits or () if name not in SPLITS]
    if unknown:
        raise ValueError(f"split is {unknown[0]!r}; expected some of {', '.join(SPLITS)}")
    if (root / MANIFEST).is_file():
        return read_pack(root, splits)
    layout = _layout_of(root)
    names = splits or [name for name in SPLITS if (root / layout.label_file(name)).is_file()]
    return VehicleDataset(root, **{name: _checked(layout, root, name, check) for name in names})


@dataclass(frozen=True)
class _Layout:
    """How to tell a layout, where a split's labels are in it, and how to read them."""

    pattern: str
    label_file: Callable[[str], str]
    read: Callable[[Path, str], list[Record]]


def _layout_of(root: Path) -> _Layout:
    if not root.is_dir():
        raise LabelError(f"{root}: there is no such folder; give the root of a data set")
    layouts = (
        _Layout("label_*.csv", lambda split: f"label_{_FOLDER[split]}.csv", _read_pamtri),
        _Layout("*_label.xml", lambda split: f"name_{_FOLDER[split]}.txt", _read_veri),
        _Layout("*.csv", lambda split: f"{split}.csv", _read_csv),
    )
    found = [layout for layout in layouts if any(root.glob(layout.pattern))]
    if not found:
        raise LabelError(
            f"{root}: no known layout; expected label_<split>.csv (PAMTRI), train_label.xml and "
            f"test_label.xml (VeRi), train.csv, query.csv and gallery.csv, or a pack"
        )
    return found[0]


def _checked(layout: _Layout, root: Path, name: str, check: bool) -> Split:
    records = layout.read(root, name)
    if not records:
        raise LabelError(f"{root}: the split {name!r} is empty; expected at least one image")
    refuse(check_ids(records))
    if check:
        refuse(check_images(records))
    return Split(name, tuple(records))


# PAMTRI


def _read_pamtri(root: Path, split: str) -> list[Record]:
    folder = _FOLDER[split]
    rows = read_labels(root / f"label_{folder}.csv")
    images = root / f"image_{folder}"
    # Few folders are listed once instead of asking the disk for every image.
    stored = {kind: _subfolders(root / f"{kind}_{folder}") for kind in ("heatmap", "segment")}
    return [_pamtri_record(row, images, stored) for row in rows.values()]


def _pamtri_record(row: LabelRow, images: Path, stored: dict[str, dict[str, Path]]) -> Record:
    stem = Path(row.image).stem
    camera = _CAMERA_IN_NAME.match(row.image)
    return Record(
        image=images / row.image,
        vehicle_id=row.vehicle_id,
        camera_id=int(camera[1]) if camera else UNKNOWN_CAMERA,
        color_id=row.color_id or None,
        type_id=row.type_id or None,
        keypoints=row.keypoints,
        heatmaps=stored["heatmap"].get(stem),
        segments=stored["segment"].get(stem),
        origin=row.origin,
    )


def _subfolders(folder: Path) -> dict[str, Path]:
    return {entry.name: entry for entry in folder.iterdir()} if folder.is_dir() else {}


# VeRi as shipped


def _read_veri(root: Path, split: str) -> list[Record]:
    folder = _FOLDER[split]
    names_file = root / f"name_{folder}.txt"
    labels_file = root / ("train_label.xml" if split == "train" else "test_label.xml")
    labels = _read_xml(labels_file)
    records, problems, seen = [], [], set()
    for line, name in enumerate(_read_lines(names_file), start=1):
        origin = f"{names_file}:{line}"
        if not name:
            continue
        if name in seen:
            problems.append(f"{origin}: image {name!r} is listed already")
        elif name not in labels:
            problems.append(f"{origin}: image {name!r} has no item in {labels_file}")
        else:
            image = root / f"image_{folder}" / name
            records.append(replace(labels[name], image=image, origin=origin))
        seen.add(name)
    refuse(problems)
    return records


def _read_xml(path: Path) -> dict[str, Record]:
    """The items of a VeRi label file, keyed by image name."""
    records: dict[str, Record] = {}
    problems: list[str] = []
    parser = expat.ParserCreate()

    def start(tag: str, attributes: dict[str, str]) -> None:
        if "imageName" not in attributes:
            return
        try:
            record = _xml_record(attributes)
        except ValueError as error:
            problems.append(f"{path}:{parser.CurrentLineNumber}: {error}")
            return
        if record.image.name in records:
            line = parser.CurrentLineNumber
            problems.append(f"{path}:{line}: image {record.image.name!r} has an item already")
        records[record.image.name] = record

    parser.StartElementHandler = start
    try:
        # Text, not bytes: expat does not know the gb2312 that the file declares.
        parser.Parse(path.read_text(encoding="gb2312"), True)
    except (OSError, UnicodeDecodeError, expat.ExpatError) as error:
        raise LabelError(f"{path}: the label file cannot be read: {error}") from error
    refuse(problems)
    return records


def _xml_record(attributes: dict[str, str]) -> Record:
    return Record(
        image=Path(attributes["imageName"]),
        vehicle_id=_whole(attributes.get("vehicleID", ""), "vehicleID"),
        camera_id=_camera(attributes.get("cameraID", "")),
        color_id=_whole(attributes.get("colorID", ""), "colorID") or None,
        type_id=_whole(attributes.get("typeID", ""), "typeID") or None,
    )


def _read_lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: the list of images cannot be read: {error}") from error


# CSV with a header


@dataclass(frozen=True)
class _CsvRow:
    line: int
    values: dict[str, str]


def _read_csv(root: Path, split: str) -> list[Record]:
    path = root / f"{split}.csv"
    records, problems, seen = [], [], set()
    for row in _csv_rows(path):
        try:
            record = _csv_record(root, row.values)
            if record.image in seen:
                raise ValueError(f"image {row.values['image']!r} has a row already")
            seen.add(record.image)
            records.append(replace(record, origin=f"{path}:{row.line}"))
        except ValueError as error:
            problems.append(f"{path}:{row.line}: {error}")
    refuse(problems)
    return records


def _csv_rows(path: Path) -> Iterator[_CsvRow]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for fields in reader:
                if not fields:
                    continue
                # A missing field reads as empty, and is named as such; a surplus one is a fault.
                values = dict(zip(header, [*fields, *[""] * len(header)], strict=False))
                values["columns"] = str(len(fields)) if len(fields) != len(header) else ""
                yield _CsvRow(reader.line_num, values)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{path}: the label file cannot be read: {error}") from error


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in _CSV_COLUMNS[:2] if name not in header]
    surplus = [name for name in header if name not in _CSV_COLUMNS]
    if missing or surplus or len(set(header)) != len(header):
        raise LabelError(
            f"{path}:1: the header is {','.join(header)!r}; expected {','.join(_CSV_COLUMNS)}, "
            f"of which image and vehicle_id must be there"
        )


def _csv_record(root: Path, values: dict[str, str]) -> Record:
    if values["columns"]:
        raise ValueError(f"{values['columns']} columns; expected as many as in the header")
    if not values["image"].strip():
        raise ValueError("image is empty; expected a path below the data set's root")
    return Record(
        image=root / values["image"].strip(),
        vehicle_id=_whole(values["vehicle_id"], "vehicle_id"),
        camera_id=_camera(values.get("camera", "")),
        color_id=_class(values.get("color", ""), COLORS, "color"),
        type_id=_class(values.get("type", ""), TYPES, "type"),
    )


def _whole(text: str, field: str) -> int:
    text = text.strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{field} is {text!r}; expected a whole number")
    return int(text)


def _camera(text: str) -> int:
    text = text.strip()
    if not text:
        return UNKNOWN_CAMERA
    match = _CAMERA.fullmatch(text)
    if not match:
        raise ValueError(f"camera is {text!r}; expected a number, such as 2 or c002")
    return int(match[1])


def _class(text: str, names: tuple[str, ...], field: str) -> int | None:
    text = text.strip().lower()
    if text in ("", "unknown"):
        return None
    if text in names:
        return names.index(text) + 1
    if text.isascii() and text.isdigit():
        return int(text)
    raise ValueError(f"{field} is {text!r}; expected a number or one of {', '.join(names)}")
