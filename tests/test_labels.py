"""Label files and text: encodings, CSV and COCO as tools write them, and which row is whose."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from multitasknet import DataError, read_dataset, read_labels
from multitasknet.data.file_names import camera_in, path_in, vehicle_in
from multitasknet.data.labels import LabelRow, keypoints_of, match, write_coco, write_labels
from multitasknet.data.text import read_lines, read_text
from multitasknet.vehicle.keypoints import KEYPOINT_NAMES

ROW = ["a.jpg", "12", "5", "1", *[str(n / 10) for n in range(108)]]
# NVlabs' columns after the image.
VALUES = ["64", "48", *[str(value) for n in range(36) for value in (n, 2 * n, n % 2)]]


def write(path: Path, *rows: list[str], delimiter: str = ",") -> Path:
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def changed(column: int, value: str) -> list[str]:
    return [*ROW[: column - 1], value, *ROW[column:]]


# Encodings

CARS = "\u8f66 caf\u00e9"


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        (None, "utf-8"),
        (None, "utf-8-sig"),
        (None, "utf-16"),
        ("utf-8", "utf-8"),
        ("GB2312", "gb18030"),
        ("gbk", "gb18030"),
        ("UTF-16", "utf-16"),
        # Saved again by an editor that did not look at the declaration.
        ("utf-16", "utf-8"),
        ("no-such-thing", "utf-8"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_has(tmp_path, declared, encoding) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    content = f"{head}{CARS}\n \n  last\n".encode(encoding)
    (tmp_path / "list").write_bytes(content)
    assert read_text(tmp_path / "list") == f"{head}{CARS}\n \n  last\n"
    # Standard input comes as bytes, too.
    (*_, (place, last)) = read_lines(io.BytesIO(content))
    assert (place, last) == (f"standard input:{4 if head else 3}", "last")
    assert CARS in [line for _, line in read_lines(tmp_path / "list")]


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\xff\xfe\xfdb")
    with pytest.raises(DataError, match=r"x: .*save it as UTF-8"):
        read_text(tmp_path / "x")
    with pytest.raises(DataError, match=r"nowhere: .*No such file"):
        read_text(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "vehicle", "camera"),
    [
        ("0002_c002_00030600_0.jpg", 2, 2),
        ("0011_c1s1_000151_01.jpg", 11, 1),
        ("0012_001_02_0303morning_0015_0.jpg", 12, 2),
        ("-1_c3s2_000023_01.jpg", -1, 3),
        ("0007_C04.png", 7, 4),
        ("000001.jpg", 1, -1),
        ("0" * 30 + "7_c1.jpg", 7, 1),
        ("9" * 19 + ".jpg", 0, -1),
        ("car.jpg", 0, -1),
        ("0002_color.jpg", 2, -1),
    ],
)
def test_names_state_vehicle_and_camera(name: str, vehicle: int, camera: int) -> None:
    assert (vehicle_in(name), camera_in(name)) == (vehicle, camera)


# Rows


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_rows_as_spreadsheets_write_them(tmp_path: Path, delimiter: str) -> None:
    row = ["crops\\a.jpg", "12.0", "5,0", "1", *[one.replace(".", ",") for one in ROW[4:]]]
    (read,) = read_labels(write(tmp_path / "label.csv", row, delimiter=delimiter)).values()
    assert (read.image, read.vehicle_id, read.color_id) == ("crops/a.jpg", 12, 5)
    np.testing.assert_allclose(read.keypoints.reshape(-1), np.arange(108) / 10, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (ROW[:-1], "111 columns; expected 112"),
        (changed(1, ""), "column 1 (image) is ''"),
        (changed(2, "x"), "column 2 is 'x'; expected a whole number"),
        (changed(3, "1.5"), "column 3 is '1.5'; expected a whole number"),
        (changed(50, "nan"), "column 50 is 'nan'; expected a finite number"),
        (changed(2, "9" * 19), "column 2 is '9999999999999999999'; expected a whole number"),
        (changed(2, "1_000"), "column 2 is '1_000'; expected a whole number"),
        (changed(3, "-3"), "column 3 is -3; expected a class id"),
        (changed(60, "1e39"), "column 60 is '1e39'; expected a finite number"),
        (["b", *VALUES, "1"], "112 columns; expected 111: image, width, height, as in the first"),
        (["b", "64", "48.5", *VALUES[2:]], "column 3 is '48.5'; expected a whole number"),
        (["b", *VALUES[:-1], "2"], "visibility is 2; expected 1 or 0"),
        (["b", *VALUES[:-3], "x", "1", "1"], "column 109 is 'x'; expected a finite number"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_value(tmp_path, row, named) -> None:
    first = VALUES if row[0] == "b" else ROW[1:]
    path = write(tmp_path / "label.csv", ["first.jpg", *first], row)
    with pytest.raises(DataError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}:2: {named}")


def test_large_ids_stay_apart(tmp_path: Path) -> None:
    ids = ("20221231235959001", "20221231235959002", "12.0")
    rows = [[f"{index}.jpg", text, *ROW[2:]] for index, text in enumerate(ids)]
    read = read_labels(write(tmp_path / "label.csv", *rows)).values()
    assert [row.vehicle_id for row in read] == [20221231235959001, 20221231235959002, 12]


def test_all_problems_come_at_once_up_to_twenty(tmp_path: Path) -> None:
    path = write(tmp_path / "label.csv", *[[f"{n}.jpg"] for n in range(23)])
    with pytest.raises(DataError) as refused:
        read_labels(path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "... and 3 more"


# Which row is whose


def rows_of(tmp_path: Path, *images: str) -> dict[str, LabelRow]:
    return read_labels(write(tmp_path / "l.csv", *[[one, *ROW[1:]] for one in images]))


def test_rows_that_could_be_of_two_images_are_refused_and_others_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of(tmp_path, "cam1/000001.jpg", "cam2/000001.jpg", "cam3/7.jpg")
    images = [Path("cam1/000001.jpg"), Path("cam2/000001.jpg"), Path("cam1/../cam1/000001.jpg")]
    with caplog.at_level(logging.WARNING):
        assert match(images, rows, "label rows", str) == [path_in(str(one)) for one in images]
    assert "1 of 3 label rows match none of the 3 images, such as cam3/7.jpg" in caplog.text
    rows_of(tmp_path, "000001.jpg")
    with pytest.raises(DataError, match=r"l\.csv:1: the image '000001.jpg' may be .*cam1.* or "):
        keypoints_of(images, tmp_path / "l.csv")
    assert keypoints_of(images, None) == [None] * 3
    (found, nothing) = keypoints_of(["x/000001.jpg", "y.jpg"], tmp_path / "l.csv")
    assert found.shape == (36, 3) and nothing is None


segments = st.lists(st.sampled_from(["a", "b", "c.jpg", "..", "."]), min_size=1, max_size=6)


@settings(deadline=None)
@given(segments, st.lists(segments, max_size=5))
def test_a_row_found_is_an_end_of_the_images_path(image: list[str], rows: list[list[str]]) -> None:
    names = {name for row in rows if (name := path_in("/".join(row)))}
    path = "/" + path_in("/root/" + "/".join(image)).lstrip("/")
    (found,) = match([path], names, "rows", str)
    fitting = [name for name in names if path.endswith("/" + name)]
    assert found == (max(fitting, key=len) if fitting else None)


# COCO

EXAMPLE = Path(__file__).resolve().parents[1] / "assets" / "example.csv"
NAME = "0002_c002_00030600_0.jpg"
FAST = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

finite = st.floats(-1e6, 1e6, width=32)
poses = arrays(np.float32, (36, 3), elements=st.one_of(st.just(0.0), finite))
file_names = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), blacklist_characters="/\\"),
    min_size=1,
).filter(lambda name: name not in (".", ".."))


def row(keypoints: np.ndarray, image: str = NAME, ids: tuple[int, int, int] = (2, 5, 1)):
    return LabelRow(image, *ids, keypoints)


def written(path: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """A file of one annotation, changed."""
    write_coco(path, [row(np.arange(108, dtype=np.float32).reshape(36, 3))], {NAME: (64, 48)})
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


@FAST
@given(
    st.lists(
        st.tuples(
            file_names,
            poses,
            st.tuples(st.integers(-(2**62), 2**62), st.integers(0, 2**62), st.integers(0, 99)),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda entry: entry[0],
    )
)
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path, entries: list[Any]) -> None:
    path = tmp_path / "coco.JSON"
    rows = [row(keypoints, name, ids) for name, keypoints, ids in entries]
    write_coco(path, rows, {name: (64, 48) for name, *_ in entries})
    read = read_labels(path)
    assert list(read) == [name for name, *_ in entries]
    for wanted, found in zip(rows, read.values(), strict=True):
        np.testing.assert_array_equal(found.keypoints, wanted.keypoints)
        assert found.keypoints.dtype == np.float32
        for field in ("image", "vehicle_id", "color_id", "type_id"):
            assert getattr(found, field) == getattr(wanted, field)


def test_the_file_is_what_coco_asks_for(tmp_path: Path) -> None:
    keypoints = np.zeros((36, 3), np.float32)
    keypoints[1] = 10, 20, 0.5
    keypoints[2] = 11, 21, 0.499
    write_coco(tmp_path / "coco.json", [row(keypoints)], {NAME: (64, 48)})
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": NAME, "width": 64, "height": 48}]
    (category,) = content["categories"]
    assert category["keypoints"] == list(KEYPOINT_NAMES)
    # 1-based: the front bumper's edge from left to right.
    assert [18, 36] in category["skeleton"]
    assert all(1 <= end <= 36 for pair in category["skeleton"] for end in pair)
    (annotation,) = content["annotations"]
    assert annotation["keypoints"][:9] == [0, 0, 0, 10, 20, 2, 11, 21, 1]
    assert (annotation["num_keypoints"], annotation["bbox"]) == (2, [0, 0, 64, 48])
    assert annotation["confidences"][:3] == [0, 0.5, 0.499]


def test_a_file_of_an_annotation_tool_is_read_without_our_fields(tmp_path: Path) -> None:
    def foreign(content: dict[str, Any]) -> None:
        (annotation,) = content["annotations"]
        del annotation["confidences"], annotation["attributes"], annotation["bbox"]
        annotation["keypoints"][2::3] = [2, 1, 0, *[2] * 33]
        content["images"][0] |= {"id": "x", "file_name": f"crops\\train/{NAME}"}
        content["images"].append({"id": 7, "file_name": "nobody.jpg"})
        annotation["image_id"] = "x"
        # Another order of the names, and the points with them.
        category = content["categories"][0]
        category["keypoints"] = category["keypoints"][::-1]
        points = np.array(annotation["keypoints"]).reshape(36, 3)[::-1]
        annotation["keypoints"] = points.ravel().tolist()

    (read,) = read_labels(written(tmp_path / "coco.json", foreign)).values()
    image = f"crops/train/{NAME}"
    assert (read.image, read.vehicle_id, read.color_id, read.type_id) == (image, 2, 0, 0)
    expected = np.arange(108, dtype=np.float32).reshape(36, 3)
    np.testing.assert_array_equal(read.keypoints[:, :2], expected[:, :2])
    assert read.keypoints[:, 2].tolist() == [1, 0, 0, *[1] * 33]


def annotation_with(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.pop("images"), "no COCO JSON with images and annotations"),
        (lambda content: content["images"].append(3), "images entry 2 is 3"),
        (lambda content: content.update(annotations=[]), "there is no annotation"),
        (
            lambda content: content.update(annotations=[7]),
            "annotation 1: image_id is None; expected the id",
        ),
        (annotation_with(image_id=8), "annotation 1: image_id is 8; expected the id of a named"),
        (annotation_with(category_id=True), f"image {NAME!r}: category_id is True"),
        (annotation_with(keypoints=[1] * 107), f"image {NAME!r}: keypoints is [1, 1, 1"),
        (annotation_with(keypoints=[3] * 108), "visibility is 3; expected 0 or 1 or 2"),
        (annotation_with(keypoints=["2"] * 108), "keypoints has the value '2'; expected finite"),
        (annotation_with(confidences=[float("nan")] * 36), "a value of confidences is nan"),
        (annotation_with(confidences="high"), "confidences is 'high'; expected 36 numbers"),
        (annotation_with(attributes={"type_id": -1}), "type_id is -1; expected a whole number"),
        (annotation_with(attributes={"vehicle_id": 2**63}), f"vehicle_id is {2**63}; expected"),
        (annotation_with(attributes=[1]), "attributes is [1]; expected an object"),
        (
            lambda content: content["categories"][0]["keypoints"].__setitem__(0, "nose"),
            "its category has the keypoints ['nose', ",
        ),
        (
            lambda content: content["annotations"].append(content["annotations"][0]),
            f"annotation 2, image {NAME!r}: image {NAME!r} has an annotation already",
        ),
    ],
)
def test_a_fault_is_named_by_file_image_and_value(tmp_path: Path, change, named: str) -> None:
    path = written(tmp_path / "coco.json", change)
    with pytest.raises(DataError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


# NVlabs' annotations


def test_nvlabs_annotations_are_labels_with_visibility_as_confidence(tmp_path: Path) -> None:
    path = write(tmp_path / "train.csv", [NAME, *VALUES], ["left.jpg", *VALUES])
    rows = read_labels(path)
    assert [(name, one.vehicle_id) for name, one in rows.items()] == [(NAME, 2), ("left.jpg", 0)]
    assert rows[NAME].keypoints[:3].tolist() == [[0, 0, 0], [1, 2, 1], [2, 4, 0]]
    assert (rows[NAME].color_id, rows[NAME].type_id) == (0, 0)


def test_an_annotated_data_set_is_read_wherever_its_images_lie(tmp_path: Path) -> None:
    names = [f"000{vehicle}_c00{vehicle}_0.jpg" for vehicle in (1, 2, 3)]
    (tmp_path / "annot").mkdir()
    write(tmp_path / "annot" / "label_train.csv", *[[name, *VALUES] for name in names[:2]])
    write(tmp_path / "annot" / "label_test.csv", [names[2], *VALUES])
    for folder, name in zip(("images", "image_train", "image_train"), names, strict=True):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / folder / name)
    dataset = read_dataset(tmp_path)
    assert [(split.name, len(split)) for split in dataset.splits] == [("train", 2), ("gallery", 1)]
    assert dataset.train.camera_ids.tolist() == [1, 2]
    assert dataset.gallery.vehicle_ids.tolist() == [3]
    record = dataset.gallery.records[0]
    assert record.image == tmp_path / "image_train" / names[2]
    assert record.color_id is None and record.keypoints is not None
    (tmp_path / "images" / names[0]).unlink()
    with pytest.raises(DataError, match=rf"label_train\.csv:1: image .*{names[0]} does not exist"):
        read_dataset(tmp_path)


def test_labels_change_form_and_keep_what_both_hold(tmp_path: Path) -> None:
    rows = read_labels(EXAMPLE)
    write_coco(tmp_path / "a.json", rows.values(), dict.fromkeys(rows, (64, 48)))
    write_labels(tmp_path / "a.csv", read_labels(tmp_path / "a.json").values(), decimals=3)
    for name, one in read_labels(tmp_path / "a.csv").items():
        np.testing.assert_allclose(one.keypoints, rows[name].keypoints, atol=6e-4)
        assert one.vehicle_id == rows[name].vehicle_id
