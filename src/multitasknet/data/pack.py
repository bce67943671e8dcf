"""Packs: a data set as MindRecord files, images and all 49 pose maps ready to use."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..documents import read_json, shown
from ..errors import MultiTaskNetError
from ..files import (
    check_output,
    check_room,
    exclusive,
    make_folder,
    reading,
    replacing,
    stored_array,
    writing,
)
from ..images import picture_of, read_image
from ..models.base import Spec
from ..vehicle.keypoints import NUM_KEYPOINTS, pose_or_zeros
from ..vehicle.maps import MAP_SIZE, NUM_MAPS, select_maps
from ..vehicle.sample import Sample
from .labels import LabelError
from .records import Record, Split, VehicleDataset
from .samples import load_maps, make_sample

MANIFEST = "pack.json"
_FORMAT = 3
_UNKNOWN = -1
_IDS = ("vehicle_id", "camera_id", "color_id", "type_id")
_ARRAYS = {"keypoints": np.float32, "visibility": np.uint8}
_SHAPES = {"keypoints": (NUM_KEYPOINTS, 3), "visibility": (NUM_KEYPOINTS,)}
_EDGE = 1 << 20
_MARGIN = 1 << 23


class PackError(MultiTaskNetError, OSError):
    """A pack that cannot be written."""


def write_pack(dataset: VehicleDataset, output: str | Path, *, progress: bool = True) -> Path:
    """Write a data set's splits into a new folder.

    A split becomes ``<split>.mindrecord`` (the image files as they are, and uint8 ``[49, 64, 64]``
    maps, deflated) and ``<split>.npz`` (labels, keypoints and their visibility). The folder
    appears only when whole.

    Raises:
        PackError: the folder exists already and is not empty.
        OutputError: it cannot be written.
    """
    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise PackError(f"{output}: something is there already; give a new or empty folder")
    make_folder(output.parent)
    check_output(output, folder=True, needed=_image_bytes(dataset))
    place = output.resolve()  # of which "." has a name, too
    lock_file = place.with_name(f".{place.name}.lock")
    with exclusive(output, lock_file), replacing(place) as scratch:
        scratch.mkdir()
        for split in dataset.splits:
            with writing(output):
                _write_split(scratch, split, progress)
        manifest = {"format": _FORMAT, "splits": [split.name for split in dataset.splits]}
        (scratch / MANIFEST).write_text(json.dumps(manifest))
    return output


def read_pack(root: Path, splits: Sequence[str] | None) -> VehicleDataset:
    """Read the labels of a pack's splits, of all by default; its images the pipeline reads.

    Raises:
        LabelError: a split is not in the pack, or the pack is damaged.
    """
    with reading(root, LabelError, "the pack is damaged", "pack it again"):
        manifest = read_json(root / MANIFEST)
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {shown(manifest['format'])}, expected {_FORMAT}")
        names = splits or manifest["splits"]
        missing = [name for name in names if name not in manifest["splits"]]
        if missing:
            raise LabelError(
                f"{root}: the pack has no split {missing[0]!r}; it has "
                f"{', '.join(manifest['splits'])}"
            )
        return VehicleDataset(root, **{name: _read_split(root, name) for name in names})


def load_packed(record: Record, spec: Spec, image: np.ndarray, deflated: np.ndarray) -> Sample:
    """A packed record as a sample, from the two columns of its row."""
    pixels = picture_of(image.tobytes(), "the picture").decode()[0]
    if record.estimated:
        return make_sample(pixels, record.keypoints, spec)
    flat = np.frombuffer(zlib.decompress(deflated.tobytes()), dtype=np.uint8)
    maps = flat.reshape(NUM_MAPS, MAP_SIZE, MAP_SIZE)
    wanted = select_maps(maps, heatmaps=spec.heatmaps, segments=spec.segments)
    return Sample(pixels, pose_or_zeros(record.keypoints), wanted)


def _image_bytes(dataset: VehicleDataset) -> int:
    images = (record.image for split in dataset.splits for record in split.records)
    return sum(image.stat().st_size for image in images if image.is_file())


def _write_split(folder: Path, split: Split, progress: bool) -> None:
    from mindspore.mindrecord import FileWriter

    pack = folder / f"{split.name}.mindrecord"
    writer = FileWriter(str(pack), shard_num=1)
    writer.add_schema({"image": {"type": "bytes"}, "maps": {"type": "bytes"}}, "vehicle images")
    for record in tqdm(split.records, f"pack {split.name}", disable=None if progress else True):
        row = _image_row(record)
        # MindSpore's writer may crash where the disk is full, and take the process with it.
        check_room(pack, folder, sum(map(len, row.values())) + _MARGIN)
        writer.write_raw_data([row])
    writer.commit()
    labels = _label_columns(split.records)
    np.savez(pack.with_suffix(".npz"), fingerprint=_fingerprint(pack), **labels)


def _image_row(record: Record) -> dict[str, bytes]:
    height, width = read_image(record.image).shape[:2]
    maps = load_maps(record, (height, width))
    return {"image": record.image.read_bytes(), "maps": zlib.compress(maps.tobytes(), 1)}


def _label_columns(records: Sequence[Record]) -> dict[str, np.ndarray]:
    columns = {"images": np.array([str(record.image) for record in records])}
    for name, dtype in _ARRAYS.items():
        arrays = [getattr(record, name) for record in records]
        columns[f"has_{name}"] = np.array([array is not None for array in arrays])
        columns[name] = np.array([array for array in arrays if array is not None], dtype)
    for name in _IDS:
        ids = (getattr(record, name) for record in records)
        columns[f"{name}s"] = np.array([_UNKNOWN if raw is None else raw for raw in ids])
    return columns


def _read_split(root: Path, name: str) -> Split:
    pack = root / f"{name}.mindrecord"
    with np.load(pack.with_suffix(".npz"), allow_pickle=False) as stored:
        columns = dict(stored)
    if str(columns["fingerprint"]) != _fingerprint(pack):
        raise ValueError(f"{pack.name} and {name}.npz do not belong together")
    images = stored_array(columns, "images", "U").tolist()
    poses, visibility = (_optional(columns, name, len(images)) for name in _ARRAYS)
    ids = (stored_array(columns, f"{name}s", "i", (len(images),)).tolist() for name in _IDS)
    rows = zip(images, poses, visibility, *ids, strict=True)
    records = tuple(
        Record(
            image=Path(image),
            vehicle_id=vehicle_id,
            camera_id=camera_id,
            color_id=None if color_id == _UNKNOWN else color_id,
            type_id=None if type_id == _UNKNOWN else type_id,
            keypoints=pose,
            visibility=seen,
            origin=f"{pack}:{row}",
        )
        for row, (image, pose, seen, vehicle_id, camera_id, color_id, type_id) in enumerate(rows, 1)
    )
    return Split(name, records, pack)


def _optional(columns: dict[str, np.ndarray], name: str, count: int) -> list[np.ndarray | None]:
    """An array for each row that has one; older packs hold no visibility."""
    if f"has_{name}" not in columns:
        return [None] * count
    has = stored_array(columns, f"has_{name}", "b", (count,)).tolist()
    kind, shape = np.dtype(_ARRAYS[name]).kind, _SHAPES[name]
    # Of none, older packs keep no shape.
    arrays = iter(stored_array(columns, name, kind, (sum(has), *shape)) if any(has) else ())
    return [next(arrays) if one else None for one in has]


def _fingerprint(pack: Path) -> str:
    """Tells images apart without reading all: the size, the first and the last MiB, the index."""
    digest = hashlib.sha256(str(pack.stat().st_size).encode())
    with pack.open("rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(pack.stat().st_size - _EDGE, 0))
        digest.update(file.read())
    digest.update(pack.with_name(f"{pack.name}.db").read_bytes())
    return digest.hexdigest()
