"""Reading data sets: the PAMTRI layout, raw VeRi-776, any folder with CSV files, and packs.

Layouts, told apart by what lies in the root:

- PAMTRI: ``label_train.csv``, ``label_query.csv``, ``label_test.csv`` (112 columns, no header) and
  ``image_<split>/``, optionally ``heatmap_<split>/<stem>/00.jpg..35.jpg`` and
  ``segment_<split>/<stem>/00.jpg..12.jpg``.
- NVlabs' pose annotations: ``annot/label_train.csv`` and ``annot/label_test.csv`` (111 columns, no
  header; the second is the gallery), images in ``image_train/``, ``image_test/`` or ``images/``.
- VeRi as its authors ship it: ``train_label.xml``, ``test_label.xml``, ``name_train.txt``,
  ``name_query.txt``, ``name_test.txt`` and ``image_<split>/``. No keypoints.
- CSV: ``train.csv``, ``query.csv``, ``gallery.csv`` with a header; the columns ``image`` (path
  below the root) and ``vehicle_id``, and optionally ``camera``, ``color`` and ``type`` (name or
  number, 0 is one as any other; empty or ``unknown`` where it is not known).
- A pack, as ``multitasknet pack`` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from xml.parsers import expat

from ..vehicle.attributes import COLORS, TYPES
from ..vehicle.cameras import UNKNOWN_CAMERA
from .labels import (
    LabelError,
    parse_rows,
    read_csv,
    read_labels,
    read_visibility,
    readable,
)
from .pack import MANIFEST, read_pack
from .records import SPLITS, Record, Split, VehicleDataset, check_ids, check_images, check_inside

FOLDERS = {"train": "train", "query": "query", "gallery": "test"}
_CAMERA_IN_NAME = re.compile(r"^[0-9]+_c([0-9]+)_")
_CAMERA = re.compile(r"c?([0-9]+)")
_CSV_COLUMNS = ("image", "vehicle_id", "camera", "color", "type")


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
        check: decode every image once, so that a bad one is named now and not hours later. A pack
            was checked when it was written.
        allow_outside: whether pictures, maps and labels may lie outside the root, by their names
            or through symbolic links.

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
    names = splits or [name for name in SPLITS if layout.label_file(root, name).is_file()]
    if not names:
        raise LabelError(f"{root}: no split; expected {layout.labels} of {', '.join(SPLITS)}")
    read = partial(_read_split, layout, root, check=check, allow_outside=allow_outside)
    return VehicleDataset(root, **{name: read(name) for name in names})


def has_split(root: Path, name: str) -> bool:
    """Whether a folder is a data set in any of these layouts, or a pack, with that split."""
    if (root / MANIFEST).is_file():
        return True
    try:
        return _layout_of(root).label_file(root, name).is_file()
    except LabelError:
        return False


@dataclass(frozen=True)
class _Layout:
    """A layout: what lies in its root, a split's label file there, and how that is read.

    ``read`` takes the root, the label file and what the split's folders end in.
    """

    pattern: str
    labels: str
    read: Callable[[Path, Path, str], list[Record]]

    def label_file(self, root: Path, split: str) -> Path:
        return root / self.labels.format(split=split, folder=FOLDERS[split])


def _layout_of(root: Path) -> _Layout:
    if not root.is_dir():
        raise LabelError(f"{root}: there is no such folder; give the root of a data set")
    for layout in (
        _Layout("label_*.csv", "label_{folder}.csv", _read_pamtri),
        _Layout("annot/label_*.csv", "annot/label_{folder}.csv", _read_annotations),
        _Layout("*_label.xml", "name_{folder}.txt", _read_veri),
        _Layout("*.csv", "{split}.csv", _read_csv),
    ):
        if any(root.glob(layout.pattern)):
            return layout
    raise LabelError(
        f"{root}: no known layout; expected label_<split>.csv (PAMTRI), annot/label_<split>.csv "
        f"(NVlabs), train_label.xml and test_label.xml (VeRi), train.csv, query.csv and "
        f"gallery.csv, or a pack"
    )


def _read_split(
    layout: _Layout, root: Path, name: str, *, check: bool, allow_outside: bool
) -> Split:
    labels = layout.label_file(root, name)
    records = layout.read(root, labels, FOLDERS[name])
    if not records:
        raise LabelError(f"{root}: the split {name!r} is empty; expected at least one image")
    check_ids(records)
    if not allow_outside:
        check_inside(root, labels, records)
    if check:
        check_images(records)
    return Split(name, tuple(records))


# PAMTRI


def _read_pamtri(root: Path, labels: Path, folder: str) -> list[Record]:
    heatmaps, segments = (_entries(root / f"{kind}_{folder}") for kind in ("heatmap", "segment"))
    visibility = read_visibility(root / f"visibility_{folder}.csv")
    return [
        Record(
            image=root / f"image_{folder}" / row.image,
            vehicle_id=row.vehicle_id,
            camera_id=camera_in(row.image),
            color_id=row.color_id or None,
            type_id=row.type_id or None,
            keypoints=row.keypoints,
            visibility=visibility.get(row.image),
            heatmaps=heatmaps.get(Path(row.image).stem),
            segments=segments.get(Path(row.image).stem),
            origin=row.origin,
        )
        for row in read_labels(labels).values()
    ]


def _entries(folder: Path) -> dict[str, Path]:
    # Listed once instead of asking the disk for every image.
    return {entry.name: entry for entry in folder.iterdir()} if folder.is_dir() else {}


def camera_in(name: str) -> int:
    """The camera of a file name such as ``0002_c002_00030600_0.jpg``, -1 if it names none."""
    camera = _CAMERA_IN_NAME.match(name)
    return int(camera[1]) if camera else UNKNOWN_CAMERA


# NVlabs' annotations


def _read_annotations(root: Path, labels: Path, folder: str) -> list[Record]:
    own = root / f"image_{folder}"
    there: dict[str, Path] = {}
    for images in (root / "images", root / "image_test", root / "image_train", own):
        there |= _entries(images)
    return [
        Record(
            image=there.get(row.image, own / row.image),
            vehicle_id=row.vehicle_id,
            camera_id=camera_in(row.image),
            keypoints=row.keypoints,
            origin=row.origin,
        )
        for row in read_labels(labels).values()
    ]


# VeRi as shipped


def _read_veri(root: Path, names: Path, folder: str) -> list[Record]:
    labels = root / ("train_label.xml" if folder == "train" else "test_label.xml")
    items = parse_rows(_xml_items(labels), _xml_record, "has an item already")

    def find(name: str, origin: str) -> tuple[str, Record]:
        if name not in items:
            raise ValueError(f"image {name!r} has no item in {labels}")
        return name, replace(items[name], image=root / f"image_{folder}" / name, origin=origin)

    return list(parse_rows(_lines(names), find, "is listed already").values())


def _xml_items(path: Path) -> list[tuple[str, dict[str, str]]]:
    """The attributes of a VeRi label file's items, each behind its place."""
    items = []
    parser = expat.ParserCreate()

    def start(_: str, attributes: dict[str, str]) -> None:
        if "imageName" in attributes:
            items.append((f"{path}:{parser.CurrentLineNumber}", attributes))

    parser.StartElementHandler = start
    with readable(path):
        # Text, not bytes: expat does not know the gb2312 that the file declares.
        parser.Parse(path.read_text(encoding="gb2312"), True)
    return items


def _xml_record(attributes: dict[str, str], origin: str) -> tuple[str, Record]:
    image = attributes["imageName"]
    return image, Record(
        image=Path(image),
        vehicle_id=_whole(attributes.get("vehicleID", ""), "vehicleID"),
        camera_id=_camera(attributes.get("cameraID", "")),
        color_id=_whole(attributes.get("colorID", ""), "colorID") or None,
        type_id=_whole(attributes.get("typeID", ""), "typeID") or None,
        origin=origin,
    )


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """The lines that are not blank, each behind its place."""
    with readable(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


# CSV with a header


def _read_csv(root: Path, path: Path, _: str) -> list[Record]:
    rows = read_csv(path)
    origin, fields = next(rows, (f"{path}:1", []))
    header = [name.strip() for name in fields]
    missing = {"image", "vehicle_id"} - set(header)
    if missing or not set(header) <= set(_CSV_COLUMNS) or len(set(header)) != len(header):
        raise LabelError(
            f"{origin}: the header is {','.join(header)!r}; expected {','.join(_CSV_COLUMNS)}, "
            f"of which image and vehicle_id must be there"
        )
    return list(parse_rows(rows, partial(_csv_record, root, header)).values())


def _csv_record(
    root: Path, header: list[str], fields: list[str], origin: str
) -> tuple[str, Record]:
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} columns; expected as many as in the header")
    values = dict(zip(header, fields, strict=True))
    image = values["image"].strip()
    if not image:
        raise ValueError("image is empty; expected a path below the data set's root")
    return str(Path(image)), Record(
        image=root / image,
        vehicle_id=_whole(values["vehicle_id"], "vehicle_id"),
        camera_id=_camera(values.get("camera", "")),
        color_id=_class(values.get("color", ""), COLORS, "color"),
        type_id=_class(values.get("type", ""), TYPES, "type"),
        origin=origin,
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
