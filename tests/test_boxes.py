"""Boxes of other programs' files: read as they were meant, cut out, embedded, kept and shown."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ASSETS
from drawn_sets import write
from PIL import Image
from stores import PixelPredictor, use_in_commands

from multitasknet import DataError, ImageError, crops, find_images, images
from multitasknet.cli import main
from multitasknet.data.boxes import Box, boxes_of, open_crops, read_boxes
from multitasknet.errors import OutputError
from multitasknet.gallery.entries import read_manifest
from multitasknet.gallery.gallery import Gallery
from multitasknet.images import open_picture, read_image
from multitasknet.report.page import thumbnail

# Two boxes as each program writes them: frame 1, -10,20 to 100,90, which leaves the frame, track 7,
# confidence 0.9; frame 3, 100,50 to 190,140, of no track, 0.5.
_COCO = {
    "images": [{"id": n, "file_name": f"frame_{n:03}.png"} for n in (1, 3)],
    "annotations": [
        {"image_id": 1, "category_id": 3, "bbox": [-10, 20, 110, 70], "score": 0.9, "track_id": 7},
        {"image_id": 3, "category_id": 3, "bbox": [100, 50, 90, 90], "score": 0.5},
        {"image_id": 3, "category_id": 3, "bbox": [0, 0, 600, 400], "iscrowd": 1},
    ],
    "categories": [{"id": 3, "name": "car"}],
}
_RESULTS = [one | {"category_id": "car"} for one in _COCO["annotations"]]
_REST = "-1 -1 -1 -1 -1 -1 -1"
FORMATS: dict[str, dict[str, str]] = {
    "mot": {"gt.txt": "1,7,-10,20,110,70,0.9,-1,-1,-1\n3,-1,100,50,90,90,0.5,-1,-1,-1\n"
            "3,9,0,0,600,400,0,-1,-1,-1\n"},
    "coco": {"boxes.json": json.dumps(_COCO)},
    "results": {"boxes.json": json.dumps(_RESULTS)},
    "yolo": {"frame_001.txt": "car 0.070313 0.114583 0.171875 0.145833 0.9 7\n",
             "frame_003.txt": "car 0.226563 0.197917 0.140625 0.1875 0.5\n",
             "empty.txt": "", "classes.txt": "person\ncar\n"},
    "kitti": {"frame_001.txt": f"DontCare -1 -1 -10 1 1 600 400 {_REST} 1\n"
              f"car 0 0 -1.5 -10 20 100 90 {_REST} 0.9\n",
              "frame_003.txt": f"car 0 0 -1.5 100 50 190 140 {_REST} 0.5\n"},
    "kitti tracks": {"0000.txt": f"1 7 car 0 0 -1 -10 20 100 90 {_REST} 0.9\n"
                     f"3 -1 car 0 0 -1 100 50 190 140 {_REST} 0.5\n"},
    "csv": {"a.csv": "\ufeff# by a, b\n \nImage;track_id;score;x1;y1;x2;y2;label\n# by hand\n"
            "frame_001.png;7;0.9;-10;20;100;90;car\nframe_003.png;;0.5;100;50;190;140;car\n"
            "frame_003.png;;1;0;0;600;400;DontCare\n"},
    "shares": {"a.csv": "frame,id,conf,x,y,width,height,class\n"
               "1,7.0,0.9,-0.015625,0.0416667,0.171875,0.145833,car\n"
               "3,-1,0.5,0.15625,0.1041667,0.140625,0.1875,car\n"},
}  # fmt: skip


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five frames whose colours say where a crop is from."""
    folder = tmp_path_factory.mktemp("frames") / "cam1"
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"frame_{number:03}.png" for number in range(1, 6)]
    for path in paths:
        small = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(small.repeat(40, axis=0).repeat(40, axis=1)).save(path)
    return paths


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_the_boxes_that_were_written(format, frames, tmp_path) -> None:
    files = [write(tmp_path / name, *text.splitlines()) for name, text in FORMATS[format].items()]
    found = boxes_of(frames, tmp_path if format in ("yolo", "kitti") else files[0])
    track, label = ("" if format == "kitti" else "7"), ("" if format == "mot" else "car")
    assert [(one.image, one.xyxy, one.track, one.confidence, one.label) for one in found] == [
        (frames[0], (0, 20, 100, 90), track, 0.9, label),
        (frames[2], (100, 50, 190, 140), "", 0.5, label),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,x,y,w,h\na,1,2,-3,40\n", r"a.csv:2: the box is x 1, y 2, w -3, h 40; exp"),
        (
            "a.csv",
            "image,x1,y1,x2,y2\na,.1,.1,.5,.5\na,0,0,0,0\na,9,9,90,90\n",
            r"a.csv:2: the box \(0.1, 0.1, 0.5, 0.5\) is in shares .*/a.csv:4, .* in pixels",
        ),
        ("a.csv", "track,x1,y1,x2,y2\na,1,1,9,9\n", "neither image nor frame is given"),
        ("a.txt", "1,1,5,5,40,40,1\n-2,1,5,5,40,40,1\n", "a.txt:2: frame is '-2'"),
        ("a.txt", "2 0.5 0.5 40 0.2\n", "the box is cx 0.5, cy 0.5, w 40, h 0.2; expected shares"),
        ("a.txt", "2 .5 .5 .1 .2 7\n", "confidence is 7; expected 0 to 1, and a track's number"),
        # The AI City Challenge's results: camera, vehicle, frame, x, y, w, h, and two more.
        ("a.txt", "41 5 10 9 9 60 60 -1 -1\n", "a.txt:1: 9 columns of no format that is known"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3]}]', "annotation 1: bbox is .1, 2, 3.; exp"),
    ],
)
def test_faults_are_named_by_place_and_value(tmp_path, name, text, message) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path / name)


def test_what_is_marked_as_nothing_or_small_is_left_out_and_counted(
    frames: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["1,4,10,20,100,50,-1", "1,5,10,20,100,50,0", "2,6,608,20,72,50,1", "2,7,620,20,72,50,1"]
    found = boxes_of(frames, write(tmp_path / "gt.txt", *rows, "9,8,10,20,100,50,1"))
    assert [(one.track, one.xyxy, one.confidence) for one in found] == [
        ("4", (10, 20, 110, 70), 1),
        ("6", (608, 20, 640, 70), 1),
    ]
    assert "1 of 3 boxes are left out" in caplog.text and "1 of 3 frames match none" in caplog.text
    small = write(tmp_path / "small.txt", "1,4,10,20,30,50,1")
    with pytest.raises(DataError, match="no box has 32 pixels a side within its frame"):
        boxes_of(frames, small)  # and not whole frames
    with pytest.raises(DataError, match=r"none of 4 boxes is of these 1 images, such as .*005.png"):
        boxes_of(frames[4:], tmp_path / "gt.txt")


def test_a_frame_is_decoded_once_while_its_crops_are_in_use(frames, monkeypatch) -> None:
    decoded, upright = [], images._upright_rgb
    monkeypatch.setattr(images, "_upright_rgb", lambda one: decoded.append(1) or upright(one))
    boxes = [Box(frames[0], (x, 40, x + 80, 120)) for x in range(0, 400, 40)]
    held = [one.decode() for one in open_crops(boxes)]
    assert len(decoded) == 1 and len(held) == len(boxes)
    whole = np.asarray(Image.open(frames[0]))
    for box, (pixels, _) in zip(boxes, held, strict=True):
        x1, y1, x2, y2 = map(int, box.xyxy)
        np.testing.assert_array_equal(pixels, whole[y1:y2, x1:x2])
    with pytest.raises(ImageError, match=r"#600,0,80,40: the box is not within the frame, 640 x"):
        open_picture(frames[0], box=(600, 0, 680, 40)).decode()


def test_crops_of_detections() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    rows = np.array([[10, 20, 50, 60], [100.4, -5, 140, 40.6], [130, 5, 150, 50]], np.float32)
    tensor = SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: rows))
    for detections in (
        SimpleNamespace(xyxy=rows, confidence=np.ones(3)),  # supervision
        SimpleNamespace(boxes=SimpleNamespace(xyxy=tensor), names={}),  # Ultralytics
        np.column_stack([rows, np.ones((3, 2))]),
    ):
        first, second, outside = crops(picture, detections)
        np.testing.assert_array_equal(first, picture[20:60, 10:50])
        np.testing.assert_array_equal(second, picture[0:41, 100:])
        assert not outside.size
    assert crops(picture, []) == []
    for wrong in (None, [1, 2, 3, 4]):
        with pytest.raises(TypeError, match=r"expected supervision.Detections"):
            crops(picture, wrong)


@pytest.fixture(scope="module")
def street(frames: list[Path]) -> Path:
    """Frames in ``cam1``, ``boxes.csv`` of three vehicles in two, and these cut out by hand."""
    folder = frames[0].parents[1]
    rows = ["image,x,y,w,h,track,label"]
    for one in frames[:2]:
        rows += [f"{one.name},{100 + 180 * n},17,{150 + n},99,t{n},car" for n in range(3)]
    file = write(folder / "boxes.csv", *rows)
    (folder / "crops").mkdir()
    for box in boxes_of(frames, file):
        name = f"{box.image.stem}-{box.track}.png"
        Image.open(box.image).crop(box.xyxy).save(folder / "crops" / name)
    return folder


def printed(capsys: pytest.CaptureFixture[str], *line: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*map(str, line), "--json"]) == 0
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def test_boxes_are_predicted_and_posed_as_crops_cut_by_hand(
    street: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    monkeypatch.setattr("multitasknet.cli.predict.make_predictor", lambda _: PixelPredictor())
    frames, size = street / "cam1", ["--size", "96"]
    boxes = ["--boxes", street / "boxes.csv"]
    found = printed(capsys, "predict", frames, *boxes)
    wanted = printed(capsys, "predict", street / "crops")
    assert len(found) == len(wanted) == 6
    for one, other in zip(found, wanted, strict=True):
        frame, track = Path(other.pop("image")).stem.rsplit("-", 1)
        assert (one.pop("image"), one.pop("track")) == (str(frames / f"{frame}.png"), track)
        assert one.pop("label") == "car" and one.pop("box")[:2] == [100 + 180 * int(track[1]), 17]
        assert one == other
    table = tmp_path / "poses.json"
    poses = printed(capsys, "pose", frames, *boxes, *size, "--output", table, "--overlay", tmp_path)
    found = json.loads(table.read_text())
    assert [one["file_name"] for one in found["images"]] == ["frame_001.png", "frame_002.png"]
    assert {(one["width"], one["height"]) for one in found["images"]} == {(640, 480)}
    for one, shown in zip(found["annotations"], poses, strict=True):
        x, y, width, height = one["bbox"]
        assert shown["box"] == [x, y, x + width, y + height]
        in_frame = np.reshape(one["keypoints"], (36, 3))[:, :2]
        in_crop = np.array(shown["keypoints"])[:, :2]
        np.testing.assert_allclose(in_frame, in_crop + np.array([x, y]), atol=1e-3)
        drawn = f"{Path(shown['image']).stem}#{x},{y},{width},{height}.png"
        assert Image.open(tmp_path / drawn).size == (width, height)
    # What was written names the boxes again.
    again = [box.xyxy for box in boxes_of(find_images(frames), table)]
    assert again == [tuple(shown["box"]) for shown in poses]


@pytest.fixture
def store(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """What the command puts into a store."""
    use_in_commands(monkeypatch, PixelPredictor())
    line = ["gallery", "add", tmp_path / "city.lance", street / "cam1"]
    assert main([*map(str, line), "--boxes", str(street / "boxes.csv")]) == 0
    return Gallery(tmp_path / "city.lance")


def test_rows_keep_frame_and_box_and_are_those_of_crops_cut_by_hand(store, street, capsys) -> None:
    columns = ["id", "image", "box", "track", "crops", "label", "width", "height", "embedding"]
    rows = sorted(store.rows(columns), key=lambda row: row["id"])
    wanted = PixelPredictor().embed(find_images(street / "crops"))
    assert [row["track"] for row in rows] == ["t0", "t1", "t2"] * 2
    for row, vector in zip(rows, wanted, strict=True):
        x1, y1, x2, y2 = map(int, row["box"])
        assert row["id"] == f"{row['image']}#{x1},{y1},{x2 - x1},{y2 - y1}"
        assert (row["width"], row["height"]) == (x2 - x1, y2 - y1)
        assert (row["crops"], row["label"]) == (1, "car")
        np.testing.assert_array_equal(row["embedding"], vector.astype(np.float16))
    # A manifest's columns are the same boxes, also as shares.
    lines = ["image,X1,Y1,X2,Y2"]
    for row in rows:
        shares = np.array(row["box"]) / [640, 480, 640, 480]
        lines.append(",".join(map(str, [row["image"], *shares.tolist()])))
    shares = write(street / "shares.csv", *lines)
    (report,) = printed(capsys, "gallery", "add", store.path, "--manifest", shares)
    assert (report["added"], report["unchanged"]) == (0, 6)


def test_crops_of_rows_are_written_with_a_manifest_that_gallery_add_reads(store, tmp_path) -> None:
    assert store.export(tmp_path / "out", where="track <> 't1'") == 4
    kept = read_manifest(tmp_path / "out" / "crops.csv")
    assert [one.id for one in kept] == sorted(row.id for row in store.select("track <> 't1'"))
    assert {(one.track, one.more["label"]) for one in kept} == {("t0", "car"), ("t2", "car")}
    for entry in kept:
        wanted = store.row(entry.id).picture.decode()[0]
        found = read_image(entry.image)
        assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() < 4
    with pytest.raises(OutputError, match="something is there already; give a new folder"):
        store.export(tmp_path / "out")


def test_tables_and_pages_show_crops(street, tmp_path, monkeypatch, capsys) -> None:
    use_in_commands(monkeypatch, PixelPredictor())
    boxes = ["--boxes", street / "boxes.csv"]
    line = ["group", street / "cam1", *boxes, "--output", tmp_path, "--max-distance", "9"]
    assert main([*map(str, line)]) == 0
    assert re.search(r"^crops +6\nvehicles +1$", capsys.readouterr().out, re.M)
    header, first, *_ = (tmp_path / "vehicles.csv").read_text().splitlines()
    assert header == '"image","vehicle","x1","y1","x2","y2"' and first.endswith(",0,100,17,250,116")
    sheet = (tmp_path / "vehicles.html").read_text()
    assert all(thumbnail(read_image(one)) in sheet for one in find_images(street / "crops"))
