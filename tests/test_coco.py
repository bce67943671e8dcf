"""COCO keypoint JSON and NVlabs' annotations: what annotation tools give and take."""

from __future__ import annotations

import csv
import json
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
from multitasknet.data.labels import LabelRow, write_coco, write_labels
from multitasknet.vehicle.keypoints import KEYPOINT_NAMES

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


def annotated(path: Path, rows: dict[str, list[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([name, *values] for name, values in rows.items())
    return path


VALUES: list[object] = [64, 48, *[value for n in range(36) for value in (n, 2 * n, n % 2)]]


def test_nvlabs_annotations_are_labels_with_visibility_as_confidence(tmp_path: Path) -> None:
    path = annotated(tmp_path / "train.csv", {NAME: VALUES, "left.jpg": VALUES})
    rows = read_labels(path)
    assert [(name, one.vehicle_id) for name, one in rows.items()] == [(NAME, 2), ("left.jpg", 0)]
    assert rows[NAME].keypoints[:3].tolist() == [[0, 0, 0], [1, 2, 1], [2, 4, 0]]
    assert (rows[NAME].color_id, rows[NAME].type_id) == (0, 0)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([*VALUES, 1], "112 columns; expected 111: image, width, height, as in the first row"),
        ([64, "48.5", *VALUES[2:]], "column 3 is '48.5'; expected a whole number"),
        ([*VALUES[:-1], 2], "visibility is 2; expected 1 or 0"),
        ([*VALUES[:-3], "x", 1, 1], "column 109 is 'x'; expected a finite number"),
    ],
)
def test_a_faulty_annotation_is_named(tmp_path: Path, values: list[object], named: str) -> None:
    path = annotated(tmp_path / "train.csv", {NAME: VALUES, "b.jpg": values})
    with pytest.raises(DataError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}:2: {named}")


def test_an_annotated_data_set_is_read_wherever_its_images_lie(tmp_path: Path) -> None:
    names = [f"000{vehicle}_c00{vehicle}_0.jpg" for vehicle in (1, 2, 3)]
    annotated(tmp_path / "annot" / "label_train.csv", dict.fromkeys(names[:2], VALUES))
    annotated(tmp_path / "annot" / "label_test.csv", {names[2]: VALUES})
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
