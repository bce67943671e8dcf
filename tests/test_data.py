"""Data sets in every layout: what is read, what is refused, and what comes out of the pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import drawn
import numpy as np
import pytest
from drawn_sets import cityflow, pictures, vehicleid, veriwild, vric, write, xml
from PIL import Image

from multitasknet import DataError, MultiTaskNetSpec, create_pipeline
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.records import Record, mixture, warn_about
from multitasknet.data.samples import load_sample, read_batches
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


def facts(records: tuple[Record, ...]) -> list[tuple[object, ...]]:
    return [(r.vehicle_id, r.camera_id, r.color_id, r.type_id) for r in records]


@pytest.mark.parametrize("layout", ["pamtri", "veri", "csv"])
def test_every_layout_gives_the_same_records(roots: dict[str, Path], layout: str) -> None:
    for split in read_dataset(roots[layout]).splits:
        wanted = [one for one in PLAN if one.split == split.name]
        assert [record.image.name for record in split.records] == [one.name for one in wanted]
        known = [(one.vehicle, one.camera, one.color, one.kind) for one in wanted]
        if layout == "csv":
            bare = split.name == "gallery"
            known = [(v, -1, None, None) if bare else (v, c, color, 1) for v, c, color, _ in known]
        assert facts(split.records) == known
        for record, one in zip(split.records, wanted, strict=True):
            stated = one.keypoints if layout == "pamtri" else None
            np.testing.assert_array_equal(record.keypoints, stated)


def test_class_maps_rank_the_sorted_ids() -> None:
    records = [
        Record(Path("x"), vehicle_id, color_id=color, type_id=kind)
        for vehicle_id, color, kind in ((70, 10, 2), (5, 1, None), (70, 5, 9))
    ]
    maps = ClassMaps.of(records)
    found = maps.indices([*records, Record(Path("x"), 6)]).tolist()
    assert found == [[1, 0, 1, -1], [2, 0, 1, -1], [0, -1, 1, -1]]
    assert (maps.color_names, maps.type_names) == (("yellow", "red", "black"), ("suv", "estate"))


def test_what_spoils_the_metrics_is_warned_of(roots, tmp_path, caplog) -> None:
    warn_about(read_dataset(roots["veri"]))
    assert not caplog.text
    warn_about(read_dataset(roots["csv"]))
    assert "the camera of 12 of 18 query and gallery images is unknown" in caplog.text
    plan = [one for one in PLAN if not (one.split == "gallery" and one.vehicle == 102)]
    warn_about(read_dataset(drawn.pamtri(tmp_path / "data", plan)))
    assert "1 query vehicle(s) have no image in the gallery" in caplog.text


# Layouts as others write them


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
    assert facts(dataset.train.records) == [(95, 6, None, None), (96, 7, None, None)]
    assert len(dataset.query) == len(dataset.gallery) == 0
    assert "image_query: 2 images of no known vehicle are left out" in caplog.text
    with pytest.raises(DataError, match="the split 'query' is empty"):
        read_dataset(tmp_path, ["query"])
    challenge = read_dataset(tmp_path, ["query", "gallery"], labelled=False)
    assert facts(challenge.gallery.records) == [(-1, 1, None, None)] * 2


@pytest.mark.parametrize("gone", [["*.xml"], ["*.xml", "name_*.txt"]])
def test_veri_without_labels_is_read_from_its_names(tmp_path: Path, gone: list[str]) -> None:
    root = drawn.veri(tmp_path / "data", PLAN)
    wanted = read_dataset(root)
    for path in [path for one in gone for path in root.glob(one)]:
        path.unlink()
    for split, again in zip(wanted.splits, read_dataset(root).splits, strict=True):
        known = [(vehicle, camera, None, None) for vehicle, camera, *_ in facts(split.records)]
        assert sorted(facts(again.records)) == sorted(known)


def test_market_is_read_from_its_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    msmt, strange = "0012_001_02_0303morning_0015_0.jpg", "0013_color.jpg"
    pictures(tmp_path / "query", "0011_c1s1_000151_01.jpg", msmt, strange)
    with pytest.raises(DataError, match="no known layout"):  # a folder of that name is anyone's
        read_dataset(tmp_path)
    gallery = "0011_c3s1_0_0.jpg", "-1_c3s1_0_0.jpg", "0000_c2s1_0_0.jpg"
    pictures(tmp_path / "bounding_box_test", *gallery)
    dataset = read_dataset(tmp_path)
    assert [known[:2] for known in facts(dataset.query.records)] == [(11, 1), (12, 2), (13, -1)]
    assert facts(dataset.gallery.records) == [(0, 2, None, None), (11, 3, None, None)]
    assert "bounding_box_test: 1 images of no known vehicle are left out" in caplog.text
    pictures(tmp_path / "query", "car.jpg")
    with pytest.raises(DataError, match=r"name of 'car\.jpg' states no vehicle"):
        read_dataset(tmp_path)


def table(root: Path, split: str, *rows: str) -> None:
    pictures(root / "crops", "a.png", "b.png")
    write(root / f"{split}.csv", *rows)


USUAL = [(7, 2, 4, 2), (8, -1, None, None)]


@pytest.mark.parametrize(
    ("rows", "known"),
    [
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
    alone = read_dataset(tmp_path, ["gallery"]).gallery.records
    assert facts(alone) == facts(both.gallery.records)


# The field's data sets


TESTED = [(21, -1, None, 2), (22, -1, None, None)]


@pytest.mark.parametrize(
    ("draw", "layout", "protocol", "known"),
    [
        (vehicleid, "VehicleID, tested on 800 vehicles", "vehicleid",
         [[(11, -1, 7, 2), (12, -1, None, None)], TESTED, TESTED]),
        (veriwild, "VERI-Wild, tested on 3000 vehicles", "veriwild",
         [[(1, 0, 4, 2), (1, 1, 4, 2)], [(2, 2, 4, 2)], [(2, 3, 4, 2)]]),
        (vric, "VRIC", "veri", [[(1, 3, None, None)], [(2, 4, None, None)], [(2, 5, None, None)]]),
        (cityflow, "CityFlow-ReID", "cityflow", [[(95, n, None, None) for n in (1, 2, 3)]] * 3),
    ],
)  # fmt: skip
def test_the_fields_data_sets_are_found_and_read(tmp_path, draw, layout, protocol, known) -> None:
    root = draw(tmp_path)
    write(root / "classes.csv", "color,5,white", "type,200,SUV")
    dataset = read_dataset(root)
    assert (dataset.layout, dataset.protocol) == (layout, protocol)
    assert [facts(split.records) for split in dataset.splits] == known
    time = datetime(2018, 3, 11, 7, 59, 2) if draw is veriwild else None
    assert {record.time for record in dataset.train.records} == {time}
    if draw is vehicleid:  # the first image of each vehicle
        assert [one.image.name for one in dataset.gallery.records] == ["0003.jpg", "0005.jpg"]
    tracks = [[record.track for record in split.records] for split in dataset.splits]
    if draw is cityflow:
        assert tracks == [[1, 2, 1], [None] * 3, [1, 2, 1]]


def test_classes_that_are_not_known_are_counted_and_may_be_explained(tmp_path, caplog) -> None:
    root = vehicleid(tmp_path)
    write(root / "classes.csv", "type,200,SUV", "color,1,unknown")
    read_dataset(root)
    assert "the color of 3 images is no known class" in caplog.text
    assert "0 (2), 5 (1)" in caplog.text and "the type of 1 images" in caplog.text
    with pytest.raises(DataError, match=r"no split 'query'; expected .*test_list_2400\.txt"):
        read_dataset(root, ["query"], test_size=2400)
    with pytest.raises(DataError, match="it has one test set"):
        read_dataset(LAYOUTS["pamtri"](tmp_path / "one", PLAN), test_size=800)
    write(root / "classes.csv", "color,silver,shiny")
    with pytest.raises(DataError, match=r"classes\.csv:1: the class is 'shiny'; expected"):
        read_dataset(root)


def test_a_mixture_keeps_vehicles_and_cameras_apart(tmp_path: Path) -> None:
    first, second, third = vric(tmp_path / "a"), vehicleid(tmp_path / "b"), veriwild(tmp_path / "c")
    mixed = mixture(read_dataset(root) for root in (first, second, third))
    # VRIC has vehicles 1 and 2, cameras 3 to 5; VehicleID's are 11 to 22, VERI-Wild's follow.
    assert mixed.train.vehicle_ids.tolist() == [1, 14, 15, 27, 27]
    assert mixed.train.camera_ids.tolist() == [3, -1, -1, 6, 7]
    assert (mixed.root, mixed.layout, len(mixed.query)) == (first, "VRIC", 1)
    without = mixture([read_dataset(first, ["train"]), read_dataset(second)])
    assert without.protocol == "vehicleid"
    assert not set(without.train.vehicle_ids) & set(without.query.vehicle_ids)


# What is refused


IMAGE = "image_query/" + next(one.name for one in PLAN if one.split == "query")
TWO = '<a>\n<Item imageName="x" vehicleID="two" cameraID="c1" colorID="1"/></a>'


@pytest.mark.parametrize(
    ("layout", "name", "content", "named"),
    [
        ("pamtri", "label_query.csv", None, "there is no split 'query'"),
        ("pamtri", IMAGE, None, "label_query.csv:1: image .* does not exist"),
        ("pamtri", IMAGE, "nothing", "label_query.csv:1: .* cannot be read"),
        ("veri", "test_label.xml", "<a", "test_label.xml: .* expected XML"),
        ("veri", "test_label.xml", TWO, "test_label.xml:2: vehicleID is 'two'"),
        ("veri", "name_query.txt", "odd.jpg", "txt:1: the name of 'odd.jpg' states no"),
        ("csv", "query.csv", "image,vehicle_id\na,1\na,1\n", "query.csv:3: 'a' has come already"),
        ("csv", "query.csv", "\udcff", "query.csv: .*save it as UTF-8"),
        ("csv", "query.csv", "image,plate\n", "query.csv:1: the header is 'image,plate'"),
        ("csv", "query.csv", "image,vehicle_id,camera,camera\n", "the column 'camera' twice"),
        ("csv", "query.csv", "image,vehicle_id\na.jpg\n", "query.csv:2: 1 columns"),
        ("csv", "query.csv", "image,vehicle_id\na.jpg,\n", "'query' is empty"),
    ],
)
def test_bad_data_is_named_by_file_line_and_value(tmp_path, layout, name, content, named) -> None:
    root = LAYOUTS[layout](tmp_path / "data", PLAN)
    (root / name).unlink()
    if content is not None:
        (root / name).write_text(content, errors="surrogateescape")
    with pytest.raises(DataError, match=named):
        read_dataset(root, ["query"])


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


def test_a_missing_stored_map_is_named(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN[:1] + PLAN[-1:], maps=True)
    (record,) = read_dataset(root, ["train"]).train.records
    (record.heatmaps / "07.jpg").unlink()
    with pytest.raises(DataError, match=r"07\.jpg: the stored map is missing"):
        read_dataset(root, ["train"])
    (record.heatmaps / "07.jpg").write_bytes(b"none")
    with pytest.raises(DataError, match=r"07\.jpg: the stored map cannot be read"):
        load_sample(record, MultiTaskNetSpec(Variant.HEATMAP))


def test_visibility_comes_with_the_keypoints(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN)
    names = [one.name for one in PLAN if one.split == "query"]
    rows = [f"{name},{','.join(str(k % 3) for k in range(36))}" for name in names[1:]]
    table = write(root / "visibility_query.csv", *rows)
    unknown, record, *_ = read_dataset(root, ["query"]).query.records
    assert unknown.visibility is None and unknown.marked is unknown.keypoints
    np.testing.assert_array_equal(record.visibility, np.arange(36) % 3)
    np.testing.assert_array_equal(record.marked[:, 2], np.arange(36) % 3 == 0)
    np.testing.assert_array_equal(record.marked[:, :2], record.keypoints[:, :2])
    write(table, rows[0], rows[1].replace(",2", ",0.5", 1))
    with pytest.raises(DataError, match=r"visibility_query\.csv:2: visibility is '0\.5'; expected"):
        read_dataset(root, ["query"])


# Batches


def test_batches_are_what_preprocessing_gives(roots) -> None:
    split, spec = read_dataset(roots["pamtri"]).train, MultiTaskNetSpec(Variant.HEATMAP_SEGMENT)
    batches = list(read_batches(split, spec, (64, 32), batch_size=5, workers=3))
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
        first, second = pipeline.create_dict_iterator(num_epochs=1, output_numpy=True)
        assert list(first) == ["image", "pose", "index", "identity", "color", "type"]
        assert (first["index"].tolist(), second["index"].tolist()) == ([7, 0], [7, 11])
        assert (first["identity"].tolist(), second["identity"].tolist()) == ([1, 0], [1, 2])
        assert np.ptp(first["image"], axis=(2, 3)).max() == 0
    assert seen == {(7, 0), (0, 1), (7, 2), (11, 3)}


# The commands


def test_check_data_counts_the_splits(roots, capsys) -> None:
    assert main(["check-data", str(roots["veri"])]) == 0
    layout, header, images, *_ = capsys.readouterr().out.splitlines()
    assert layout.endswith("veri: VeRi-776, evaluated by --protocol veri")
    assert header.split() == ["train", "query", "gallery"]
    assert images.split()[1:] == ["12", "6", "12"]
    assert main(["check-data", str(roots["csv"]), str(roots["stored"]), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["layout"] for one in lines] == ["CSV"] * 3 + ["PAMTRI"] * 3
    assert [one["images"] for one in lines[3:]] == [12, 6, 12]
    for one in lines[3:]:
        assert one["with_keypoints"] == one["stored_segments"] == one["images"]
        assert one["colors"] == 3
