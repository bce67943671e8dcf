"""Write a whole synthetic data set in the PAMTRI layout."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache, partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from multitasknet.vehicle.keypoints import NUM_KEYPOINTS
from multitasknet.vehicle.maps import draw_maps

from .chance import FOR_CAMERA, FOR_MODEL, FOR_PICTURE, FOR_VEHICLE, stream
from .look import draw_look
from .model import build_model
from .plan import SPLITS, Picture, VehiclePlan, make_plan
from .scene import Shot, Station, draw_station, shoot
from .trace import import_embree
from .work import check, run, whole_folder, write_csv

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SyntheticData:
    """A finished data set.

    Attributes:
        root: its folder.
        vehicles: identities by part: train and test (query and gallery share theirs).
        images: pictures by split: train, query, test.
    """

    root: Path
    vehicles: dict[str, int]
    images: dict[str, int]


def synthesize(
    root: str | Path,
    *,
    vehicles: int = 60,
    test_vehicles: int | None = None,
    images: int = 12,
    cameras: int = 6,
    pixels: int = 256,
    models: int | None = None,
    prior: str = "even",
    seed: int = 0,
    workers: int = 1,
    heatmaps: bool = False,
    segments: bool = False,
    progress: bool = False,
) -> SyntheticData:
    """Write synthetic vehicles in the PAMTRI layout; the same seed gives the same bytes.

    The folder appears whole at the end: until then all is written to a hidden one beside it.
    With ``workers`` above 1, a script must call this under ``if __name__ == "__main__"``.

    Args:
        root: the new folder; it must not exist, or be empty.
        vehicles: identities for training.
        test_vehicles: identities for query and gallery; default is a third as many as for
            training, and at least 10.
        images: pictures of each vehicle.
        cameras: camera ids.
        pixels: the longer side of the pictures, 32 to 2048.
        models: of how many models the vehicles for training are, at least one of each type; those
            of the test are of others. By default every vehicle has a shape of its own.
        prior: ``even``, for training: wide ranges, all sides, colours and types; or ``real``: as on
            traffic crops, of many sizes about ``pixels``.
        seed: of everything that is random.
        workers: processes.
        heatmaps, segments: whether to write the pose maps as files as well.
        progress: whether to show a progress bar on stderr, where that is a terminal.
    Raises:
        SyntheticError: an argument or the folder cannot be used, or the renderer is not installed;
            nothing has been written.
    """
    root = Path(root)
    check(prior, seed, pixels=(pixels, 32, 2048), workers=(workers, 1, 9999))
    plans = make_plan(
        vehicles, images, cameras, seed, prior=prior, test_vehicles=test_vehicles, models=models
    )
    import_embree()
    with whole_folder(root) as folder:
        for split in SPLITS:
            (folder / f"image_{split}").mkdir()
        make = partial(
            _make_vehicle,
            folder=folder,
            maps={"heatmaps": heatmaps, "segments": segments},
            seed=seed,
            pixels=pixels,
            prior=prior,
        )
        tables = defaultdict[str, list[Sequence[object]]](list)
        with tqdm(
            total=len(plans) * images, unit="image", disable=None if progress else True
        ) as bar:
            for plan, taken in zip(plans, run(make, plans, workers), strict=True):
                for picture, rows in zip(plan.pictures, taken, strict=True):
                    for name, row in rows.items():
                        tables[f"{name}_{picture.split}"].append(row)
                bar.update(len(taken))
        for split in SPLITS if models is not None else ():
            of_split = (one for one in plans if any(p.split == split for p in one.pictures))
            known = [(plan.vehicle_id, plan.model) for plan in of_split]
            tables[f"model_{split}"] = [("vehicle", "model"), *known]
        for name, lines in tables.items():
            write_csv(folder / f"{name}.csv", lines)
    _LOG.info("wrote %d images to %s", len(plans) * images, root)
    return SyntheticData(
        root=root,
        vehicles={"train": vehicles, "test": len(plans) - vehicles},
        images={split: len(tables[f"label_{split}"]) for split in SPLITS},
    )


def take_picture(
    plan: VehiclePlan, picture: Picture, *, seed: int = 0, pixels: int = 256, prior: str = "even"
) -> Shot:
    """Take one picture of a plan, the very one that :func:`synthesize` writes."""
    return next(_shots(replace(plan, pictures=(picture,)), seed, pixels, prior))


def _shots(plan: VehiclePlan, seed: int, pixels: int, prior: str) -> Iterator[Shot]:
    identity = stream(seed, FOR_VEHICLE, plan.vehicle_id)
    design = None
    if plan.model is not None:
        design = int(stream(seed, FOR_MODEL, plan.model).integers(2**31))
    model = build_model(draw_look(identity, plan.type_id, plan.color_id, model=design))
    for picture in plan.pictures:
        rng = stream(seed, FOR_PICTURE, picture.vehicle_id, picture.index)
        station = _station(seed, picture.camera, prior)
        yield shoot(model, station, rng, pixels=pixels, prior=prior)


@lru_cache(maxsize=96)
def _station(seed: int, camera: int, prior: str) -> Station:
    """Cameras are as costly to draw as several pictures, and each worker meets all of them."""
    return draw_station(stream(seed, FOR_CAMERA, camera), prior)


def _make_vehicle(
    plan: VehiclePlan, *, folder: Path, maps: dict[str, bool], seed: int, pixels: int, prior: str
) -> list[dict[str, list[object]]]:
    """Take and write all pictures of one vehicle; return each one's row in each table."""
    rows = []
    for picture, shot in zip(plan.pictures, _shots(plan, seed, pixels, prior), strict=True):
        # Rounded as the label file states them, so that drawn maps agree with it.
        keypoints = shot.keypoints.round(2)
        (folder / f"image_{picture.split}" / picture.name).write_bytes(shot.jpeg)
        if any(maps.values()):
            _write_maps(folder, maps, picture, shot.jpeg, keypoints)
        places, view = (
            [f"{value:.2f}" for value in values]
            for values in (keypoints.ravel().tolist(), astuple(shot.view))
        )
        ids = plan.vehicle_id, plan.color_id, plan.type_id
        rows.append(
            {
                "label": [picture.name, *ids, *places],
                "visibility": [picture.name, *shot.visibility.tolist()],
                "view": [picture.name, *view],
            }
        )
    return rows


def _write_maps(
    folder: Path, kinds: dict[str, bool], picture: Picture, jpeg: bytes, keypoints: np.ndarray
) -> None:
    with Image.open(BytesIO(jpeg)) as image:
        width, height = image.size
    maps = draw_maps(keypoints, **kinds, height=height, width=width)
    count = NUM_KEYPOINTS if kinds["heatmaps"] else 0
    for name, group in (("heatmap", maps[:count]), ("segment", maps[count:])):
        target = folder / f"{name}_{picture.split}" / Path(picture.name).stem
        for index, values in enumerate(group):
            target.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(target / f"{index:02}.jpg", quality=95)
