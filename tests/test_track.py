"""Videos: their frames, what is found in them, and tracks that are kept."""

from __future__ import annotations

import csv
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest
from stores import PixelPredictor

from multitasknet.cli import main
from multitasknet.errors import DataError, ImageError, OutputError
from multitasknet.gallery.gallery import Gallery
from multitasknet.images import read_image
from multitasknet.tracking import video as videos
from multitasknet.tracking.following import ByteTrack, GivenDetections, GivenTracks
from multitasknet.tracking.outputs import open_output
from multitasknet.tracking.run import track
from multitasknet.tracking.tracks import Seen, gather
from multitasknet.tracking.video import Frame, Video

av = pytest.importorskip("av")
pytest.importorskip("supervision")

START = datetime(2026, 11, 1, 8)
RATE = 10
SIZE = (160, 240)
# By its track: colour, first place, pixels a frame, first and last frame.
CARS = {
    "1": ((220, 30, 30), (0, 20), (6, 0), (1, 25)),
    "2": ((30, 30, 220), (190, 90), (-6, 0), (5, 30)),
    "7": ((40, 200, 40), (100, 60), (0, 0), (3, 28)),
}
SIDES = (48, 40)


def box_of(car: str, number: int) -> np.ndarray | None:
    _, place, way, (first, last) = CARS[car]
    if not first <= number <= last:
        return None
    corner = np.array(place) + np.array(way) * (number - first)
    return np.array([*corner, *(corner + SIDES)], np.float32)


def draw(number: int) -> np.ndarray:
    pixels = np.full((*SIZE, 3), 128, np.uint8)
    for car, (color, *_) in CARS.items():
        if (box := box_of(car, number)) is not None:
            x1, y1, x2, y2 = box.astype(int)
            pixels[y1:y2, x1:x2] = color
    return pixels


def write_video(path: Path, frames: list[np.ndarray], codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.gop_size = "yuv420p", 8
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def greys(count: int) -> list[np.ndarray]:
    """Frames whose brightness is four times their number, with a texture that takes bytes."""
    texture = np.random.default_rng(0).integers(0, 30, (96, 128, 1))
    return [
        np.repeat(np.roll(texture, 3 * number, 1) + 4 * number, 3, 2).astype(np.uint8)
        for number in range(1, count + 1)
    ]


def number_in(frame: Frame) -> int:
    return round((float(frame.pixels.mean()) - 14.5) / 4)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(
        tmp_path_factory.mktemp("film") / "north.mp4", [draw(number) for number in range(1, 31)]
    )


@pytest.fixture(scope="module")
def boxes(film: Path) -> Path:
    lines = [
        f"{number},{car},{box[0]},{box[1]},{box[2] - box[0]},{box[3] - box[1]},1,-1,-1,-1"
        for number in range(1, 31)
        for car in CARS
        if (box := box_of(car, number)) is not None
    ]
    path = film.with_suffix(".txt")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_frames_have_numbers_and_times(film: Path) -> None:
    video = Video(str(film))
    frames = list(video.frames(START))
    assert (video.total, video.rate, video.damaged) == (30, RATE, 0)
    assert [frame.number for frame in frames] == list(range(1, 31))
    assert [frame.time for frame in frames] == [
        START + timedelta(seconds=place / RATE) for place in range(30)
    ]
    assert video.end == START + timedelta(seconds=3)
    assert np.abs(frames[9].pixels.astype(int) - draw(10)).mean() < 3


def test_a_turned_video_is_upright(film: Path, tmp_path: Path) -> None:
    content = film.read_bytes()
    one, zero, turned = (
        (1 << 16).to_bytes(4, "big"),
        bytes(4),
        (-1 << 16).to_bytes(4, "big", signed=True),
    )
    upright = one + zero * 3 + one + zero * 3 + (1 << 30).to_bytes(4, "big")
    track_header = content.index(upright, content.index(b"tkhd"))
    quarter = zero + one + zero + turned + zero * 4 + (1 << 30).to_bytes(4, "big")
    path = tmp_path / "turned.mp4"
    path.write_bytes(content[:track_header] + quarter + content[track_header + len(quarter) :])
    frame = next(iter(Video(str(path)).frames(START)))
    assert frame is not None and frame.pixels.shape == (SIZE[1], SIZE[0], 3)
    # A quarter clockwise, as a telephone states that was held upright.
    assert np.abs(frame.pixels.astype(int) - np.rot90(draw(1), -1)).mean() < 3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_damaged_file_loses_its_damaged_part(tmp_path: Path, suffix: str, caplog) -> None:
    path = write_video(tmp_path / f"film{suffix}", greys(48))
    content = bytearray(path.read_bytes())
    middle, noise = len(content) // 2, np.random.default_rng(1).bytes(len(content) // 30)
    content[middle : middle + len(noise)] = noise
    path.write_bytes(content)
    video = Video(str(path))
    frames = list(video.frames(START))
    assert 20 < len(frames) < 48 and frames[-1].number == 48
    assert [number_in(frame) for frame in frames] == [frame.number for frame in frames]
    assert video.damaged == 48 - len(frames)
    assert f"is damaged: {len(frames)} of 48 frames could be read" in caplog.text


def test_a_file_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path, caplog) -> None:
    path = write_video(tmp_path / "film.mkv", greys(48))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video = Video(str(path))
    frames = list(video.frames(START))
    assert 10 < len(frames) < 40 and video.damaged == 48 - len(frames)
    assert f"{len(frames)} of 48 frames could be read" in caplog.text


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.mp4: there is no such file"):
        Video(str(tmp_path / "gone.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ImageError, match=r"text\.mp4: the video cannot be read"):
        Video(str(tmp_path / "text.mp4"))


_ENCODED = {"tune": "zerolatency", "crf": "10", "x264-params": "repeat-headers=1:sliced-threads=0"}
# What a camera answers: headers, and what follows them.
_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:0\r\n"
)
_ANSWERS = {
    "OPTIONS": ("Public: DESCRIBE, SETUP, PLAY\r\n", ""),
    "DESCRIBE": (f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n", _SDP),
    "SETUP": ("Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n", ""),
}


@contextmanager
def camera(parts: list[list[bytes]]) -> Iterator[tuple[str, list[int]]]:
    """A camera's address, which sends a part for each connection, and then none; who asked."""
    asked: list[int] = []

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            asked.append(len(asked))
            method, packets = "", parts[asked[-1]] if len(asked) <= len(parts) else []
            while packets and method != "PLAY":
                request = list(iter(self.rfile.readline, b"\r\n"))
                method = request[0].split()[0].decode()
                (number,) = (one.decode() for one in request if one.startswith(b"CSeq"))
                headers, body = _ANSWERS.get(method, ("Session: 1\r\n", ""))
                self.wfile.write(f"RTSP/1.0 200 OK\r\n{number}{headers}\r\n{body}".encode())
            for packet in packets:
                self.wfile.write(b"$\0" + len(packet).to_bytes(2, "big") + packet)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/stream", asked
        server.shutdown()


def packets_of(frames: list[np.ndarray]) -> list[bytes]:
    """The RTP packets of frames, as H.264."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        address = f"rtp://127.0.0.1:{receiver.getsockname()[1]}?pkt_size=1400"
        sent: list[bytes] = []
        with av.open(address, "w", format="rtp") as container:
            stream = container.add_stream("libx264", rate=RATE, options=_ENCODED)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt, stream.gop_size = "yuv420p", 8
            pictures = [av.VideoFrame.from_ndarray(pixels, format="rgb24") for pixels in frames]
            for encoded in (one for picture in [*pictures, None] for one in stream.encode(picture)):
                container.mux(encoded)
                sent.append(receiver.recv(2000))
                while not sent[-1][1] & 0x80:  # the mark of a picture's last
                    sent.append(receiver.recv(2000))
        return sent


def test_a_camera_is_asked_again_after_each_break(monkeypatch, caplog) -> None:
    monkeypatch.setattr(videos, "_FIRST_WAIT", 0.05)
    part = packets_of(greys(48))
    with camera([part, part, part]) as (address, asked), Video(address) as video:
        assert video.is_live and video.total is None
        frames = video.frames()
        found: list[Frame] = []
        while len(asked) < 4 or not found or video.dropped + len(found) < 96:
            found += filter(None, islice(frames, 1))
        while (frame := next(frames)) is not None:
            found.append(frame)
    assert [frame.number for frame in found] == list(range(1, len(found) + 1))
    assert "sends no more; asked again in" in caplog.text
    assert datetime.now(timezone.utc).replace(tzinfo=None) - found[-1].time < timedelta(minutes=1)


def test_a_queue_that_nobody_empties_keeps_the_newest_frames() -> None:
    part = packets_of(greys(48))
    with camera([part]) as (address, asked), Video(address) as video:
        frames = video.frames()
        assert next(iter(filter(None, frames))).number == 1
        while len(asked) < 2:  # until the first connection has given all it has
            time.sleep(0.01)
        rest = list(iter(lambda: next(frames), None))
    assert len(rest) <= videos.WAITING and 40 < video.dropped + len(rest) + 1 <= 48
    assert number_in(rest[0]) > 48 - 2 * videos.WAITING


def follow(
    film: Path, output: Path, follower: Callable[[Video], Any], predictor: Any, **options: Any
) -> Any:
    return track(
        [Video(str(film))],
        follower,
        predictor,
        open_output(str(output), predictor),
        camera="north",
        start=START,
        progress=False,
        **options,
    )


def rows_of(store: Path) -> list[dict[str, Any]]:
    return sorted(Gallery(store).table.to_arrow().to_pylist(), key=lambda row: row["id"])


def test_tracks_become_rows_of_a_gallery(film: Path, boxes: Path, tmp_path: Path) -> None:
    store = tmp_path / "city.lance"
    given, predictor = GivenTracks(boxes), PixelPredictor()
    report = follow(film, store, lambda _: given, predictor)
    assert (report.frames, report.tracks, report.unchanged) == (30, 3, 0)
    rows = rows_of(store)
    assert [row["id"] for row in rows] == [f"north/20261101T080000-{car}" for car in CARS]
    for row, (color, _, way, (first, last)) in zip(rows, CARS.values(), strict=True):
        assert row["track"] == row["id"].removeprefix("north/") and row["camera"] == "north"
        assert row["time"] == row["first"] == START + timedelta(seconds=(first - 1) / RATE)
        assert row["last"] == START + timedelta(seconds=(last - 1) / RATE)
        assert row["heading"] == {(6, 0): 0, (-6, 0): 180, (0, 0): None}[way]
        image = Path(row["image"])
        assert image == tmp_path / "city-crops" / "north" / f"{row['track']}.jpg"
        assert row["box"] is None and row["crops"] == 5
        crop = read_image(image)
        assert crop.shape == (row["height"], row["width"], 3) == (*SIDES[::-1], 3)
        assert np.abs(crop.reshape(-1, 3).mean(0) - color).max() < 12
        far = [
            np.linalg.norm(
                np.float32(row["embedding"]) - predictor.one(np.uint8([[one]])).embedding
            )
            for one in (color, (128, 128, 128))
        ]
        assert far[0] < 0.2 * far[1]
        table = list(csv.DictReader(image.with_suffix(".csv").open()))
        assert [int(line["frame"]) for line in table] == list(range(first, last + 1))
    # The shipped commands know such rows: the picture's own file is found by its bytes.
    with Path(rows[0]["image"]).open("rb") as file:
        import hashlib

        digest = hashlib.sha256(file.read()).hexdigest()
    assert Gallery(store).find([digest])[digest].id == rows[0]["id"]


def test_tracks_that_are_embedded_again_stay_tracks(
    film: Path, boxes: Path, tmp_path: Path
) -> None:
    store = tmp_path / "city.lance"
    given = GivenTracks(boxes)
    follow(film, store, lambda _: given, PixelPredictor())
    before, other = rows_of(store), PixelPredictor(weights="cd" * 32)
    gallery = Gallery(store)
    gallery.add(other, gallery.stale(other.origin), reembed=True, progress=False)
    kept = ("id", "camera", "time", "track", "first", "last", "heading")
    after = rows_of(store)
    assert [[row[name] for name in kept] for row in after] == [
        [row[name] for name in kept] for row in before
    ]
    assert {row["crops"] for row in after} == {1}  # as its other crops are no rows


@pytest.mark.parametrize("place", ["city.lance", "crops"])
def test_an_interrupted_call_keeps_whole_tracks_and_goes_on(
    film: Path, boxes: Path, tmp_path: Path, monkeypatch, place: str, caplog
) -> None:
    given, predictor = GivenTracks(boxes), PixelPredictor()
    whole, output = tmp_path / "whole.lance", tmp_path / place
    follow(film, whole, lambda _: given, PixelPredictor())
    stream = PixelPredictor.stream

    def stopped(self: Any, images: Any, **options: Any) -> Any:
        if self.embedded:
            raise KeyboardInterrupt
        return stream(self, images, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PixelPredictor, "stream", stopped)
        follow(film, output, lambda _: given, predictor)
    assert "1 tracks were kept; the same command goes on" in caplog.text
    once = predictor.embedded
    report = follow(film, output, lambda _: given, predictor)
    assert (report.tracks, report.unchanged, predictor.embedded) == (2, 1, 3 * once)
    if place == "crops":
        table = list(csv.DictReader((output / "tracks.csv").open()))
        assert sorted(row["track"] for row in table) == [row["track"] for row in rows_of(whole)]
        assert len(list(output.rglob("*.jpg"))) == 15
        assert all((output / row["image"]).is_file() for row in table)
        return
    for ours, theirs in zip(rows_of(output), rows_of(whole), strict=True):
        differing = {name for name in ours if ours[name] != theirs[name]}
        assert differing == {"image"}


def test_boxes_are_followed(film: Path, boxes: Path, tmp_path: Path) -> None:
    detections = GivenDetections(boxes)
    report = follow(
        film, tmp_path / "crops", lambda video: ByteTrack(detections, video.rate), PixelPredictor()
    )
    assert report.tracks == 3
    table = list(csv.DictReader((tmp_path / "crops" / "tracks.csv").open()))
    assert sorted(row["heading"] for row in table) == ["", "0.0", "180.0"]


def test_the_best_crops_are_whole_near_unhidden_and_of_different_views() -> None:
    places = {
        # Cut off by the frame's border; small; hidden by a nearer one; two alike; one elsewhere.
        1: (0, 50, 60, 110),
        2: (20, 50, 56, 86),
        3: (60, 50, 120, 110),
        4: (100, 50, 160, 110),
        5: (101, 50, 161, 110),
        6: (220, 50, 280, 110),
    }
    frames = []
    for number, box in places.items():
        seen = [Seen("1", np.float32(box), 1.0)]
        if number == 3:
            seen.append(Seen("2", np.float32([50, 60, 130, 130]), 1.0))
        pixels = np.full((200, 300, 3), number, np.uint8)
        frames.append((Frame(number, START, pixels), seen))
    kept = {}
    for crops in (-1, 0):  # two and three, as three more are kept than asked for
        (one, *_) = gather(iter(frames), camera="north", crops=crops, side=60)
        kept[crops] = sorted(int(crop.pixels[0, 0, 0]) for crop in one.crops)
    assert kept == {-1: [4, 6], 0: [2, 4, 6]}


def test_a_vehicle_that_comes_back_is_another_track() -> None:
    frames = [
        (Frame(number, START + timedelta(seconds=number), np.zeros((99, 99, 3), np.uint8)), seen)
        for number, seen in enumerate(
            [
                [Seen("1", np.float32([9, 9, 60, 60]), 1.0)],
                [],
                [],
                [Seen("1", np.float32([9, 9, 60, 60]), 1.0)],
            ]
        )
    ]
    found = list(gather(iter(frames), camera="north", crops=1, side=60))
    assert [one.name for one in found] == ["20261101T080000-1", "20261101T080003-1"]


def test_crops_that_are_too_small_make_no_track(film: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.txt"
    path.write_text("".join(f"{number},1,50,50,60,31,1,-1,-1,-1\n" for number in range(1, 20)))
    given = GivenTracks(path)
    report = follow(film, tmp_path / "crops", lambda _: given, PixelPredictor())
    assert (report.tracks, report.too_small) == (0, 1)


def test_tracks_without_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "det.txt"
    path.write_text("1,-1,50,50,60,60,0.5,-1,-1,-1\n")
    with pytest.raises(DataError, match="are of no track; use --boxes"):
        GivenTracks(path)


def test_a_camera_has_a_name_for_a_folder(film: Path, boxes: Path, tmp_path: Path) -> None:
    given, predictor = GivenTracks(boxes), PixelPredictor()
    for name in ("", "..", "a/b", " a"):
        with pytest.raises(OutputError, match="expected a name that a folder can have"):
            track(
                [], lambda _: given, predictor, open_output(str(tmp_path), predictor), camera=name
            )


def test_videos_of_several_cameras_are_tracked_in_one_call(
    film: Path, boxes: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("multitasknet.cli.track.make_predictor", lambda _: PixelPredictor())
    table = tmp_path / "cameras.csv"
    table.write_text("name,start,latitude\nnorth,2026-11-01T08:00:00Z,1\neast,2026-11-01T09:00,2\n")
    named = [tmp_path / "north" / "vdo.mp4", tmp_path / "films" / "east.mp4"]
    for video in named:
        (video.parent / "gt").mkdir(parents=True)
        video.write_bytes(film.read_bytes())
        (video.parent / "gt" / "gt.txt").write_bytes(boxes.read_bytes())
    store = tmp_path / "city.lance"
    command = ["track", *map(str, named), "--cameras", str(table), "--tracks", "gt/gt.txt"]
    command += ["--output", str(store)]
    assert main(command) == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert said[0] == ["north", "east"] and ["tracks", "3", "3"] in said
    rows = Gallery(store).rows(["camera", "first"])
    assert {(row["camera"], row["first"].hour) for row in rows} == {("north", 8), ("east", 9)}
    assert main([*command, "--json"]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["camera"], one["unchanged"]) for one in reports] == [("north", 3), ("east", 3)]


def test_a_video_whose_camera_or_boxes_are_not_known_is_refused(
    film: Path, boxes: Path, tmp_path: Path, capsys
) -> None:
    table = tmp_path / "cameras.csv"
    store = ["--output", str(tmp_path / "city.lance")]
    for text, named in (
        ("name,start\nsouth,2026-11-01T08:00:00Z\n", "no camera is named north or film0"),
        ("name,start\nnorth,\n", "start is empty"),
        ("name,start\nnorth,soon\n", "cameras.csv:2"),
        ("name\nnorth\n", "expected name,start"),
    ):
        table.write_text(text)
        command = ["track", str(film), "--cameras", str(table), "--tracks", str(boxes), *store]
        assert main(command) == 2
        assert named in capsys.readouterr().err
    command = ["track", str(film), str(film), "--camera", "north", "--start", "2026-11-01T08:00:00"]
    with pytest.raises(SystemExit):
        main([*command, "--boxes", str(boxes), *store])
    assert "is of one video; name one beside each video" in capsys.readouterr().err
