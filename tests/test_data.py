"""Data sets in every layout: what is read, what is refused, and what comes out of the pipeline."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import drawn
import numpy as np
import pytest
from drawn_sets import cityflow, pictures, vehicleid, veriwild, vric, write, xml
from PIL import Image

from multitasknet import DataError, ImageError, MultiTaskNetSpec, create_pipeline
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.records import Record, mixture, warn_about
from multitasknet.data.samples import load_sample, prepared, read_batches
from multitasknet.gallery.entries import entries_of
from multitasknet.models.multitasknet.preprocessing import preprocess
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.vehicle.attributes import ClassMaps

PLAN = drawn.plan()
LAYOUTS = {"pamtri": drawn.pamtri, "veri": drawn.veri, "csv": drawn.plain_csv}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    roots = {name: draw(folder / name, PLAN) for name, draw in LAYOUTS.items()}
    roots["stored"] = drawn.pamtri(folder / "stored", PLAN, maps=True)
    return roots


@pytest.mark.parametrize("layout", ["pamtri", "veri", "csv", "stored"])
def test_every_layout_gives_the_same_records(roots: dict[str, Path], layout: str) -> None:
    dataset = read_dataset(roots[layout])
    for split in ("train", "query", "gallery"):
        wanted = [one for one in PLAN if one.split == split]
        records = getattr(dataset, split).records
        assert [record.image.name for record in records] == [one.name for one in wanted]
        assert [record.vehicle_id for record in records] == [one.vehicle for one in wanted]
        if layout == "csv" and split == "gallery":
            assert {(r.camera_id, r.color_id, r.type_id) for r in records} == {(-1, None, None)}
            continue
        assert [record.camera_id for record in records] == [one.camera for one in wanted]
        assert [record.color_id for record in records] == [one.color for one in wanted]
        if layout not in ("csv", "veri"):
            assert [record.type_id for record in records] == [one.kind for one in wanted]
            for record, one in zip(records, wanted, strict=True):
                np.testing.assert_array_equal(record.keypoints, one.keypoints)
        else:
            assert all(record.keypoints is None for record in records)


def test_class_maps_rank_the_sorted_ids() -> None:
    records = [
        Record(Path("x"), vehicle_id, color_id=color, type_id=kind)
        for vehicle_id, color, kind in ((70, 10, 2), (5, 1, None), (70, 5, 9))
    ]
    maps = ClassMaps.of(records)
    assert maps.vehicle_ids == (5, 70)
    assert ClassMaps.of([Record(Path("x"), 1, color_id=0)]).color_ids == (0,)
    assert maps.indices([*records, Record(Path("x"), 6)]).tolist() == [
        [1, 0, 1, -1],
        [2, 0, 1, -1],
        [0, -1, 1, -1],
    ]
    assert maps.color_names == ("yellow", "red", "black")
    assert maps.type_names == ("suv", "estate")


def test_what_spoils_the_metrics_is_warned_of(roots, tmp_path, caplog) -> None:
    warn_about(read_dataset(roots["veri"]))
    assert not caplog.text
    warn_about(read_dataset(roots["csv"]))
    assert "the camera of 12 of 18 query and gallery images is unknown" in caplog.text
    plan = [one for one in PLAN if not (one.split == "gallery" and one.vehicle == 102)]
    warn_about(read_dataset(drawn.pamtri(tmp_path / "data", plan)))
    assert "1 query vehicle(s) have no image in the gallery" in caplog.text
    assert "metrics: 102\n" in caplog.text


# Layouts as others write them


def facts(records: tuple[Record, ...]) -> list[tuple[object, ...]]:
    return [(r.vehicle_id, r.camera_id, r.color_id, r.type_id) for r in records]


def test_cityflow_states_neither_colour_nor_type_and_only_its_training_vehicles(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("train", "query", "test"):
        pictures(tmp_path / f"image_{folder}", "000001.jpg", "000002.jpg")
    xml(tmp_path, "train", '<Item imageName="000001.jpg" vehicleID="0095" cameraID="c006"/>'
        '<Item imageName="000002.jpg" vehicleID="0096" camID="c007"/>')  # fmt: skip
    for name in ("query", "test"):
        rows = (f'<Item imageName="00000{n}.jpg" cameraID="c001"/>' for n in (1, 2))
        xml(tmp_path, name, "".join(rows))
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.protocol) == ("CityFlow-ReID", "cityflow")
    assert facts(dataset.train.records) == [(95, 6, None, None), (96, 7, None, None)]
    assert len(dataset.query) == len(dataset.gallery) == 0
    assert "image_query: 2 images of no known vehicle are left out" in caplog.text
    with pytest.raises(DataError, match="the split 'query' is empty"):
        read_dataset(tmp_path, ["query"])
    challenge = read_dataset(tmp_path, ["query", "gallery"], labelled=False)
    assert facts(challenge.gallery.records) == [(-1, 1, None, None)] * 2


@pytest.mark.parametrize(
    ("gone", "layout"),
    [(["*.xml"], "VeRi-776 (name lists)"), (["*.xml", "name_*.txt"], "VeRi-776 (folders)")],
)
def test_veri_without_xml_is_read_from_its_names(tmp_path, gone, layout) -> None:
    root = drawn.veri(tmp_path / "data", PLAN)
    wanted = read_dataset(root)
    for path in [path for one in gone for path in root.glob(one)]:
        path.unlink()
    found = read_dataset(root)
    assert found.layout == layout
    for split, again in zip(wanted.splits, found.splits, strict=True):
        assert [r.vehicle_id for r in again.records] == sorted(r.vehicle_id for r in split.records)
        assert set(again.camera_ids) == set(split.camera_ids)


def test_market_is_read_from_its_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path / "query", "0011_c1s1_000151_01.jpg", "0012_c4s2_1_0.jpg")
    with pytest.raises(DataError, match="no known layout"):  # a folder of that name is anyone's
        read_dataset(tmp_path)
    gallery = "0011_c3s1_0_0.jpg", "-1_c3s1_0_0.jpg", "0000_c2s1_0_0.jpg"
    pictures(tmp_path / "bounding_box_test", *gallery)
    pictures(tmp_path / "bounding_box_train", "0002_c1s1_000451_03.jpg")
    dataset = read_dataset(tmp_path)
    assert facts(dataset.query.records) == [(11, 1, None, None), (12, 4, None, None)]
    assert facts(dataset.gallery.records) == [(0, 2, None, None), (11, 3, None, None)]
    assert "bounding_box_test: 1 images of no known vehicle are left out" in caplog.text


def table(root: Path, split: str, *rows: str) -> None:
    pictures(root / "crops", "a.png", "b.png")
    (root / f"{split}.csv").write_text("\n".join(rows), encoding="utf-8")


USUAL = [(7, 2, 4, 2), (8, -1, None, None)]


@pytest.mark.parametrize(
    ("rows", "known"),
    [
        (["image,vehicle_id,camera,color,type", "crops/a.png,7,2,gray,suv", "crops/b.png,8,,,"],
         USUAL),
        (["image;vehicle_id;camera;color;type", "crops/a.png;7;2;gray;suv", "crops/b.png;8;;;"],
         USUAL),
        (["\ufeff,Image,Vehicle_ID, camera ,color,type,plate",
          "0,crops\\a.png,7.0,2.0,Grey,SUV,X 1", "1,crops\\b.png,8.0,nan,unknown,NaN,"], USUAL),
        (["image\tvehicle_id\tcamera\tcolor\ttype", "./crops/a.png\t7\tc002\t4.0\t2",
          "crops/b.png\t8\t-1\t\t"], USUAL),
        # Camera 0 and class 0 are known.
        (["image,vehicle_id,camera,color,type", "crops/a.png,1,0,0,unknown",
          "crops/b.png,1,C001,1,"], [(1, 0, 0, None), (1, 1, 1, None)]),
        # Its name states the camera.
        (["image,vehicle_id", "0001_c004_7_0.jpg,1"], [(1, 4, None, None)]),
    ],
)  # fmt: skip
def test_csv_as_tools_write_it(tmp_path: Path, rows: list[str], known: list) -> None:
    table(tmp_path, "train", *rows)
    pictures(tmp_path, "0001_c004_7_0.jpg")
    assert facts(read_dataset(tmp_path).train.records) == known


def test_words_are_numbered_alike_in_all_splits(tmp_path: Path) -> None:
    header = "image,vehicle_id,camera"
    table(tmp_path, "query", header, "crops/a.png,AB 12,north", "crops/b.png,7,c1")
    table(tmp_path, "gallery", header, "crops/a.png,ZZ 9,south", "crops/b.png,AB 12,")
    both = read_dataset(tmp_path)
    (ab, seven), (zz, again) = both.query.vehicle_ids, both.gallery.vehicle_ids
    assert ab == again and len({ab, seven, zz}) == 3
    assert both.query.camera_ids.tolist() == [2, 1] and both.gallery.camera_ids.tolist() == [3, -1]
    alone = read_dataset(tmp_path, ["gallery"]).gallery
    assert facts(alone.records) == facts(both.gallery.records)


# The field's data sets


@pytest.mark.parametrize(
    ("draw", "size", "layout", "protocol", "train", "query", "gallery"),
    [
        (vehicleid, None, "VehicleID, tested on 800 vehicles (not 1600)", "vehicleid",
         [(11, -1, 7, 2), (12, -1, None, None)],
         [(21, -1, None, 2), (22, -1, None, None)], [(21, -1, None, 2), (22, -1, None, None)]),
        (vehicleid, 1600, "VehicleID, tested on 1600 vehicles (not 800)", "vehicleid",
         [(11, -1, 7, 2), (12, -1, None, None)],
         [(21, -1, None, 2), (22, -1, None, None)],
         [(21, -1, None, 2), (22, -1, None, None), (23, -1, None, None)]),
        (veriwild, None, "VERI-Wild, tested on 3000 vehicles (not 5000)", "veriwild",
         [(1, 0, 4, 2), (1, 1, 4, 2)],
         [(2, 2, 4, 2)], [(2, 3, 4, 2)]),
        (veriwild, 5000, "VERI-Wild, tested on 5000 vehicles (not 3000)", "veriwild",
         [(1, 0, 4, 2), (1, 1, 4, 2)],
         [(2, 2, 4, 2), (3, 4, 4, 2)], [(2, 3, 4, 2), (3, 5, 4, 2)]),
        (vric, None, "VRIC", "veri", [(1, 3, None, None)], [(2, 4, None, None)],
         [(2, 5, None, None)]),
        (cityflow, None, "CityFlow-ReID", "cityflow",
         *[[(95, n, None, None) for n in (1, 2, 3)]] * 3),
    ],
)  # fmt: skip
def test_the_fields_data_sets_are_found_and_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, draw: Callable, size: int | None,
    layout: str, protocol: str, train: list, query: list, gallery: list,
) -> None:  # fmt: skip
    root = draw(tmp_path)
    if draw is vehicleid:
        write(root / "classes.csv", "color,5,white", "type,200,SUV", "color,1,unknown")
    dataset = read_dataset(root, test_size=size)
    assert (dataset.layout, dataset.protocol) == (layout, protocol)
    assert [facts(split.records) for split in dataset.splits] == [train, query, gallery]
    if draw is vehicleid:
        assert "the color of 2 images is no known class and counts as unknown: 0 (2)" in caplog.text
        assert "the type of 1 images" in caplog.text and "color,1" not in caplog.text
    if draw is cityflow:
        tracks = [[record.track for record in split.records] for split in dataset.splits]
        assert tracks == [[1, 2, 1], [None] * 3, [1, 2, 1]]


# Where each form lists the images to train on, and whether a header comes first.
LISTS = {
    "pamtri": ("label_train.csv", 0),
    "nvlabs": ("annot/label_train.csv", 0),
    "csv": ("train.csv", 1),
    "veri": ("name_train.txt", 0),
    "veri, names alone": ("name_train.txt", 0),
    "cityflow": ("name_train.txt", 0),
    "vehicleid": ("train_test_split/train_list.txt", 0),
    "veriwild": ("train_test_split/train_list.txt", 0),
    "vric": ("vric_train.txt", 0),
}


def drawn_as(form: str, root: Path) -> Path:
    fields = {"cityflow": cityflow, "vehicleid": vehicleid, "veriwild": veriwild, "vric": vric}
    if form in fields:
        return fields[form](root)
    root = LAYOUTS.get(form, drawn.pamtri if form == "nvlabs" else drawn.veri)(root, PLAN)
    if form == "nvlabs":
        (root / "annot").mkdir()
        (root / "label_train.csv").rename(root / "annot" / "label_train.csv")
        for file in root.glob("*.csv"):
            file.unlink()
    if form == "veri, names alone":
        for file in root.glob("*.xml"):
            file.unlink()
    return root


@pytest.mark.parametrize("form", LISTS)
def test_missing_images_and_doubled_names_are_named_in_every_layout(tmp_path, form) -> None:
    root, (name, header) = drawn_as(form, tmp_path / "data"), LISTS[form]
    file = root / name
    rows = file.read_text().splitlines()
    record = read_dataset(root, ["train"]).train.records[0]
    record.image.rename(record.image.with_suffix(".gone"))
    with pytest.raises(DataError, match=rf"{file.name}:{1 + header}: image .* does not exist"):
        read_dataset(root, ["train"])
    write(file, *rows, rows[header])
    with pytest.raises(DataError, match=rf"{file.name}:{len(rows) + 1}: image .* already"):
        read_dataset(root, ["train"])


@pytest.mark.parametrize(
    ("form", "name", "known", "odd", "counted"),
    [
        ("pamtri", "label_train.csv", ",6,1,", ",0,0,", ""),
        ("nvlabs", "annot/label_train.csv", ",6,1,", ",0,0,", ""),
        ("csv", "train.csv", ",6,sedan", ",teal,tram", "the color of 4 images .* teal"),
        ("veri", "train_label.xml", 'colorID="6" typeID="1"', 'colorID="0"', ""),
        ("vehicleid", "attribute/color_attr.txt", "11 5", "11 teal", "the color of 1 images"),
        ("veriwild", "train_test_split/vehicle_info.txt", "SUV;grey", "tram;teal", "type of 2"),
    ],
)
def test_unknown_classes_are_unknown_in_every_layout_that_states_any(
    tmp_path: Path, caplog: pytest.LogCaptureFixture,
    form: str, name: str, known: str, odd: str, counted: str,
) -> None:  # fmt: skip
    root = drawn_as(form, tmp_path / "data")
    text = (root / name).read_bytes().decode("gb18030")
    assert known in text
    (root / name).write_bytes(text.replace(known, odd).encode("gb18030"))
    records = read_dataset(root, ["train"]).train.records
    assert (None, None) in {(record.color_id, record.type_id) for record in records}
    assert re.search(counted, caplog.text) if counted else not caplog.text


@pytest.mark.parametrize("folder", ["image_train", "bounding_box_train"])
def test_folders_alone_name_what_is_no_picture_and_what_states_no_vehicle(tmp_path, folder) -> None:
    pictures(tmp_path / folder, "0001_c001_00000001_0.jpg")
    broken = tmp_path / folder / "0002_c1s1_000451_03.jpg"
    broken.write_bytes(b"none")
    with pytest.raises(DataError, match=rf"{broken.name}.* cannot be read"):
        read_dataset(tmp_path)
    broken.rename(broken.with_name("car.jpg"))
    with pytest.raises(DataError, match=r"name of 'car\.jpg' states no vehicle"):
        read_dataset(tmp_path)


def test_veriwild_alone_states_times(tmp_path: Path) -> None:
    info = veriwild(tmp_path) / "train_test_split" / "vehicle_info.txt"
    info.write_text(info.read_text().replace("2018-03-11 07:59:02", "morning", 1))
    first, second = read_dataset(tmp_path, ["train"]).train.records
    assert (first.time, second.time) == (None, datetime(2018, 3, 11, 7, 59, 2))
    entry, *others = entries_of([tmp_path])
    assert not others and entry.id == str(tmp_path.resolve() / "images/00002/0022.jpg")
    assert (entry.camera, entry.time) == ("3", second.time)
    names = LAYOUTS["veri"](tmp_path / "veri", PLAN)
    assert {record.time for record in read_dataset(names).train.records} == {None}


def test_test_sizes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="test size is 2400; expected 800 or 1600"):
        read_dataset(vehicleid(tmp_path / "vehicleid"), test_size=2400)
    with pytest.raises(DataError, match="test size is 800; expected none"):
        read_dataset(vric(tmp_path / "vric"), test_size=800)


@pytest.mark.parametrize("row", ["colour,silver,gray", "color,silver", "color,silver,shiny"])
def test_a_class_file_that_cannot_be_meant_is_refused(tmp_path: Path, row: str) -> None:
    write(vehicleid(tmp_path) / "classes.csv", row)
    with pytest.raises(DataError, match=r"classes\.csv:1: "):
        read_dataset(tmp_path)


def test_a_mixture_keeps_vehicles_and_cameras_apart(tmp_path: Path) -> None:
    first, second, third = vric(tmp_path / "a"), vehicleid(tmp_path / "b"), veriwild(tmp_path / "c")
    mixed = mixture(read_dataset(root) for root in (first, second, third))
    # VRIC has vehicles 1 and 2, cameras 3 to 5; VehicleID's are 11 to 22, VERI-Wild's follow.
    assert mixed.train.vehicle_ids.tolist() == [1, 14, 15, 27, 27]
    assert mixed.train.camera_ids.tolist() == [3, -1, -1, 6, 7]
    assert (mixed.root, mixed.layout, len(mixed.query)) == (first, "VRIC", 1)
    without = mixture([read_dataset(first, ["train"]), read_dataset(second)])
    assert without.protocol == "vehicleid"
    assert without.query.vehicle_ids.tolist() == without.gallery.vehicle_ids.tolist()
    assert not set(without.train.vehicle_ids) & set(without.query.vehicle_ids)


# What is refused


def spoilt(text: str | bytes, *names: str) -> Callable[[Path], object]:
    """Overwrites a file of the data set."""
    content = text.encode() if isinstance(text, str) else text
    return lambda root: root.joinpath(*names).write_bytes(content)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


IMAGE = "image_query", next(one.name for one in PLAN if one.split == "query")
TWO = '<a>\n<Item imageName="x" vehicleID="two" cameraID="c1" colorID="1"/></a>'


@pytest.mark.parametrize(
    ("layout", "spoil", "named"),
    [
        ("pamtri", lambda root: (root / "label_query.csv").unlink(), "there is no split 'query'"),
        ("pamtri", spoilt("", "label_query.csv"), "has no rows"),
        ("pamtri", spoilt("", *IMAGE), "is empty"),
        ("pamtri", lambda root: piped(root.joinpath(*IMAGE)), "is no regular file"),
        ("pamtri", spoilt("nothing", *IMAGE), "cannot be read"),
        (
            "pamtri",
            lambda root: spoilt(root.joinpath(*IMAGE).read_bytes()[:-200], *IMAGE)(root),
            "label_query.csv:1: ",
        ),
        ("veri", spoilt("<a", "test_label.xml"), "test_label.xml"),
        ("veri", spoilt("", "name_query.txt"), "'query' is empty"),
        ("veri", spoilt("odd.jpg", "name_query.txt"), "txt:1: image 'odd.jpg' has no item"),
        ("veri", spoilt(TWO, "test_label.xml"), "test_label.xml:2: vehicleID is 'two'"),
        *(
            ("csv", spoilt(text, "query.csv"), named)
            for text, named in (
                ("image,plate\n", "query.csv:1: the header is 'image,plate'"),
                ("image,vehicle_id\na.jpg\n", "query.csv:2: 1 columns"),
                ("image,vehicle_id\na.jpg,1.5\n", "query.csv:2: vehicle is '1.5'"),
                ("image,vehicle_id\na.jpg,\n", "'query' is empty"),
                ("image,image,vehicle_id\na.jpg,b.jpg,1\n", "has the column 'image' twice"),
                ("", "query.csv:1: the header is ''"),
            )
        ),
    ],
)
def test_bad_data_is_named_by_file_line_and_value(tmp_path, layout, spoil, named) -> None:
    root = LAYOUTS[layout](tmp_path / "data", PLAN)
    spoil(root)
    with pytest.raises(DataError) as refused:
        read_dataset(root, ["query"])
    assert named in str(refused.value)


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_dataset(tmp_path / "data")
    with pytest.raises(DataError, match="no known layout"):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match="split is 'val'"):
        read_dataset(tmp_path, ["val"])


# Samples


@pytest.mark.parametrize("variant", list(Variant))
def test_stored_maps_are_used_and_agree_with_drawn_ones(roots, variant) -> None:
    (drawn_record, *_), (stored_record, *_) = (
        read_dataset(roots[layout], ["query"]).query.records for layout in ("pamtri", "stored")
    )
    from_keypoints = load_sample(drawn_record, MultiTaskNetSpec(variant))
    from_disk = load_sample(stored_record, MultiTaskNetSpec(variant))
    assert from_disk.maps.shape == from_keypoints.maps.shape == (variant.channels - 3, 64, 64)
    difference = np.abs(from_disk.maps.astype(int) - from_keypoints.maps)
    assert difference.mean() < 4 if variant is not Variant.RGB else difference.size == 0


def test_stored_segments_are_blacked_where_a_corner_is_unsure(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN[:1] + PLAN[-1:], maps=True)
    (record,) = read_dataset(root, ["train"]).train.records
    keypoints = np.ones((36, 3), dtype=np.float32)
    keypoints[15, 2] = 0.49  # a corner of surfaces 0, 1, 10 and 11
    for path in record.segments.iterdir():
        Image.new("L", (64, 64), 255).save(path)
    sample = load_sample(replace(record, keypoints=keypoints), MultiTaskNetSpec(Variant.SEGMENT))
    black = [index for index, segment in enumerate(sample.maps) if not segment.any()]
    assert black == [0, 1, 10, 11]
    without_pose = load_sample(replace(record, keypoints=None), MultiTaskNetSpec(Variant.SEGMENT))
    assert without_pose.maps.all()


def test_images_of_one_name_in_two_folders_keep_their_rows_and_maps(tmp_path: Path) -> None:
    (one,), names = drawn.plan(1, 1, 1)[:1], ("cam1/1.jpg", "cam2/1.jpg")
    root = drawn.pamtri(tmp_path / "data", [one], maps=True)
    row = (root / "label_train.csv").read_text().partition(",")[2]
    (root / "label_train.csv").write_text("".join(f"{name},{row}" for name in names))
    stored = root / "segment_train" / "cam2" / "1"
    stored.parent.mkdir()
    (root / "segment_train" / one.name).with_suffix("").rename(stored)
    records = read_dataset(root, ["train"], check=False).train.records
    assert [record.image for record in records] == [root / "image_train" / one for one in names]
    assert [record.segments for record in records] == [None, stored]


def test_a_missing_stored_map_and_a_pipe_are_named(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN[:1] + PLAN[-1:], maps=True)
    (record,) = read_dataset(root, ["train"]).train.records
    (record.heatmaps / "07.jpg").unlink()
    with pytest.raises(DataError, match=r"07\.jpg: the stored map is missing"):
        read_dataset(root, ["train"])
    for _ in range(2):
        with pytest.raises(DataError, match=r"07\.jpg: the stored map cannot be read"):
            load_sample(record, MultiTaskNetSpec(Variant.HEATMAP))
        if not (record.heatmaps / "07.jpg").exists():
            os.mkfifo(record.heatmaps / "07.jpg")


def test_visibility_comes_with_the_keypoints(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN)
    names = [one.name for one in PLAN if one.split == "query"]
    rows = [f"{name},{','.join(str(k % 3) for k in range(36))}" for name in names[1:]]
    table = root / "visibility_query.csv"
    table.write_text("\n".join(rows))
    unknown, *seen = read_dataset(root, ["query"]).query.records
    assert unknown.visibility is None
    np.testing.assert_array_equal(unknown.marked, unknown.keypoints)
    for record in seen:
        np.testing.assert_array_equal(record.visibility, np.arange(36) % 3)
        np.testing.assert_array_equal(record.marked[:, 2], np.arange(36) % 3 == 0)
        np.testing.assert_array_equal(record.marked[:, :2], record.keypoints[:, :2])
    for row, named in (
        (rows[1].replace(",2", ",0.5", 1), "visibility is '0.5'; expected 0, 1 or 2"),
        (rows[1] + ",0", "38 columns; expected 37"),
    ):
        table.write_text(f"{rows[0]}\n{row}")
        with pytest.raises(DataError, match=rf"visibility_query\.csv:2: {re.escape(named)}"):
            read_dataset(root, ["query"])


# Batches


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_what_preprocessing_gives(roots, workers) -> None:
    split, spec = read_dataset(roots["pamtri"]).train, MultiTaskNetSpec(Variant.HEATMAP_SEGMENT)
    batches = list(read_batches(split, spec, (64, 32), batch_size=5, workers=workers))
    assert [len(one["index"]) for one in batches] == [5, 5, 2]
    images, poses, indices = (
        np.concatenate([one[name] for one in batches]) for name in ("image", "pose", "index")
    )
    np.testing.assert_array_equal(indices, np.arange(len(split)))
    for record, image, pose in zip(split.records, images, poses, strict=True):
        x, p = preprocess(record.image, record.keypoints, "heatmap+segment", (64, 32))
        np.testing.assert_allclose(image, x, atol=1e-6)
        np.testing.assert_array_equal(pose, p)


def test_order_labels_augmentation_and_remainder_of_mindspores_pipeline(roots) -> None:
    split, seen = read_dataset(roots["pamtri"]).train, set()

    def darken(sample, index, place):
        seen.add((index, place))
        return replace(sample, pixels=np.zeros_like(sample.pixels))

    pipeline = create_pipeline(
        split,
        MultiTaskNetSpec(Variant.RGB),
        (32, 32),
        batch_size=2,
        order=[7, 0, 7, 11, 3],
        class_maps=ClassMaps.of(split.records),
        augment=darken,
        drop_remainder=True,
    )
    assert pipeline.get_dataset_size() == 2
    for _ in range(2):
        rows = list(pipeline.create_dict_iterator(num_epochs=1, output_numpy=True))
        assert list(rows[0]) == ["image", "pose", "index", "identity", "color", "type"]
        assert [row["index"].tolist() for row in rows] == [[7, 0], [7, 11]]
        assert [row["identity"].tolist() for row in rows] == [[1, 0], [1, 2]]
        assert all(np.ptp(row["image"], axis=(2, 3)).max() == 0 for row in rows)
    assert seen == {(7, 0), (0, 1), (7, 2), (11, 3)}


def test_few_batches_are_made_ahead_and_none_after_the_reader_stops() -> None:
    made = []
    items = prepared(made.append, range(60), workers=2)
    assert next(items) is None
    time.sleep(0.1)
    assert sorted(made) == [0, 1, 2]
    items.close()
    assert len(made) == 3


def test_a_picture_that_goes_while_it_is_read_is_named(tmp_path: Path) -> None:
    split = read_dataset(drawn.pamtri(tmp_path / "data", PLAN), ["query"]).query
    split.records[3].image.unlink()
    with pytest.raises(ImageError, match=re.escape(str(split.records[3].image))):
        list(read_batches(split, MultiTaskNetSpec(Variant.RGB), (32, 32), batch_size=2))


# The commands


def test_check_data_counts_the_splits(roots, capsys) -> None:
    assert main(["check-data", str(roots["veri"])]) == 0
    layout, header, images, *_ = capsys.readouterr().out.splitlines()
    assert layout.endswith("veri: VeRi-776 (XML and name lists), evaluated by --protocol veri")
    assert (header.split(), images.split()[1:]) == (
        ["train", "query", "gallery"],
        ["12", "6", "12"],
    )
    assert main(["check-data", str(roots["stored"]), "--json"]) == 0
    splits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["split"], one["images"]) for one in splits] == [
        ("train", 12), ("query", 6), ("gallery", 12)
    ]  # fmt: skip
    assert all(one["with_keypoints"] == one["stored_segments"] == one["images"] for one in splits)
    assert all(one["colors"] == 3 for one in splits)
    assert main(["check-data", *(str(roots[name]) for name in ("csv", "veri")), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["layout"] for one in lines[::3]] == ["CSV", "VeRi-776 (XML and name lists)"]
