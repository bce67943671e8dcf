"""A gallery, in memory and on disk: what is in it, what is found, and what opens as one."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import drawn
import numpy as np
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stores import PixelPredictor

from multitasknet.errors import GalleryError, MultiTaskNetError
from multitasknet.gallery.gallery import Gallery, open_gallery
from multitasknet.gallery.rows import Facets, GalleryRow
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.ranking.distances import squared_distances

NOON = datetime(2026, 11, 1, 12)
COUNT = 60


def row_of(number: int) -> dict[str, Any]:
    return stores.row(
        f"it's {number}",
        number,
        camera=("", "2", "11")[number % 3],
        time=NOON + timedelta(seconds=number) if number % 10 else None,
        type=("van", "bus")[number % 2],
    )


def passes(row: GalleryRow, chosen: dict[str, Any]) -> bool:
    """What a filter means, told once more."""
    values = {"cameras": row.camera, "colors": row.color, "types": row.type}
    if any(chosen[name] and value not in chosen[name] for name, value in values.items()):
        return False
    first, last = chosen["not_before"], chosen["not_after"]
    if row.time is None:
        return first is None and last is None
    return (first is None or row.time >= first) and (last is None or row.time <= last)


@pytest.fixture(scope="module", params=["memory", "disk"])
def gallery(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    is_disk = request.param == "disk"
    place = tmp_path_factory.mktemp("city") / "city.lance" if is_disk else "memory://"
    made = stores.open_gallery(place)
    made.merge([row_of(number) for number in range(COUNT)], insert=True)
    return made


FACETS = Facets(("2", "11", "9"), ("red", "blue"), ("van", "bus"))
filters = st.fixed_dictionaries(
    {
        "cameras": st.lists(st.sampled_from(FACETS.cameras), max_size=2),
        "colors": st.lists(st.sampled_from(FACETS.colors), max_size=1),
        "types": st.lists(st.sampled_from(FACETS.types), max_size=1),
        "not_before": st.none() | st.just(NOON + timedelta(seconds=7)),
        "not_after": st.none() | st.just(NOON + timedelta(seconds=47)),
    }
)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 99), filters, st.integers(1, 70), st.none() | st.floats(0, 90))
def test_the_nearest_are_found_among_what_passes(
    gallery: Gallery, seed: int, chosen: dict, top: int, reach: float | None
) -> None:
    rows = list(gallery.select("true"))
    every = np.stack([row_of(number)["embedding"] for number in range(COUNT)]).astype(np.float32)
    queries = np.random.default_rng(1000 + seed).normal(size=(2, stores.WIDTH)).astype(np.float32)
    found = gallery.search(queries, top=top, where=FACETS.where(**chosen), max_distance=reach)
    for distances, hits in zip(squared_distances(queries, every), found, strict=True):
        expected = sorted(
            (float(distance), one.id)
            for one, distance in zip(rows, distances, strict=True)
            if passes(one, chosen)
        )[:top]
        near = [one for one in expected if reach is None or one[0] <= reach]
        assert [(hit.distance, hit.row.id) for hit in hits] == near


def test_a_row_its_embedding_and_the_facets(gallery: Gallery) -> None:
    assert len(gallery) == COUNT
    time = NOON + timedelta(seconds=17)
    assert gallery.row("it's 17") == GalleryRow(
        "it's 17", Path("/17.png"), "11", time, "blue", "bus", first=time, last=time
    )
    np.testing.assert_array_equal(gallery.embedding("it's 17"), row_of(17)["embedding"])
    assert gallery.facets.cameras == ("2", "11") and gallery.facets.colors == ("blue", "red")
    for of in (gallery.row, gallery.embedding):
        with pytest.raises(KeyError):
            of("nobody")
    with pytest.raises(ValueError, match="as many columns"):
        gallery.search(np.zeros((1, 3)), top=1)
    with pytest.raises(ValueError, match="top is 0"):
        gallery.search(np.zeros((1, stores.WIDTH)), top=0)


def test_all_columns_of_times_take_text() -> None:
    city = stores.open_gallery()
    city.add_columns([{"my time": NOON}])
    times = {"time": NOON, "first": NOON, "last": NOON, "my time": NOON}
    city.merge([stores.row("a", 1, **times)], insert=True)
    for name in ("time", "first", "last", "`my time`"):
        assert city.count(f"{name} > '2026-11-01 08:02'") == 1
        assert city.count(f"{name} between '2026-11-02' and '2026-11-03'") == 0
    assert city.count("time > '2026-11-01' and 'blue' = color") == 1


def test_groups_have_the_nearest_row_of_each(gallery: Gallery) -> None:
    query = gallery.embedding("it's 17")[None]
    (hits,) = gallery.search(query, top=9, group_by="camera")
    best = [
        gallery.search(query, top=1, where=f"camera = '{camera}'")[0][0]
        for camera in ("", *gallery.facets.cameras)
    ]
    assert hits == sorted(best, key=lambda one: one.distance)
    with pytest.raises(GalleryError, match="group_by is 'vehicle'; expected camera, color, type"):
        gallery.search(query, top=9, group_by="vehicle")


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("time > '2026-11-01 12:00:50'", 9),
        ("time >= '2026-11-01 12:01' or time < '2026-11-01 12:00:02'", 1),
        ("time > '2026-11-01T14:00:50+02:00'", 9),
        ("time > timestamp '2026-11-01T12:00:50Z'", 9),
        ("time between '2026-11-01 12:00' and '2026-11-01 12:00:02.5'", 2),
        ("time not between '2026-11-01' and '2026-11-01 12:00:57'", 2),
        ("id <> 'time > ''2026''' and time is null", 6),
        ("camera in ('2', '11') and color = 'red'", 20),
    ],
)
def test_conditions_are_sql_and_take_times_as_people_write_them(
    gallery: Gallery, where: str, count: int
) -> None:
    assert gallery.count(where) == count
    assert len(gallery.search(np.ones((1, stores.WIDTH)), top=COUNT, where=where)[0]) == count


@pytest.mark.parametrize("where", ["nope = 3", "camera ==== 3", "camera", "color = 3", "("])
def test_conditions_that_cannot_be_used_name_the_columns(gallery: Gallery, where: str) -> None:
    with pytest.raises(GalleryError, match="columns id, image, box, camera"):
        gallery.search(np.zeros((1, stores.WIDTH)), top=1, where=where)
    with pytest.raises(GalleryError, match="'noon' is not a time"):
        gallery.count("time > 'noon'")


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Two VeRi-like names and one without labels, below each other."""
    folder = tmp_path / "crops"
    (folder / "b").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0132] = "2024:02:03 04:05:06"
    rng = np.random.default_rng(0)
    for name in ("0001_c002_00000001_0.jpg", "0001_c011_00000002_0.jpg", "b/car.png"):
        picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        picture.save(folder / name, **({"exif": exif} if "c011" in name else {}))
    return folder


def test_a_folder_is_a_gallery_in_memory(crops: Path) -> None:
    predictor = PixelPredictor()
    (crops / "b" / "broken.png").write_bytes(b"no picture")
    before = sorted(crops.rglob("*"))
    gallery = open_gallery(crops, predictor, progress=False)
    assert len(gallery) == predictor.embedded == 3 and gallery.facets.cameras == ("2", "11")
    one = gallery.row("0001_c011_00000002_0.jpg")
    assert one.time == datetime(2024, 2, 3, 4, 5, 6) and one.image.is_file()
    (found,) = predictor.stream([one.image])
    assert one.color == found.color and gallery.find([found.sha256]) == {found.sha256: one}
    np.testing.assert_allclose(gallery.embedding(one.id), found.embedding, rtol=1e-3, atol=1e-3)
    assert gallery.row("b/car.png").camera == ""
    assert sorted(crops.rglob("*")) == before


def test_a_data_set_gives_its_gallery(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 2, 2))
    gallery = open_gallery(root, PixelPredictor(), progress=False)
    images = sorted((root / "image_test").iterdir())
    assert len(gallery) == len(images) and gallery.facets.cameras == ("1", "2")
    assert gallery.row(f"image_test/{images[0].name}").image == images[0]
    assert gallery.count("pose_origin = 'given'") == len(images)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "expected a store"),
        ("file.txt", "expected a store"),
        ("empty", "no picture found"),
        ("city.lance", "there is no gallery; make one"),
        ("file.lance", "not a gallery, or a damaged one"),
        ("broken", "no picture can be read"),
    ],
)
def test_what_is_not_a_gallery(tmp_path: Path, name: str, message: str) -> None:
    for file in ("file.txt", "file.lance"):
        (tmp_path / file).touch()
    for folder in ("empty", "city.lance", "broken"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "broken" / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(MultiTaskNetError, match=message):
        open_gallery(tmp_path / name, PixelPredictor(), progress=False)


def test_a_gallery_of_other_weights_or_width_is_refused(tmp_path: Path, crops: Path) -> None:
    path = tmp_path / "city.lance"
    stores.open_gallery(path).add(PixelPredictor(), [crops], progress=False)
    with pytest.raises(GalleryError, match="weights_sha256 abab"):
        open_gallery(path, PixelPredictor(weights="cd" * 32))
    with pytest.raises(GalleryError, match="other classes"):
        Gallery.create(path, PixelPredictor(spec=MultiTaskNetSpec()))
    with pytest.raises(GalleryError, match=r"ends in \.lance"):
        stores.open_gallery(tmp_path / "city")
