"""Data sets in every layout: what is read, what is refused, and what comes out of the pipeline."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import drawn
import mindspore.dataset as ds
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from multitasknet import LabelError, MultiTaskNetSpec
from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.data.pack import PackError, write_pack
from multitasknet.data.pipeline import create_pipeline, rows_of
from multitasknet.data.records import Record, unmatched_vehicles, warn_of_unmatched
from multitasknet.data.samples import load_sample
from multitasknet.models.multitasknet.preprocessing import channel_statistics, preprocess
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.training.augmentation import RandomAugmentation
from multitasknet.training.batches import ImageSource, PixelScale
from multitasknet.vehicle.attributes import ClassMaps

PLAN = drawn.plan()
LAYOUTS = {"pamtri": drawn.pamtri, "veri": drawn.veri, "csv": drawn.plain_csv}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("data")
    roots = {name: draw(folder / name, PLAN) for name, draw in LAYOUTS.items()}
    roots["stored"] = drawn.pamtri(folder / "stored", PLAN, maps=True)
    roots["pack"] = write_pack(read_dataset(roots["pamtri"]), folder / "pack", progress=False)
    return roots


@pytest.mark.parametrize("layout", ["pamtri", "veri", "csv", "stored", "pack"])
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


def test_an_unknown_type_stays_unknown(tmp_path: Path) -> None:
    root = drawn.veri(tmp_path / "veri", PLAN, unknown_types=(1,))
    records = read_dataset(root, ["train"]).train.records
    assert {record.type_id for record in records if record.vehicle_id == 1} == {None}
    maps = ClassMaps.of(records)
    assert maps.type_ids == (1, 3)
    assert maps.type_index(None) == -1


def test_class_maps_rank_the_sorted_ids() -> None:
    records = [
        Record(Path("x"), vehicle_id, color_id=color, type_id=kind)
        for vehicle_id, color, kind in ((70, 10, 2), (5, 1, None), (70, 5, 9))
    ]
    maps = ClassMaps.of(records)
    assert maps.vehicle_ids == (5, 70)
    assert [maps.identity_index(raw) for raw in (5, 70, 6, 99)] == [0, 1, -1, -1]
    assert maps.color_names == ("yellow", "red", "black")
    assert maps.type_names == ("suv", "estate")
    assert maps.color_index(10) == 2


def test_query_vehicles_without_a_gallery_image_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = [one for one in PLAN if not (one.split == "gallery" and one.vehicle == 102)]
    dataset = read_dataset(drawn.pamtri(tmp_path / "data", plan))
    assert unmatched_vehicles(dataset) == (102,)
    warn_of_unmatched(dataset)
    assert "1 query vehicle(s) have no image in the gallery" in caplog.text
    assert "102" in caplog.text


def edit(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


@pytest.mark.parametrize(
    ("layout", "spoil", "named"),
    [
        ("pamtri", lambda r: (r / "label_query.csv").unlink(), "label_query.csv"),
        ("pamtri", lambda r: (r / "label_query.csv").write_text(""), "has no rows"),
        (
            "pamtri",
            lambda r: edit(r / "label_query.csv", lambda ls: [*ls, ls[0]]),
            "label_query.csv:7: image",
        ),
        (
            "pamtri",
            lambda r: edit(r / "label_query.csv", lambda ls: [ls[0], "x" + ls[1][1:], *ls[2:]]),
            "label_query.csv:2: image",
        ),
        (
            "pamtri",
            lambda r: next((r / "image_query").iterdir()).write_bytes(b""),
            "is empty",
        ),
        (
            "pamtri",
            lambda r: next((r / "image_query").iterdir()).write_bytes(b"nothing"),
            "cannot be read",
        ),
        (
            "pamtri",
            lambda r: [p.write_bytes(p.read_bytes()[:-200]) for p in (r / "image_query").iterdir()],
            "label_query.csv:6: image",
        ),
        ("veri", lambda r: (r / "test_label.xml").write_bytes(b"<a"), "test_label.xml"),
        ("veri", lambda r: (r / "name_query.txt").write_text(""), "'query' is empty"),
        (
            "veri",
            lambda r: edit(r / "name_query.txt", lambda ls: [*ls, "odd.jpg"]),
            "name_query.txt:7: image 'odd.jpg' has no item",
        ),
        (
            "veri",
            lambda r: edit(r / "name_query.txt", lambda ls: [*ls, ls[0]]),
            "is listed already",
        ),
        (
            "veri",
            lambda r: (r / "test_label.xml").write_text(
                '<a>\n<Item imageName="x" vehicleID="two" cameraID="c1" colorID="1"/></a>'
            ),
            "test_label.xml:2: vehicleID is 'two'",
        ),
        (
            "csv",
            lambda r: (r / "query.csv").write_text("image,plate\n"),
            "query.csv:1: the header is 'image,plate'",
        ),
        (
            "csv",
            lambda r: (r / "query.csv").write_text("image,vehicle_id\na.jpg\n"),
            "query.csv:2: 1 columns",
        ),
        (
            "csv",
            lambda r: (r / "query.csv").write_text("image,vehicle_id\na.jpg,1.5\n"),
            "vehicle_id is '1.5'",
        ),
        (
            "csv",
            lambda r: (r / "query.csv").write_text("image,vehicle_id,color\na.jpg,1,mauve\n"),
            "color is 'mauve'; expected a number or one of yellow",
        ),
        (
            "csv",
            lambda r: (r / "query.csv").write_text("image,vehicle_id,camera\na.jpg,1,north\n"),
            "camera is 'north'",
        ),
        (
            "csv",
            lambda r: (r / "query.csv").write_text("image,vehicle_id\nnowhere.jpg,1\n"),
            "query.csv:2: image",
        ),
        ("csv", lambda r: (r / "query.csv").write_text(""), "query.csv:1: the header is ''"),
    ],
)
def test_bad_data_is_named_by_file_line_and_value(
    tmp_path: Path, layout: str, spoil: Callable[[Path], object], named: str
) -> None:
    root = LAYOUTS[layout](tmp_path / "data", PLAN)
    spoil(root)
    with pytest.raises(LabelError) as refused:
        read_dataset(root, ["query"])
    assert named in str(refused.value)


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN)
    for path in (root / "image_train").iterdir():
        path.unlink()
    with pytest.raises(LabelError) as refused:
        read_dataset(root)
    assert str(refused.value).count("does not exist") == 12


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: None, "no such folder"),
        (lambda folder: folder.mkdir(), "no known layout"),
    ],
)
def test_what_is_no_data_set_is_refused(tmp_path: Path, make, named: str) -> None:
    make(tmp_path / "data")
    with pytest.raises(LabelError, match=named):
        read_dataset(tmp_path / "data")
    with pytest.raises(ValueError, match="split is 'val'"):
        read_dataset(tmp_path, ["val"])


# Samples and packs


@pytest.mark.parametrize("variant", list(Variant))
def test_stored_maps_are_used_and_agree_with_drawn_ones(
    roots: dict[str, Path], variant: Variant
) -> None:
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
    with pytest.raises(LabelError, match=r"07\.jpg: the stored map cannot be read"):
        load_sample(record, MultiTaskNetSpec(Variant.HEATMAP))


def test_a_partly_filled_folder_of_maps_is_named_when_the_data_are_read(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN[:1] + PLAN[-1:], maps=True)
    (record,) = read_dataset(root, ["train"]).train.records
    (record.segments / "12.jpg").unlink()
    with pytest.raises(LabelError, match=r"12\.jpg: the stored map is missing"):
        read_dataset(root, ["train"])


def test_class_0_of_a_csv_is_a_class(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    rows = "image,vehicle_id,color,type\na.png,1,0,unknown\nb.png,1,1,\n"
    (tmp_path / "train.csv").write_text(rows)
    records = read_dataset(tmp_path).train.records
    assert [(record.color_id, record.type_id) for record in records] == [(0, None), (1, None)]
    assert ClassMaps.of(records).color_ids == (0, 1)


def test_an_id_that_64_bits_do_not_hold_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "train.csv").write_text(f"image,vehicle_id\na.png,{2**63}\n")
    with pytest.raises(LabelError, match=rf"train\.csv:2: vehicle_id is {2**63}"):
        read_dataset(tmp_path)


def with_visibility(root: Path) -> Path:
    """PAMTRI data whose gallery's first picture has no row in the visibility file."""
    drawn.pamtri(root, PLAN)
    for folder in ("train", "query", "test"):
        names = sorted(path.name for path in (root / f"image_{folder}").iterdir())
        rows = [f"{name},{','.join(str(k % 3) for k in range(36))}\n" for name in names]
        (root / f"visibility_{folder}.csv").write_text("".join(rows[folder == "test" :]))
    return root


@pytest.mark.parametrize("packed", [False, True])
def test_visibility_comes_with_the_keypoints(tmp_path: Path, packed: bool) -> None:
    dataset = read_dataset(with_visibility(tmp_path / "data"))
    if packed:
        dataset = read_dataset(write_pack(dataset, tmp_path / "pack", progress=False))
    (unknown,) = (one for one in dataset.gallery.records if one.visibility is None)
    np.testing.assert_array_equal(unknown.marked, unknown.keypoints)
    for record in (*dataset.train.records, *dataset.query.records):
        np.testing.assert_array_equal(record.visibility, np.arange(36) % 3)
        np.testing.assert_array_equal(record.marked[:, 2], np.arange(36) % 3 == 0)
        np.testing.assert_array_equal(record.marked[:, :2], record.keypoints[:, :2])


def test_a_pack_from_before_visibility_is_read(tmp_path: Path) -> None:
    dataset = read_dataset(with_visibility(tmp_path / "data"), ["query"])
    table = write_pack(dataset, tmp_path / "pack", progress=False) / "query.npz"
    with np.load(table) as stored:
        older = {name: stored[name] for name in stored if "visibility" not in name}
    np.savez(table, **older)
    records = read_dataset(table.parent).query.records
    assert all(record.visibility is None for record in records)
    assert all(record.keypoints is not None for record in records)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda row: row.replace(",2", ",3"), "visibility is '3'; expected 0, 1 or 2"),
        (lambda row: row.replace(",2", ",0.5", 1), "visibility is '0.5'; expected 0, 1 or 2"),
        (lambda row: row + ",0", "38 columns; expected 37"),
    ],
)
def test_a_faulty_visibility_file_is_refused_with_its_line(tmp_path: Path, change, named) -> None:
    table = with_visibility(tmp_path / "data") / "visibility_query.csv"
    rows = table.read_text().splitlines()
    table.write_text("\n".join([rows[0], change(rows[1]), *rows[2:]]))
    with pytest.raises(LabelError, match=rf"visibility_query\.csv:2: {re.escape(named)}"):
        read_dataset(tmp_path / "data")


def test_a_pack_appears_whole_or_not_at_all(roots: dict[str, Path], tmp_path: Path) -> None:
    dataset = read_dataset(roots["pamtri"])
    with pytest.raises(PackError, match="something is there already"):
        write_pack(dataset, roots["pack"], progress=False)
    broken = tmp_path / "broken"
    broken_root = drawn.pamtri(tmp_path / "data", PLAN)
    unchecked = read_dataset(broken_root, check=False)
    next((broken_root / "image_query").iterdir()).unlink()
    with pytest.raises(ValueError, match="no such file"):
        write_pack(unchecked, broken, progress=False)
    assert not broken.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda root: (root / "pack.json").write_text("{"),
        lambda root: (root / "pack.json").write_text('{"format": 9, "splits": ["gallery"]}'),
        lambda root: (root / "gallery.npz").write_bytes(b"odd"),
        lambda root: (root / "gallery.npz").write_bytes(b""),
        lambda root: (root / "gallery.npz").write_bytes((root / "gallery.npz").read_bytes()[:-60]),
        lambda root: (root / "gallery.mindrecord.db").unlink(),
        lambda root: (root / "gallery.mindrecord").unlink(),
    ],
)
def test_a_damaged_pack_is_refused(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN)
    pack = write_pack(read_dataset(root, ["gallery"]), tmp_path / "pack", progress=False)
    with pytest.raises(LabelError, match="no split 'query'"):
        read_dataset(pack, ["query"])
    spoil(pack)
    with pytest.raises(LabelError, match="the pack is damaged"):
        read_dataset(pack)


def test_images_of_another_pack_do_not_pass_under_these_labels(tmp_path: Path) -> None:
    root = drawn.pamtri(tmp_path / "data", PLAN)
    pack = write_pack(read_dataset(root), tmp_path / "pack", progress=False)
    for suffix in (".mindrecord", ".mindrecord.db"):
        (pack / f"gallery{suffix}").replace(pack / f"query{suffix}")
    with pytest.raises(
        LabelError, match=r"query\.mindrecord and query\.npz do not belong together"
    ):
        read_dataset(pack, ["query"])


# The pipeline


def passes(pipeline, count: int) -> list[list[tuple[np.ndarray, ...]]]:
    return [
        [tuple(column.copy() for column in batch) for batch in one]
        for one in (
            pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True) for _ in range(count)
        )
    ]


@pytest.mark.parametrize("layout", ["pamtri", "pack"])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_pass_and_any_number_of_workers_give_the_same(
    roots: dict[str, Path], layout: str, workers: int
) -> None:
    split = read_dataset(roots[layout]).train
    pipeline = create_pipeline(
        split, MultiTaskNetSpec(Variant.HEATMAP_SEGMENT), (64, 32), batch_size=5, workers=workers
    )
    first, *others = passes(pipeline, 3)
    assert [batch[0].shape[0] for batch in first] == [5, 5, 2]
    for other in others:
        for one, two in zip(first, other, strict=True):
            for column, again in zip(one, two, strict=True):
                np.testing.assert_array_equal(column, again)
    folder = read_dataset(roots["pamtri"]).train
    position = 0
    for images, poses, indices in first:
        for image, pose, index in zip(images, poses, indices, strict=True):
            record = folder.records[position]
            x, p = preprocess(record.image, record.keypoints, "heatmap+segment", (64, 32))
            np.testing.assert_allclose(image, x, atol=1e-6)
            np.testing.assert_array_equal(pose, p)
            assert index == position
            position += 1
    assert position == len(split)


@pytest.mark.parametrize("layout", ["pamtri", "pack"])
def test_order_labels_augmentation_and_remainder(roots: dict[str, Path], layout: str) -> None:
    split = read_dataset(roots[layout]).train

    def darken(sample, index, place):
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
    assert pipeline.get_col_names() == ["image", "pose", "index", "identity", "color", "type"]
    (batches,) = passes(pipeline, 1)
    assert [batch[2].tolist() for batch in batches] == [[7, 0], [7, 11]]
    assert [batch[3].tolist() for batch in batches] == [[1, 0], [1, 2]]
    assert all(np.ptp(batch[0], axis=(2, 3)).max() == 0 for batch in batches)


@settings(max_examples=8, deadline=None)
@given(order=st.lists(st.integers(0, 11), min_size=1, max_size=9), batch=st.integers(1, 4))
def test_any_order_comes_out_as_given(roots: dict[str, Path], order: list[int], batch: int) -> None:
    split = read_dataset(roots["pack"]).train
    pipeline = create_pipeline(
        split, MultiTaskNetSpec(Variant.RGB), (32, 32), batch_size=batch, order=order
    )
    (batches,) = passes(pipeline, 1)
    assert [index for one in batches for index in one[2].tolist()] == order


@pytest.mark.parametrize("variant", [Variant.RGB, Variant.HEATMAP_SEGMENT])
def test_pixels_that_are_normalised_on_the_device_are_the_same_inputs(roots, variant) -> None:
    split, spec = (
        read_dataset(roots["pamtri"]).query,
        MultiTaskNetSpec(variant, input_size=(32, 32)),
    )
    classes = ClassMaps.of(split.records)
    ready = ImageSource(split, spec, classes, RandomAugmentation())
    pixels = replace(ready, scale=PixelScale.of(*channel_statistics(spec.channels)))
    for one, other in zip(ready.plain(4), pixels.plain(4), strict=True):
        for wanted, got in zip(one.inputs, other.inputs, strict=True):
            np.testing.assert_allclose(got.asnumpy(), wanted.asnumpy(), atol=1e-6)
    (row,) = rows_of(create_pipeline(split, spec, (32, 32), batch_size=6, raw=True))
    assert row["image"].dtype == np.uint8
    assert PixelScale.for_device(*channel_statistics(3)) is None


def test_few_batches_are_made_ahead(roots: dict[str, Path]) -> None:
    made = []

    def noted(sample, index, place):
        made.append(place)
        return sample

    split, before = read_dataset(roots["pamtri"]).train, ds.config.get_prefetch_size()
    pipeline = create_pipeline(
        split,
        MultiTaskNetSpec(Variant.RGB),
        (32, 32),
        batch_size=1,
        order=[index % len(split) for index in range(60)],
        augment=noted,
    )
    rows = rows_of(pipeline)
    assert next(iter(rows))["image"].shape == (1, 3, 32, 32)
    time.sleep(1)
    # MindSpore's own queue holds more than 16.
    assert len(made) <= 10
    assert ds.config.get_prefetch_size() == before
    assert sum(1 for _ in rows) == 59


# The commands


def test_the_data_command_prints_a_table(
    roots: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    for layout in ("pamtri", "veri", "csv", "stored", "pack"):
        assert main(["data", str(roots[layout])]) == 0
        table = capsys.readouterr().out.splitlines()
        assert table[0].split() == ["train", "query", "gallery"]
        images = next(line for line in table if line.startswith("images"))
        assert images.split()[1:] == ["12", "6", "12"]


def test_the_data_command_prints_an_object_for_each_split(
    roots: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    assert main(["data", str(roots["stored"]), "--json"]) == 0
    splits = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["split"] for one in splits] == ["train", "query", "gallery"]
    assert [one["images"] for one in splits] == [12, 6, 12]
    assert all(one["with_keypoints"] == one["stored_segments"] == one["images"] for one in splits)
    assert all(one["colors"] == 3 for one in splits)


def test_the_pack_command(
    roots: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["pack", str(roots["stored"]), str(tmp_path / "pack")]) == 0
    assert str(tmp_path / "pack") in capsys.readouterr().out
    assert len(read_dataset(tmp_path / "pack").gallery) == 12
    assert main(["pack", str(roots["stored"]), str(tmp_path / "pack")]) == 2
    assert "something is there already" in capsys.readouterr().err
