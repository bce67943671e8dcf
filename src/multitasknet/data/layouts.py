"""Reading data sets. A layout is recognised by the files in the root; each is a function here,
which lists the images of a split with what is stated of them. docs/data.md shows the files."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from xml.parsers import expat

from ..errors import DataError
from ..files import reading
from ..images import find_images
from ..vehicle.cameras import UNKNOWN_CAMERA
from .class_names import UNKNOWN_WORDS, ClassNames
from .file_names import camera_in, path_in, vehicle_in
from .labels import read_labels, read_visibility
from .records import NO_VEHICLE, SPLITS, Record, Split, VehicleDataset, check_files
from .text import (
    as_number,
    parse_all,
    parse_rows,
    parse_time,
    read_csv,
    read_lines,
    read_table,
    read_text,
)

logger = logging.getLogger(__name__)

FOLDERS = {"train": "train", "query": "query", "gallery": "test"}
_MARKET = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
_VRIC = {"train": "train", "query": "probe", "gallery": "gallery"}
_WILD_COLUMNS = 6  # vehicle/image, camera, time, model, type, color
_WILD_IMAGES = {3000: (3000, 38861), 5000: (5000, 64389), 10000: (10000, 128517)}
_NAMED = re.compile(r"(?:-1|[0-9]+)_")


def read_dataset(
    root: str | Path,
    splits: Sequence[str] | None = None,
    *,
    check: bool = True,
    labelled: bool = True,
    test_size: int | None = None,
) -> VehicleDataset:
    """Read and check a data set in any of this module's layouts.

    Args:
        root: its folder.
        splits: which of ``train``, ``query`` and ``gallery`` are wanted; each must be there.
            Default is what is there.
        check: decode every image once, so that a bad one is named now and not hours later.
        labelled: leave out images of no known vehicle, as a challenge's test images are.
        test_size: of data sets with several, that with so many vehicles; default is the smallest.

    Raises:
        DataError: no known layout, or faulty labels or images; one message names file, line and
            value of up to 20 problems of a split.
    """
    root = Path(root)
    layout = _layout_of(root, test_size)
    if test_size and not layout.has_sizes:
        raise DataError(f"{root}: a test size is given, but it has one test set; leave it out")
    names, found = ClassNames(root), {}
    for name in splits or layout.splits:
        place = layout.places.get(name)
        if name not in layout.splits:
            expected = place or ", ".join(SPLITS)
            raise DataError(f"{root}: there is no split {name!r}; expected {expected}")
        every = _records(layout, name, names)
        records = tuple(
            record for record in every if record.vehicle_id != NO_VEHICLE or not labelled
        )
        if left_out := len(every) - len(records):
            logger.warning("%s: %d images of no known vehicle are left out", place, left_out)
        if not records and splits:
            raise DataError(f"{place}: the split {name!r} is empty; expected at least one image")
        if check:
            check_files(records, decode=True)
        found[name] = Split(name, records)
    if not any(map(len, found.values())):
        raise DataError(f"{root}: no split has an image; expected at least one")
    names.warn()
    return VehicleDataset(
        root, **found, layout=layout.name, protocol=layout.protocol, published=layout.published
    )


def has_split(root: Path, name: str) -> bool:
    """Whether a folder is a data set in any of these layouts, with that split."""
    try:
        return name in _layout_of(root).splits
    except DataError:
        return False


class Item(NamedTuple):
    """An image as a data set lists it."""

    origin: str  # its place, ``file:line``
    folder: Path
    name: str  # its path in the folder
    # Its ``vehicle``, ``camera``, ``color`` and ``type`` in the data set's own words, "" where
    # unknown; a vehicle or camera that is absent is the one in its name. Others are attributes of
    # Record.
    known: Mapping[str, Any]


@dataclass(frozen=True)
class Layout:
    """How a data set is laid out."""

    name: str  # as users know it
    places: Mapping[str, Path]  # where each split's labels, or else images, have to be
    read: Callable[[str], Iterable[Item]]  # lists a split
    protocol: str = "veri"  # of multitasknet.ranking.protocols
    # How many queries and gallery images published figures are of, if that is known.
    published: tuple[int, int] | None = None
    has_sizes: bool = False  # whether there are several test sets
    own_classes: bool = False  # whether it numbers colours and types in a way of its own

    @property
    def splits(self) -> list[str]:
        """The splits that are there."""
        return [name for name, place in self.places.items() if place.exists()]


def _layout_of(root: Path, test_size: int | None = None) -> Layout:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder; give the root of a data set")
    labelled = _pamtri(root, "PAMTRI", root), _pamtri(root, "NVlabs", root / "annot")
    sized = _vehicleid(root, test_size), _veriwild(root, test_size)
    for layout in (*labelled, _table(root), *sized, _vric(root), _veri(root), _market(root)):
        if layout.splits:
            return layout
    raise DataError(
        f"{root}: no known layout; expected label_<split>.csv (PAMTRI), annot/label_<split>.csv "
        f"(NVlabs), train.csv, query.csv and gallery.csv, image_train, image_query and image_test "
        f"(VeRi, CityFlow), train_test_split with image (VehicleID) or images (VERI-Wild), "
        f"vric_<split>.txt (VRIC), or bounding_box_train, query and bounding_box_test (Market)"
    )


def _pamtri(root: Path, name: str, labels: Path) -> Layout:
    """PAMTRI and NVlabs: a label file for each split, and maps in ``heatmap_<split>/<stem>/00.jpg``
    to ``35.jpg`` and ``segment_<split>/<stem>/00.jpg`` to ``12.jpg``.

    NVlabs' images may lie in any of four folders.
    """
    places = {split: labels / f"label_{one}.csv" for split, one in FOLDERS.items()}

    def read(split: str) -> Iterator[Item]:
        folder = FOLDERS[split]
        own = root / f"image_{folder}"
        folders = own, root / "image_train", root / "image_test", root / "images"
        visibility = read_visibility(root / f"visibility_{folder}.csv")
        for row in read_labels(places[split]).values():
            known: dict[str, Any] = {"vehicle": row.vehicle_id, "keypoints": row.keypoints}
            known |= {"color_id": row.color_id or None, "type_id": row.type_id or None}
            known["visibility"] = visibility.get(row.image)
            for kind in ("heatmap", "segment"):
                maps = (root / f"{kind}_{folder}" / row.image).with_suffix("")
                known[f"{kind}s"] = maps if maps.is_dir() else None
            there = (one for one in folders if (one / row.image).exists())
            yield Item(row.origin, next(there, own), row.image, known)

    return Layout(name, places, read)


def _table(root: Path) -> Layout:
    """CSV with a header; images are paths below the root."""
    places = {split: root / f"{split}.csv" for split in SPLITS}

    def read(split: str) -> Iterator[Item]:
        # Words become numbers in the order of all splits' words, which must be the same in each.
        tables = {
            one: read_table(place, ["image", "vehicle_id"])
            for one, place in places.items()
            if place.exists()
        }
        rows = [row for table in tables.values() for _, row in table]
        vehicles = _numbering(row["vehicle_id"] for row in rows)
        cameras = _numbering(row.get("camera", "") for row in rows)
        has_cameras = any("camera" in row for row in rows)
        for origin, row in tables[split]:
            vehicle, camera = row["vehicle_id"], row.get("camera", "")
            known = {kind: row.get(kind, "") for kind in ("color", "type")}
            known |= {"vehicle": vehicles.get(vehicle, vehicle)}
            known |= {"camera": cameras.get(camera, camera)} if has_cameras else {}
            yield Item(origin, root, row["image"], known)

    return Layout("CSV", places, read)


def _numbering(column: Iterable[str]) -> dict[str, Any]:
    """A column's words as numbers: as they state, or by rank where they are names."""
    known = sorted(word for word in set(column) if word.lower() not in UNKNOWN_WORDS)
    try:
        return {word: as_number(word, "") for word in known}
    except ValueError:
        return {word: rank for rank, word in enumerate(known, start=1)}


def _vehicleid(root: Path, test_size: int | None) -> Layout:
    """VehicleID, whose cameras are not known.

    The first image of each vehicle to test on is the gallery's; the protocol draws others.
    """
    lists, images = root / "train_test_split", root / "image"
    size = test_size or _smallest(lists, r"test_list_([0-9]+)\.txt", 800)
    test = lists / f"test_list_{size}.txt"
    places = {"train": lists / "train_list.txt", "query": test, "gallery": test}

    def read(split: str) -> Iterator[Item]:
        files = {"color": "color_attr.txt", "type": "model_attr.txt"}
        words = {
            kind: dict(row for _, row in _read_columns(root / "attribute" / file, 2))
            for kind, file in files.items()
        }
        rows = _read_columns(places[split], 2)
        firsts = {vehicle: image for _, (image, vehicle) in reversed(rows)}
        for origin, (image, vehicle) in rows:
            if split == "train" or (firsts[vehicle] == image) == (split == "gallery"):
                classes = {kind: of.get(vehicle, "") for kind, of in words.items()}
                known = {"vehicle": vehicle, "camera": "", **classes}
                yield Item(origin, images, _as_jpeg(image), known)

    there, name = places if images.is_dir() else {}, f"VehicleID, tested on {size} vehicles"
    return Layout(name, there, read, "vehicleid", has_sizes=True, own_classes=True)


def _veriwild(root: Path, test_size: int | None) -> Layout:
    """VERI-Wild, of which ``vehicle_info.txt`` states camera, time, colour and type."""
    lists, images = root / "train_test_split", root / "images"
    size = test_size or _smallest(lists, r"test_([0-9]+)\.txt", 3000)
    files = {"train": "train_list", "query": f"test_{size}_query", "gallery": f"test_{size}"}
    places = {split: lists / f"{file}.txt" for split, file in files.items()}

    def read(split: str) -> Iterator[Item]:
        candidates = (folder / "vehicle_info.txt" for folder in (lists, root))
        file = next(filter(Path.is_file, candidates), None)
        rows = [*read_csv(file)][1:] if file else []
        about = {row[0].strip(): row for _, row in rows if len(row) >= _WILD_COLUMNS}
        for origin, line in read_lines(places[split]):
            image = path_in(line)
            known: dict[str, Any] = {"vehicle": image.split("/")[0], "camera": ""}
            if image in about:
                _, camera, time, _, kind, color, *_ = about[image]
                known |= {"camera": camera, "color": color, "type": kind}
                with suppress(ValueError):
                    known["time"] = parse_time(time.strip())
            yield Item(origin, images, _as_jpeg(image), known)

    there, name = places if images.is_dir() else {}, f"VERI-Wild, tested on {size} vehicles"
    return Layout(name, there, read, "veriwild", _WILD_IMAGES.get(size), has_sizes=True)


def _smallest(folder: Path, pattern: str, usual: int) -> int:
    """The size of the smallest test set whose list is there."""
    matches = (re.fullmatch(pattern, file.name) for file in folder.glob("test_*.txt"))
    return min((int(found[1]) for found in matches if found), default=usual)


def _as_jpeg(name: str) -> str:
    return name if name.lower().endswith(".jpg") else f"{name}.jpg"


def _vric(root: Path) -> Layout:
    """VRIC: lists of image, vehicle and camera."""
    places = {split: root / f"vric_{one}.txt" for split, one in _VRIC.items()}

    def read(split: str) -> Iterator[Item]:
        folder = root / f"{_VRIC[split]}_images"
        for origin, (image, vehicle, camera) in _read_columns(places[split], 3):
            yield Item(origin, folder, image, {"vehicle": vehicle, "camera": camera})

    return Layout("VRIC", places, read, published=(2811, 2811))


def _veri(root: Path) -> Layout:
    """VeRi-776 and CityFlow-ReID; VeRi's queries are labelled in ``test_label.xml``.

    Of images without a label, names such as ``0002_c002_00030600_0.jpg`` state vehicle and camera.
    Vehicles of a CityFlow split without labels are not known.
    """
    folders = {split: root / f"image_{one}" for split, one in FOLDERS.items()}
    lists = {split: root / f"name_{one}.txt" for split, one in FOLDERS.items()}
    places = {split: lists[split] if lists[split].exists() else folders[split] for split in SPLITS}
    is_cityflow = (root / "query_label.xml").exists() or (root / "train_track.txt").exists()

    def read(split: str) -> Iterator[Item]:
        names = read_lines(lists[split]) if lists[split].is_file() else _pictures(folders[split])
        sources = ("train",) if split == "train" else (FOLDERS[split], "test")
        labels = (root / f"{one}_label.xml" for one in sources)
        file = next(filter(Path.is_file, labels), None)
        items = _xml_labels(file) if file else {}
        table = root / f"{FOLDERS[split]}_track.txt"
        lines = enumerate(read_lines(table) if table.is_file() else (), start=1)
        tracks = {path_in(one): number for number, (_, line) in lines for one in line.split()}
        for origin, text in names:
            name = path_in(text)
            is_unknown = is_cityflow and not file and not _NAMED.match(name)
            known = {"vehicle": ""} if is_unknown else items.get(name, {})
            yield Item(origin, folders[split], name, {**known, "track": tracks.get(name)})

    if is_cityflow:
        return Layout("CityFlow-ReID", places, read, "cityflow", (1052, 18290))
    return Layout("VeRi-776", places, read, published=(1678, 11579))


def _xml_labels(path: Path) -> dict[str, dict[str, Any]]:
    """What a label file states of each image; class 0 is unknown."""
    rows = []
    parser = expat.ParserCreate()

    def start(_: str, attributes: dict[str, str]) -> None:
        if "imageName" in attributes:
            rows.append((f"{path}:{parser.CurrentLineNumber}", attributes))

    parser.StartElementHandler = start
    text = read_text(path)
    with reading(path, DataError, "the label file cannot be read", "expected XML"):
        # Text, not bytes: expat does not know the gb2312 that VeRi's files declare.
        parser.Parse(text, True)

    def parse(attributes: dict[str, str], _: str) -> tuple[str, dict[str, Any]]:
        numbers: dict[str, Any] = {
            field: as_number(attributes[name], name)
            for name, field in (
                *(("vehicleID", "vehicle"), ("camID", "camera"), ("cameraID", "camera")),
                *(("colorID", "color"), ("typeID", "type")),
            )
            if attributes.get(name)
        }
        classes = {kind: str(numbers.get(kind) or "") for kind in ("color", "type")}
        return path_in(attributes["imageName"]), {"vehicle": "", **numbers, **classes}

    return parse_rows(rows, parse)


def _market(root: Path) -> Layout:
    """Market: names state labels."""
    places = {split: root / folder for split, folder in _MARKET.items()}
    # A folder named query alone may be anyone's.
    there = places if places["train"].is_dir() or places["gallery"].is_dir() else {}

    def read(split: str) -> Iterator[Item]:
        for origin, name in _pictures(places[split]):
            yield Item(origin, places[split], name, {})

    return Layout("Market", there, read)


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """The pictures in a folder: each one's place, and its path below the folder."""
    return [(str(path), path.relative_to(folder).as_posix()) for path in find_images(folder)]


def _read_columns(path: Path, count: int) -> list[tuple[str, list[str]]]:
    """The rows of a list whose columns blanks separate, each after its place; none without it."""

    def columns(line: str, place: str) -> tuple[str, list[str]]:
        if len(row := line.split()) != count:
            raise ValueError(f"{len(row)} columns; expected {count}, separated by blanks")
        return place, row

    return parse_all(read_lines(path) if path.is_file() else (), columns)


def _records(layout: Layout, split: str, names: ClassNames) -> list[Record]:
    """What is known of each image; DataError with up to 20 of the places where it is faulty."""

    def parse(item: Item, origin: str) -> tuple[str, Record]:
        name, known = path_in(item.name), dict(item.known)
        if not name:
            raise ValueError("the image has no name")
        image = item.folder / name
        if "vehicle" not in known and not _NAMED.match(image.name):
            raise ValueError(
                f"the name of {image.name!r} states no vehicle; expected one such as "
                f"0002_c002_00030600_0.jpg, or labels in XML or CSV files"
            )
        vehicle = known.pop("vehicle", vehicle_in(image.name))
        camera = known.pop("camera", camera_in(image.name))
        for kind in {"color", "type"} & known.keys():
            word = known.pop(kind)
            known[f"{kind}_id"] = names.id_of(kind, word, numbered=not layout.own_classes)
        ids = _id("vehicle", vehicle, NO_VEHICLE), _id("camera", camera, UNKNOWN_CAMERA)
        return name, Record(image, *ids, origin=origin, **known)

    rows = ((item.origin, item) for item in layout.read(split))
    return list(parse_rows(rows, parse).values())


def _id(field: str, value: int | str, unknown: int) -> int:
    if isinstance(value, int):
        return value
    return unknown if value.lower() in UNKNOWN_WORDS else as_number(value, field)
