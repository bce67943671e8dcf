"""Packs: a data set as MindRecord files, images and all 49 pose maps ready to use."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import MultiTaskNetError
from ..images import read_image
from ..vehicle.maps import MAP_SIZE, NUM_MAPS
from .labels import LabelError
from .records import Record, Split, VehicleDataset
from .samples import load_maps

MANIFEST = "pack.json"
_FORMAT = 3
_UNKNOWN = -1
_EDGE = 1 << 20


class PackError(MultiTaskNetError, OSError):
    """A pack that cannot be written or read."""


def write_pack(dataset: VehicleDataset, output: str | Path, *, progress: bool = True) -> Path:
    """Write a data set's splits into a new folder.

    A split becomes ``<split>.mindrecord`` (the image files as they are, and uint8 ``[49, 64, 64]``
    maps, deflated) and ``<split>.npz`` (labels and keypoints). The folder appears only when whole.

    Raises:
        PackError: the folder exists already and is not empty, or cannot be written.
    """
    output = Path(output)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise PackError(f"{output}: something is there already; give a new or empty folder")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=output.parent, prefix=f".{output.name}-"))
        try:
            for split in dataset.splits:
                _write_split(scratch, split, progress)
            manifest = {"format": _FORMAT, "splits": [split.name for split in dataset.splits]}
            (scratch / MANIFEST).write_text(json.dumps(manifest))
            scratch.chmod(0o755)
            scratch.replace(output)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise PackError(f"{output}: the pack cannot be written: {error}") from error
    return output


def read_pack(root: Path, splits: Sequence[str] | None) -> VehicleDataset:
    """Read the labels of a pack's splits, of all by default; its images the pipeline reads.

    Raises:
        LabelError: a split is not in the pack, or the pack is damaged.
    """
    try:
        manifest = json.loads((root / MANIFEST).read_text())
        if manifest["format"] != _FORMAT:
            raise ValueError(f"format {manifest['format']}, expected {_FORMAT}")
        names = splits or manifest["splits"]
        missing = [name for name in names if name not in manifest["splits"]]
        if missing:
            raise LabelError(
                f"{root}: the pack has no split {missing[0]!r}; it has "
                f"{', '.join(manifest['splits'])}"
            )
        return VehicleDataset(root, **{name: _read_split(root, name) for name in names})
    except LabelError:
        raise
    # NumPy and zipfile report damage in many ways, from EOFError to NotImplementedError.
    except Exception as error:
        raise LabelError(f"{root}: the pack is damaged ({error}); pack it again") from error


def inflate_maps(deflated: bytes) -> np.ndarray:
    """All maps of an image, uint8 ``[49, 64, 64]``."""
    flat = np.frombuffer(zlib.decompress(deflated), dtype=np.uint8)
    return flat.reshape(NUM_MAPS, MAP_SIZE, MAP_SIZE)


def _write_split(folder: Path, split: Split, progress: bool) -> None:
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(str(_file(folder, split.name, ".mindrecord")), shard_num=1)
    writer.add_schema({"image": {"type": "bytes"}, "maps": {"type": "bytes"}}, "vehicle images")
    rows = tqdm(split.records, desc=f"pack {split.name}", disable=None if progress else True)
    for row in map(_image_row, rows):
        writer.write_raw_data([row])
    writer.commit()
    labels = _label_columns(split.records)
    fingerprint = _fingerprint(_file(folder, split.name, ".mindrecord"))
    np.savez(_file(folder, split.name, ".npz"), fingerprint=fingerprint, **labels)


def _image_row(record: Record) -> dict[str, bytes]:
    height, width = read_image(record.image).shape[:2]
    maps = load_maps(record, (height, width))
    return {"image": record.image.read_bytes(), "maps": zlib.compress(maps.tobytes(), 1)}


def _label_columns(records: Sequence[Record]) -> dict[str, np.ndarray]:
    poses = [record.keypoints for record in records]
    known = np.array([pose is not None for pose in poses])
    return {
        "images": np.array([str(record.image) for record in records]),
        "vehicle_ids": np.array([record.vehicle_id for record in records]),
        "camera_ids": np.array([record.camera_id for record in records]),
        "color_ids": np.array([_to_number(record.color_id) for record in records]),
        "type_ids": np.array([_to_number(record.type_id) for record in records]),
        "has_keypoints": known,
        "keypoints": np.array([pose for pose in poses if pose is not None], dtype=np.float32),
    }


def _read_split(root: Path, name: str) -> Split:
    pack = _file(root, name, ".mindrecord")
    with np.load(_file(root, name, ".npz"), allow_pickle=False) as stored:
        columns = dict(stored)
    if columns["fingerprint"] != _fingerprint(pack):
        raise ValueError(f"{pack.name} and {name}.npz do not belong together")
    records = tuple(
        replace(record, origin=f"{pack}:{index}")
        for index, record in enumerate(_records(columns), start=1)
    )
    return Split(name, records, pack)


def _records(columns: dict[str, Any]) -> Iterator[Record]:
    poses = iter(columns["keypoints"])
    names = ("images", "vehicle_ids", "camera_ids", "color_ids", "type_ids", "has_keypoints")
    rows = zip(*(columns[name].tolist() for name in names), strict=True)
    for image, vehicle_id, camera_id, color_id, type_id, has_keypoints in rows:
        yield Record(
            image=Path(image),
            vehicle_id=vehicle_id,
            camera_id=camera_id,
            color_id=_from_number(color_id),
            type_id=_from_number(type_id),
            keypoints=next(poses) if has_keypoints else None,
        )


def _file(folder: Path, split: str, suffix: str) -> Path:
    return folder / f"{split}{suffix}"


def _fingerprint(pack: Path) -> str:
    """Tells images apart without reading all: the size, the first and the last MiB, the index."""
    digest = hashlib.sha256(str(pack.stat().st_size).encode())
    with pack.open("rb") as file:
        digest.update(file.read(_EDGE))
        file.seek(max(pack.stat().st_size - _EDGE, 0))
        digest.update(file.read())
    digest.update(pack.with_name(f"{pack.name}.db").read_bytes())
    return digest.hexdigest()


def _to_number(raw_id: int | None) -> int:
    return _UNKNOWN if raw_id is None else raw_id


def _from_number(number: int) -> int | None:
    return None if number == _UNKNOWN else number
