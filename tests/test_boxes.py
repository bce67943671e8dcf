"""Boxes of other programs' files: read as they were meant, cut out, embedded, kept and shown."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import ASSETS
from drawn_sets import write
from PIL import Image
from served import serving
from stores import PixelPredictor, use_in_commands

from multitasknet import DataError, ImageError, crops, find_images
from multitasknet.cli import main
from multitasknet.data.boxes import Box, boxes_of, open_crops, read_boxes
from multitasknet.errors import OutputError
from multitasknet.gallery.entries import read_manifest, with_labels
from multitasknet.gallery.gallery import Gallery
from multitasknet.images import Frame, open_picture, read_image
from multitasknet.report.page import thumbnail
from multitasknet.server.service import Service

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
    "yolo": {"frame_001.txt": "car 0.070313 0.114583 0.171875 0.145833 0.9\n",
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
    track, label = ("" if format in ("yolo", "kitti") else "7"), ("" if format == "mot" else "car")
    assert [(one.image, one.xyxy, one.track, one.confidence, one.label) for one in found] == [
        (frames[0], (0, 20, 100, 90), track, 0.9, label),
        (frames[2], (100, 50, 190, 140), "", 0.5, label),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "image,x,y,w,h\na,1,2,-3,40\n", r"a.csv:2: the box is x 1, y 2, w -3, h 40; exp"),
        ("a.csv", "image,x1,y1,x2,y2\na,90,2,30,40\n", r"a.csv:2: the box is x1 90, y1 2, x2 30"),
        (
            "a.csv",
            "image,x1,y1,x2,y2\na,.1,.1,.5,.5\na,0,0,0,0\na,9,9,90,90\n",
            r"a.csv:2: the box \(0.1, 0.1, 0.5, 0.5\) is in shares .*/a.csv:4, .* in pixels",
        ),
        ("a.csv", "image,x1,y1,x2,y2\na,1,1,nan,9\n", "x2 is 'nan'; expected a finite number"),
        ("a.csv", "image,x1,y1,x2,y2\na,1,1,9\n", "4 columns; expected 5"),
        ("a.csv", "track,x1,y1,x2,y2\na,1,1,9,9\n", "the header is .*; expected COCO JSON"),
        ("a.csv", "image,frame,x1,y1,x2,y2\n,,1,1,9,9\n", "neither image nor frame is given"),
        ("a.txt", "1,1,5,5,40,40,1\n-2,1,5,5,40,40,1\n", "a.txt:2: frame is '-2'"),
        ("a.txt", "1,1,5,5,40\n", "a.txt:1: 5 columns of no format that is known"),
        ("a.txt", "2 0.5 0.5 40 0.2\n", "the box is cx 0.5, cy 0.5, w 40, h 0.2; expected shares"),
        (
            "a.txt",
            "2 0.5 0.5 0.1 0.2 7\n",
            "confidence is 7; expected 0 to 1, and a track's number",
        ),
        # The AI City Challenge's results: camera, vehicle, frame, x, y, w, h, and two more.
        ("a.txt", "41 5 10 9 9 60 60 -1 -1\n", "a.txt:1: 9 columns of no format that is known"),
        ("a.json", "[", "the file is no JSON"),
        ("a.json", "{}", "no COCO JSON with images and annotations"),
        ("a.json", '[{"image_id": 1, "bbox": [1, 2, 3]}]', "annotation 1: bbox is .1, 2, 3.; exp"),
        ("a.json", '[{"bbox": [1, 2, 3, 4]}, 7]', "annotation 2: image_id is None"),
        (
            "a.json",
            '{"images": [{"id": 1}], "annotations": [], "categories": 1}',
            "a.json: categories is 1; expected a list of objects",
        ),
        ("missing.csv", None, "the file cannot be read"),
    ],
)
def test_faults_are_named_by_place_and_value(tmp_path, name, text, message) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_boxes(tmp_path / name)


def test_a_folder_holds_a_text_for_each_frame(tmp_path: Path) -> None:
    write(tmp_path / "a" / "one.txt", "0 .5 .5 .5 .5")
    write(tmp_path / "a" / "two.txt", "1,1,5,5,90,90,1")
    with pytest.raises(DataError, match="not one text for each frame"):
        read_boxes(tmp_path / "a")


def test_what_is_marked_as_nothing_or_small_is_left_out_and_counted(
    frames: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = ["1,4,10,20,100,50,1", "1,5,10,20,100,50,0", "2,6,600,20,72,50,1", "2,7,620,20,72,50,1"]
    found = boxes_of(frames, write(tmp_path / "gt.txt", *rows, "9,8,10,20,100,50,1"))
    assert [(one.track, one.xyxy) for one in found] == [
        ("4", (10, 20, 110, 70)),
        ("6", (600, 20, 640, 70)),
    ]
    assert "1 of 3 boxes are left out" in caplog.text and "1 of 3 frames match none" in caplog.text
    small = write(tmp_path / "small.txt", "1,4,10,20,30,50,1", "1,4,620,20,90,50,1")
    with pytest.raises(DataError, match="no box has 32 pixels a side within its frame"):
        boxes_of(frames, small)  # and not whole frames
    with pytest.raises(DataError, match=r"no box is of these 1 images, such as .*005.png; it has"):
        boxes_of(frames[4:], tmp_path / "gt.txt")
    with pytest.raises(DataError, match=r"empty.txt: there is no box"):
        boxes_of(frames, write(tmp_path / "empty.txt", "# frame,id", ""))


def test_a_track_and_a_confidence_that_are_not_known(tmp_path: Path) -> None:
    mot = write(tmp_path / "mot.txt", "1,-1,5,5,40,40,-1,-1,-1,-1")
    yolo = write(tmp_path / "frame_1.txt", "2 .5 .5 .1 .2 .9 7", "2 .5 .5 .1 .2")
    rows = ["id,track_id,frame,x,y,w,h,conf,class", "3,ab,1,5,5,40,40,-1.0,", "4,,1,5,5,40,40,,car"]
    table = write(tmp_path / "a.csv", *rows)
    found = [one for file in (mot, yolo, table) for one in read_boxes(file).boxes]
    assert [(one.track, one.confidence, one.label) for one in found] == [
        *[("", 1, ""), ("7", 0.9, "2"), ("", 1, "2"), ("ab", 1, ""), ("", 1, "car")]
    ]


def test_frames_are_told_apart_by_folder_and_counted_from_one(tmp_path: Path) -> None:
    pictures = [tmp_path / camera / f"{n}.png" for camera in ("a", "b") for n in range(3)]
    for path in pictures:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (99, 99)).save(path)
    mot = write(tmp_path / "mot.txt", "1,1,0,0,50,50,1", "3,1,0,0,50,50,1")
    # Pictures that begin with 0 are frames from 1, as the format counts.
    assert [one.image.name for one in boxes_of(pictures[:3], mot)] == ["0.png", "2.png"]
    with pytest.raises(DataError, match=r"frame 1 may be .*a/0.png or .*b/0.png"):
        boxes_of(pictures, mot)
    table = ["image,x,y,w,h", "b/1.png,0,0,50,60", "a/1.png,0,0,70,80"]
    found = boxes_of(pictures, write(tmp_path / "boxes.csv", *table))
    assert [(one.image, one.xyxy[2:]) for one in found] == [
        (pictures[1], (70, 80)),
        (pictures[4], (50, 60)),
    ]


def test_a_frame_is_decoded_once_while_its_crops_are_in_use(frames, monkeypatch) -> None:
    from multitasknet import images

    decoded = []
    upright = images._upright_rgb
    monkeypatch.setattr(images, "_upright_rgb", lambda one: decoded.append(1) or upright(one))
    boxes = [Box(frames[0], (x, 40, x + 80, 120)) for x in range(0, 400, 40)]
    held = [one.decode() for one in open_crops(boxes)]
    assert len(decoded) == 1 and len(held) == len(boxes)
    whole = np.asarray(Image.open(frames[0]))
    for box, (pixels, divisor) in zip(boxes, held, strict=True):
        x1, y1, x2, y2 = map(int, box.xyxy)
        np.testing.assert_array_equal(pixels, whole[y1:y2, x1:x2])
        assert divisor == 1
    frame = Frame(frames[0])
    frame.crop(boxes[0].xyxy).decode()
    frame.crop(boxes[0].xyxy).decode()
    assert len(decoded) == 3  # nothing was held in between
    assert open_picture(frames[0], box=(600, 0, 640, 40)).shape == (40, 40)
    with pytest.raises(ImageError, match=r"#600,0,80,40: the box is not within the frame, 640 x"):
        open_picture(frames[0], box=(600, 0, 680, 40)).decode()


@pytest.mark.parametrize("kind", ["supervision", "ultralytics", "tensor", "array", "list"])
def test_crops_of_detections(kind: str) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (90, 120, 3), np.uint8)
    rows = np.array([[10, 20, 50, 60], [100.4, -5, 140, 40.6], [130, 5, 150, 50]], np.float32)
    tensor = SimpleNamespace(cpu=lambda: SimpleNamespace(numpy=lambda: rows))
    detections = {
        "supervision": SimpleNamespace(xyxy=rows, confidence=np.ones(3)),
        "ultralytics": SimpleNamespace(boxes=SimpleNamespace(xyxy=tensor), names={}),
        "tensor": tensor,
        "array": np.column_stack([rows, np.ones((3, 2))]),
        "list": rows.tolist(),
    }[kind]
    first, second, outside = crops(picture, detections)
    np.testing.assert_array_equal(first, picture[20:60, 10:50])
    np.testing.assert_array_equal(second, picture[0:41, 100:])
    assert not outside.size and crops(picture, []) == crops(picture, np.empty((0, 6))) == []
    for wrong in (None, SimpleNamespace(boxes=None), [1, 2, 3, 4], np.ones((2, 3))):
        with pytest.raises(TypeError, match=r"expected supervision.Detections"):
            crops(picture, wrong)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frames with vehicles pasted in, ``boxes.csv`` of them, and each as a crop of its own."""
    folder = tmp_path_factory.mktemp("street")
    (folder / "frames").mkdir()
    (folder / "crops").mkdir()
    rows, photos = ["image,x,y,w,h,track,label"], find_images(ASSETS / "demo" / "gallery")
    for place in range(2):
        frame, x = np.full((420, 900, 3), 90, np.uint8), 11
        for number, photo in enumerate(photos[3 * place : 3 * place + 3]):
            pixels = read_image(photo)[:380, :280]
            height, width = pixels.shape[:2]
            frame[17 : 17 + height, x : x + width] = pixels
            rows.append(f"{place}.png,{x},17,{width},{height},t{number},car")
            x += width + 7
        Image.fromarray(frame).save(folder / "frames" / f"{place}.png")
    write(folder / "boxes.csv", *rows)
    for row in rows[1:]:
        name, *numbers, track, _ = row.split(",")
        x, y, width, height = map(int, numbers)
        whole = Image.open(folder / "frames" / name)
        whole.crop((x, y, x + width, y + height)).save(folder / "crops" / f"{name[0]}-{track}.png")
    return folder


def printed(capsys: pytest.CaptureFixture[str], *line: object) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*map(str, line), "--json"]) == 0
    return [json.loads(one) for one in capsys.readouterr().out.splitlines()]


def test_boxes_are_predicted_and_posed_as_crops_cut_by_hand(
    street: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", ASSETS.parent)
    monkeypatch.setattr("multitasknet.cli.predict.make_predictor", lambda _: PixelPredictor())
    frames, boxes, cut = street / "frames", ["--boxes", street / "boxes.csv"], street / "crops"
    size = ["--size", "96"]
    found = printed(capsys, "predict", frames, *boxes, *size)
    wanted = printed(capsys, "predict", cut, *size)
    assert len(found) == len(wanted) == 6
    for one, other in zip(found, wanted, strict=True):
        (x1, y1, _, _), track = one.pop("box"), one.pop("track")
        place = one.pop("image"), f"{Path(other.pop('image')).stem}"
        assert place == (str(frames / f"{place[1][0]}.png"), f"{place[1][0]}-{track}")
        assert one.pop("label") == "car" and (x1, y1) > (10, 16)
        assert one == other
    table = tmp_path / "poses.json"
    poses = printed(capsys, "pose", frames, *boxes, *size, "--output", table, "--overlay", tmp_path)
    found = json.loads(table.read_text())
    assert [one["file_name"] for one in found["images"]] == ["0.png", "1.png"]
    assert {(one["width"], one["height"]) for one in found["images"]} == {(900, 420)}
    for one, shown in zip(found["annotations"], poses, strict=True):
        x, y, width, height = one["bbox"]
        assert shown["box"] == [x, y, x + width, y + height]
        in_frame = np.reshape(one["keypoints"], (36, 3))[:, :2]
        in_crop = np.array(shown["keypoints"])[:, :2]
        np.testing.assert_allclose(in_frame, in_crop + np.array([x, y]), atol=1e-3)
        drawn = f"{Path(shown['image']).stem}#{x},{y},{width},{height}.png"
        assert Image.open(tmp_path / drawn).size == (width, height)
    # What was written names the boxes again.
    assert [box.xyxy for box in boxes_of(find_images(frames), table)] == [
        tuple(shown["box"]) for shown in poses
    ]
    assert main(["pose", str(frames), *map(str, boxes), "--output", "poses.csv"]) == 2
    assert "expected a name in .json, which holds several" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["predict", str(frames), *map(str, boxes), "--labels", "labels.csv"])


@pytest.fixture
def store(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gallery:
    """What the command puts into a store."""
    use_in_commands(monkeypatch, PixelPredictor())
    line = ["gallery", "add", tmp_path / "city.lance", street / "frames"]
    assert main([*map(str, line), "--boxes", str(street / "boxes.csv")]) == 0
    return Gallery(tmp_path / "city.lance")


def test_rows_keep_frame_and_box_and_are_those_of_crops_cut_by_hand(store, street, capsys) -> None:
    columns = ["id", "image", "box", "track", "crops", "label", "width", "height", "embedding"]
    rows = sorted(store.rows(columns), key=lambda row: row["id"])
    predictor = PixelPredictor()
    wanted = predictor.embed(find_images(street / "crops"))
    assert len(rows) == len(wanted) == 6
    for row, vector in zip(rows, wanted, strict=True):
        x1, y1, x2, y2 = map(int, row["box"])
        assert row["id"] == f"{row['image']}#{x1},{y1},{x2 - x1},{y2 - y1}"
        assert (row["width"], row["height"]) == (x2 - x1, y2 - y1)
        assert (row["crops"], row["label"]) == (1, "car")
        np.testing.assert_array_equal(row["embedding"], vector.astype(np.float16))
    assert [row["track"] for row in rows] == ["t0", "t1", "t2"] * 2
    line = ["gallery", "add", store.path, street / "frames", "--boxes", street / "boxes.csv"]
    (report,) = printed(capsys, *line)
    assert (report["added"], report["unchanged"]) == (0, 6)
    # A manifest's columns are the same boxes, also as shares, and rows of other weights.
    shares = street / "shares.csv"
    scale = np.array([900, 420] * 2)
    corners = [",".join(map(repr, (row["box"] / scale).tolist())) for row in rows]
    lines = [f"{row['image']},{one},," for row, one in zip(rows, corners, strict=True)]
    write(shares, "image,X1,Y1,X2,Y2,track,camera", *lines)
    (report,) = printed(capsys, "gallery", "add", store.path, "--manifest", shares)
    assert (report["added"], report["unchanged"]) == (0, 6)
    assert {row["track"] for row in store.rows(["track"])} == {"t0", "t1", "t2"}
    other = PixelPredictor(weights="cd" * 32)
    assert {one.box for one in store.stale(other.origin)} == {tuple(row["box"]) for row in rows}
    with pytest.raises(DataError, match="keypoints of boxes are estimated"):
        with_labels(store.stale(other.origin), street / "labels.csv")


def test_crops_of_rows_are_written_with_a_manifest_that_gallery_add_reads(
    store: Gallery, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog
) -> None:
    target = tmp_path / "out"
    line = ["gallery", "export", str(store.path), str(target)]
    assert main([*line, "--where", "track <> 't1'"]) == 0
    assert f"4 crops in {target}" in capsys.readouterr().out
    kept = read_manifest(target / "crops.csv")
    assert [one.id for one in kept] == sorted(row.id for row in store.select("track <> 't1'"))
    assert {(one.track, one.more["label"]) for one in kept} == {("t0", "car"), ("t2", "car")}
    for entry in kept:
        wanted = store.row(entry.id).picture.decode()[0]
        found = read_image(entry.image)
        assert found.shape == wanted.shape and np.abs(found.astype(int) - wanted).mean() < 4
    with pytest.raises(OutputError, match="something is there already; give a new folder"):
        store.export(target)
    Path(kept[0].id.partition("#")[0]).rename(tmp_path / "gone.png")
    try:
        assert store.export(tmp_path / "rest") == 3 and "is left out" in caplog.text
    finally:
        (tmp_path / "gone.png").rename(kept[0].id.partition("#")[0])


def test_pages_and_tables_show_crops(store, street, tmp_path, capsys) -> None:
    query = find_images(street / "crops")[0]
    line = ["search", "--gallery", store.path, "--query", query, "--top", "1"]
    (found,) = printed(capsys, *line, "--output", tmp_path / "found.html")
    (match,) = found["matches"]
    assert match["box"][:2] == [11, 17] and match["distance"] < 1e-3
    assert (tmp_path / "found.html").read_text().count(thumbnail(read_image(query))) == 2
    boxes = ["--boxes", street / "boxes.csv"]
    line = ["group", street / "frames", *boxes, "--output", tmp_path, "--max-distance", "9"]
    assert main([*map(str, line)]) == 0
    assert re.search(r"^crops +6\nvehicles +1$", capsys.readouterr().out, re.M)
    header, first, *_ = (tmp_path / "vehicles.csv").read_text().splitlines()
    assert header == '"image","vehicle","x1","y1","x2","y2"' and first.endswith(",0,11,17,291,264")
    sheet = (tmp_path / "vehicles.html").read_text()
    assert all(thumbnail(read_image(one)) in sheet for one in find_images(street / "crops"))
    assert main(["group", store.path, *map(str, boxes), "--output", str(tmp_path)]) == 2
    assert "not a store's" in capsys.readouterr().err


def test_the_server_gives_a_crop_and_its_frame(store: Gallery, street: Path) -> None:
    row = store.row(next(store.rows(["id"]))["id"])
    with serving(Service(PixelPredictor(), store)) as served:
        (example, *_) = httpx.get(f"{served.url}/api/gallery").json()["examples"]
        shown = f"{served.url}/gallery/{example['id']}"
        row = store.row(served.service.crops.own(example["id"]))
        x1, y1, x2, y2 = example["box"]
        crop = Image.open(io.BytesIO(httpx.get(shown).content))
        assert tuple(example["box"]) == row.box and crop.size == (x2 - x1, y2 - y1)
        assert httpx.get(shown, params={"frame": "true"}).content == row.image.read_bytes()
        found = httpx.post(f"{served.url}/api/predict", params={"ids": example["id"]})
        assert found.json()["predictions"][0]["width"] == x2 - x1
        found = httpx.post(f"{served.url}/api/search", params={"ids": example["id"], "top": 9})
        assert len(found.json()["results"][0]["matches"]) == 5
