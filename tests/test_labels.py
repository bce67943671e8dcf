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
from drawn_sets import pictures, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multitasknet import DataError, read_dataset, read_labels
from multitasknet.data.file_names import path_in
from multitasknet.data.labels import LabelRow, keypoints_of, match, write_coco
from multitasknet.data.text import read_lines, read_text
from multitasknet.vehicle.keypoints import KEYPOINT_NAMES

NAME = "0002_c002_00030600_0.jpg"
ROW = [NAME, "12", "5", "1", *[str(n / 10) for n in range(108)]]
# NVlabs' columns after the image.
VALUES = ["64", "48", *[str(value) for n in range(36) for value in (n, 2 * n, n % 2)]]
# Of GB2312, of GBK, and of GB18030 alone.
CARS = "\u8f66 caf\u00e9 \u9555 \U00020000"


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        *((None, "utf-8"), (None, "utf-8-sig"), (None, "utf-16"), ("utf-8", "utf-8")),
        *(("GB2312", "gb18030"), ("gbk", "gb18030"), ("UTF-16", "utf-16")),
        # Saved again by an editor that did not look at the declaration.
        *(("utf-16", "utf-8"), ("no-such-thing", "utf-8")),
    ],
)
def test_text_is_read_in_the_encoding_that_it_has(tmp_path, declared, encoding) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    content = f"{head}{CARS}\n \n  last\n".encode(encoding)
    (tmp_path / "list").write_bytes(content)
    assert read_text(tmp_path / "list") == f"{head}{CARS}\n \n  last\n"
    # Standard input comes as bytes, too.
    *_, last = read_lines(io.BytesIO(content))
    assert last == (f"standard input:{4 if head else 3}", "last")


# Rows


def test_rows_as_spreadsheets_write_them(tmp_path: Path) -> None:
    points = [one.replace(".", ",") for one in ROW[4:]]
    row = ["crops\\a.jpg", "20221231235959001.0", "5,0", "1", *points]
    (read,) = read_labels(write(tmp_path / "label.csv", ";".join(row))).values()
    assert (read.image, read.vehicle_id, read.color_id) == ("crops/a.jpg", 20221231235959001, 5)
    np.testing.assert_allclose(read.keypoints.reshape(-1), np.arange(108) / 10, atol=1e-5)


@pytest.mark.parametrize(
    ("column", "value", "named"),
    [
        (1, "", "the image has no name"),
        (2, "x", "column 2 is 'x'; expected a whole number"),
        (2, "9" * 19, "column 2 is '9999999999999999999'; expected a whole number"),
        (3, "-3", "a class is -3; expected its id"),
        (60, "1e39", "column 60 is '1e39'; expected a finite number"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_value(tmp_path, column, value, named) -> None:
    row = [*ROW[: column - 1], value, *ROW[column:]]
    path = write(tmp_path / "label.csv", ",".join(["first.jpg", *ROW[1:]]), ",".join(row))
    with pytest.raises(DataError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}:2: {named}")


def test_all_problems_come_at_once_up_to_twenty(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        read_labels(write(tmp_path / "label.csv", *[f"{n}.jpg" for n in range(23)]))
    lines = str(refused.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "... and 3 more"
    with pytest.raises(DataError, match="there are no labels"):
        read_labels(write(tmp_path / "label.csv"))


# Which row is whose


def test_rows_that_could_be_of_two_images_are_refused_and_others_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = ["cam1/1.jpg", "cam2/1.jpg", "cam1/../cam1/1.jpg"]
    rows = {"cam1/1.jpg", "cam2/1.jpg", "cam3/7.jpg"}
    with caplog.at_level(logging.WARNING):
        assert match(images, rows, "label rows", str) == [path_in(one) for one in images]
    assert "1 of 3 label rows match none of the 3 images, such as cam3/7.jpg" in caplog.text
    # Frames that begin with 0 are counted from 1 where the file does.
    assert match(["a/0.png", "a/2.png"], {1, 3}, "frames", str, first=1) == [1, 3]
    labels = write(tmp_path / "l.csv", ",".join(["1.jpg", *ROW[1:]]))
    with pytest.raises(DataError, match=r"l\.csv:1: the image '1.jpg' may be .*cam1.* or "):
        keypoints_of(images, labels)
    (found, nothing) = keypoints_of(["x/1.jpg", "y.jpg"], labels)
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

numbers = st.one_of(st.just(0.0), st.floats(-1e6, 1e6, width=32))
poses = arrays(np.float32, (36, 3), elements=numbers)
file_names = st.from_regex(r"[\w.,;'\"]{0,9}\w", fullmatch=True)
ids = st.tuples(st.integers(-(2**62), 2**62), st.integers(0, 2**62), st.integers(0, 99))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(file_names, st.tuples(ids, poses), min_size=1, max_size=4))
def test_what_is_written_is_read_back_to_the_last_bit(tmp_path: Path, entries: Any) -> None:
    rows = [LabelRow(name, *known, pose) for name, (known, pose) in entries.items()]
    write_coco(tmp_path / "coco.JSON", rows, dict.fromkeys(entries, (64, 48)))
    read = read_labels(tmp_path / "coco.JSON")
    assert list(read) == list(entries)
    for row, found in zip(rows, read.values(), strict=True):
        np.testing.assert_array_equal(found.keypoints, row.keypoints)
        assert (found.vehicle_id, found.color_id, found.type_id) == entries[row.image][0]


def test_the_file_is_what_coco_asks_for(tmp_path: Path) -> None:
    keypoints = np.zeros((36, 3), np.float32)
    keypoints[1:3] = (10, 20, 0.5), (11, 21, 0.499)
    write_coco(tmp_path / "coco.json", [LabelRow(NAME, 2, 5, 1, keypoints)], {NAME: (64, 48)})
    content = json.loads((tmp_path / "coco.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": NAME, "width": 64, "height": 48}]
    (annotation,), (category,) = content["annotations"], content["categories"]
    assert category["keypoints"] == list(KEYPOINT_NAMES)
    # 1-based: the front bumper's edge from left to right.
    assert [18, 36] in category["skeleton"]
    assert annotation["keypoints"][:9] == [0, 0, 0, 10, 20, 2, 11, 21, 1]
    assert (annotation["num_keypoints"], annotation["bbox"]) == (2, [0, 0, 64, 48])
    assert annotation["confidences"][:3] == [0, 0.5, 0.499]


POSE = np.arange(108, dtype=np.float32).reshape(36, 3)


def written(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A file of one annotation, changed."""
    write_coco(path, [LabelRow(NAME, 2, 5, 1, POSE)], {NAME: (64, 48)})
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_a_file_of_an_annotation_tool_is_read_without_our_fields(tmp_path: Path) -> None:
    def foreign(content: dict[str, Any]) -> None:
        (annotation,), (category,) = content["annotations"], content["categories"]
        del annotation["confidences"], annotation["attributes"], annotation["bbox"]
        content["images"][0] |= {"id": "x", "file_name": f"crops\\train/{NAME}"}
        annotation["image_id"] = "x"
        # Another order of the names, and the points with them.
        category["keypoints"] = category["keypoints"][::-1]
        points = np.column_stack([POSE[:, :2], [2, 1, 0, *[2] * 33]])[::-1]
        annotation["keypoints"] = points.ravel().tolist()

    (read,) = read_labels(written(tmp_path / "coco.json", foreign)).values()
    image = f"crops/train/{NAME}"
    assert (read.image, read.vehicle_id, read.color_id, read.type_id) == (image, 2, 0, 0)
    np.testing.assert_array_equal(read.keypoints[:, :2], POSE[:, :2])
    assert read.keypoints[:, 2].tolist() == [1, 0, 0, *[1] * 33]


def annotation_with(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["annotations"][0].update(fields)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda content: content.pop("images"), "no COCO JSON with images and annotations"),
        (lambda content: content.update(annotations=[]), "there are no labels"),
        (lambda content: content.update(annotations=[7]), "annotation 1: it is 7; expected an"),
        (annotation_with(image_id=8), "annotation 1: image_id is 8; expected the id of a named"),
        (annotation_with(keypoints=[3] * 108), "visibility is 3; expected 0 or 1 or 2"),
        (annotation_with(confidences=[float("nan")] * 36), "a value of confidences is nan"),
        (annotation_with(attributes={"vehicle_id": 2**63}), f"vehicle_id is {2**63}; expected"),
        (lambda content: content["categories"][0].update(keypoints=["nose"]), "['nose']; expected"),
        (lambda content: content.update(annotations=content["annotations"] * 2), "annotation 2: "),
    ],
)
def test_a_fault_is_named_by_file_place_and_value(tmp_path: Path, change, named: str) -> None:
    path = written(tmp_path / "coco.json", change)
    with pytest.raises(DataError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}: ") and named in str(refused.value)


def test_nvlabs_annotations_are_read_wherever_their_images_lie(tmp_path: Path) -> None:
    names = [f"000{vehicle}_c00{vehicle}_0.jpg" for vehicle in (1, 2, 3)]
    rows = [",".join([name, *VALUES]) for name in names]
    write(tmp_path / "annot" / "label_train.csv", *rows[:2])
    write(tmp_path / "annot" / "label_test.csv", rows[2])
    pictures(tmp_path / "images", names[0])
    pictures(tmp_path / "image_train", *names[1:])
    dataset = read_dataset(tmp_path)
    assert [(split.name, len(split)) for split in dataset.splits] == [("train", 2), ("gallery", 1)]
    assert dataset.train.camera_ids.tolist() == [1, 2]
    (record,) = dataset.gallery.records
    assert (record.image, record.vehicle_id) == (tmp_path / "image_train" / names[2], 3)
    assert record.color_id is None
    # Visibility is the confidence.
    assert record.keypoints[:3].tolist() == [[0, 0, 0], [1, 2, 1], [2, 4, 0]]
