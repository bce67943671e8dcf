"""Videos: their frames, what is found in them, and tracks that are kept."""

from __future__ import annotations

import csv
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import numpy as np
import psutil
import pytest
from stores import PixelPredictor

from multitasknet.cli import main
from multitasknet.errors import DataError, ImageError, OutputError
from multitasknet.gallery.gallery import Gallery
from multitasknet.images import read_image
from multitasknet.tracking import run
from multitasknet.tracking import video as videos
from multitasknet.tracking.following import ByteTrack, GivenDetections, GivenTracks
from multitasknet.tracking.outputs import open_output
from multitasknet.tracking.run import TrackReport, track
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


def write_video(
    path: Path, frames: list[np.ndarray], rate: int = RATE, gaps: Sequence[int] = ()
) -> Path:
    """A video; with gaps each frame is shown for so many of the rate's times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.gop_size = "yuv420p", 8
        times = np.cumsum([0, *(gaps or [1] * len(frames))])
        for pixels, time_ in zip(frames, times.tolist(), strict=False):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts = time_
            container.mux(stream.encode(picture))
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


def write_boxes(path: Path, first: int = 1, confidence: str = "1") -> Path:
    """The cars in MOT's format, of which the first frame has that number."""
    lines = [
        f"{number - 1 + first},{car},{x1},{y1},{x2 - x1},{y2 - y1},{confidence},-1,-1,-1\n"
        for number in range(1, 31)
        for car in CARS
        if (box := box_of(car, number)) is not None
        for x1, y1, x2, y2 in [box.tolist()]
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def boxes(film: Path) -> Path:
    return write_boxes(film.with_suffix(".txt"))


def frames_of(path: Path) -> tuple[Video, list[Frame]]:
    video = Video(str(path))
    return video, [one for one in video.frames(START) if one]


def test_frames_have_numbers_and_times(film: Path, tmp_path: Path) -> None:
    video = Video(str(film))
    # Hundreds may wait for their turn.
    assert str(film) not in [one.path for one in psutil.Process().open_files()]
    frames = list(video.frames(START))
    assert (video.total, video.rate, video.damaged) == (30, RATE, 0)
    assert [frame.number for frame in frames] == list(range(1, 31))
    assert [frame.time for frame in frames] == [
        START + timedelta(seconds=place / RATE) for place in range(30)
    ]
    assert video.end == START + timedelta(seconds=3)
    assert np.abs(frames[9].pixels.astype(int) - draw(10)).mean() < 3
    # A rate that no camera has is not believed.
    video, found = frames_of(write_video(tmp_path / "film.mkv", greys(4), rate=1000))
    assert video.rate == 25
    assert [one.time for one in found] == [START + timedelta(milliseconds=ms) for ms in range(4)]


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
    frame = frames_of(path)[1][0]
    # A quarter clockwise, as a telephone states that was held upright.
    assert np.abs(frame.pixels.astype(int) - np.rot90(draw(1), -1)).mean() < 3


@pytest.mark.parametrize(("suffix", "is_cut"), [(".mp4", False), (".mkv", False), (".mkv", True)])
def test_a_damaged_file_loses_its_damaged_part(tmp_path, suffix, is_cut, caplog) -> None:
    path = write_video(tmp_path / f"film{suffix}", greys(48))
    content = bytearray(path.read_bytes())
    middle, noise = len(content) // 2, np.random.default_rng(1).bytes(len(content) // 30)
    content[middle : None if is_cut else middle + len(noise)] = b"" if is_cut else noise
    path.write_bytes(content)
    video, frames = frames_of(path)
    assert 10 < len(frames) < 48 and (frames[-1].number < 40 if is_cut else 48)
    assert [number_in(frame) for frame in frames] == [frame.number for frame in frames]
    assert video.damaged == 48 - len(frames)
    assert video.end == START + timedelta(seconds=4.8)  # then the next file begins
    assert f"is damaged: {len(frames)} of 48 frames could be read" in caplog.text


def test_files_that_were_joined_go_on_in_time(tmp_path: Path, caplog) -> None:
    part = write_video(tmp_path / "part.ts", greys(20))
    (tmp_path / "both.ts").write_bytes(2 * part.read_bytes())
    video, frames = frames_of(tmp_path / "both.ts")
    assert [one.number for one in frames] == list(range(1, 41)) and video.damaged == 0
    times = [(one.time - START).total_seconds() for one in frames]
    assert times == pytest.approx([place / RATE for place in range(40)])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_frames_of_a_rate_that_varies_are_counted_and_none_is_missing(
    tmp_path: Path, suffix: str, caplog
) -> None:
    gaps = [1, 5, 1, 1, 9] * 8
    path = write_video(tmp_path / f"film{suffix}", greys(40), gaps=gaps)
    video, frames = frames_of(path)
    assert [one.number for one in frames] == list(range(1, 41))
    assert video.damaged == 0 and not caplog.text
    last = (frames[-1].time - START).total_seconds()
    assert last == pytest.approx(sum(gaps[:-1]) / RATE, abs=0.5)  # AVI fills the first gap up


def test_what_was_cut_off_without_a_new_encoding_is_not_damaged(tmp_path: Path, caplog) -> None:
    whole = write_video(tmp_path / "whole.mkv", greys(40))
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                packet.pts -= round(1 / packet.time_base)
                packet.dts -= round(1 / packet.time_base)
                target.mux(packet)
    video, frames = frames_of(tmp_path / "cut.mp4")
    assert [number_in(frame) for frame in frames] == list(range(11, 41))
    assert [frame.number for frame in frames] == list(range(1, 31))
    assert video.damaged == 0 and not caplog.text


def test_what_is_no_video_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.mp4: there is no such file"):
        Video(str(tmp_path / "gone.mp4"))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ImageError, match=r"text\.mp4: the video cannot be read"):
        Video(str(tmp_path / "text.mp4"))
    for scheme in ("rtsp", "http"):
        with pytest.raises(ImageError, match=rf"^{scheme}://\*\*\*@127\.0\.0\.1:9/x: the video"):
            Video(f"{scheme}://admin:secret@127.0.0.1:9/x")


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
        threading.Thread(target=server.serve_forever, daemon=True).start()
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
    film: Path, output: Path, follower: Callable[[Video], Any], predictor: Any = None, **more: Any
) -> TrackReport:
    predictor = predictor or PixelPredictor()
    settings = {"camera": "north", "start": START, "progress": False} | more
    return track(
        [Video(str(film))], follower, predictor, open_output(str(output), predictor), **settings
    )


def table_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "tracks.csv").open()))


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
    digest = hashlib.sha256(Path(rows[0]["image"]).read_bytes()).hexdigest()
    assert Gallery(store).find([digest])[digest].id == rows[0]["id"]


def test_tracks_that_are_embedded_again_stay_tracks(film, boxes, tmp_path) -> None:
    store = tmp_path / "city.lance"
    follow(film, store, lambda _: GivenTracks(boxes))
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
    follow(film, whole, lambda _: given)
    stream, threads = PixelPredictor.stream, threading.active_count()

    def stopped(self: Any, images: Any, **options: Any) -> Any:
        if self.embedded:
            raise KeyboardInterrupt
        return stream(self, images, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PixelPredictor, "stream", stopped)
        follow(film, output, lambda _: given, predictor)
    assert "1 tracks were kept; the same command goes on" in caplog.text
    assert threading.active_count() <= threads  # none is left that reads or detects
    once = predictor.embedded
    report = follow(film, output, lambda _: given, predictor)
    assert (report.tracks, report.unchanged, predictor.embedded) == (2, 1, 3 * once)
    if place == "crops":
        table = table_of(output)
        assert sorted(row["track"] for row in table) == [row["track"] for row in rows_of(whole)]
        assert len(list(output.rglob("*.jpg"))) == 15
        assert all((output / row["image"]).is_file() for row in table)
        return
    for ours, theirs in zip(rows_of(output), rows_of(whole), strict=True):
        differing = {name for name in ours if ours[name] != theirs[name]}
        assert differing == {"image"}


@pytest.mark.parametrize(("first", "confidence"), [(1, "1"), (0, "0.9"), (1, "-1")])
def test_boxes_are_followed_from_either_number_and_without_confidences(
    film: Path, tmp_path: Path, first: int, confidence: str
) -> None:
    file = write_boxes(tmp_path / "det.txt", first, confidence)
    detections = GivenDetections(file)
    report = follow(film, tmp_path / "a", lambda video: ByteTrack(detections, video.rate))
    assert report.tracks == 3
    assert sorted(row["heading"] for row in table_of(tmp_path / "a")) == ["", "0.0", "180.0"]
    follow(film, tmp_path / "b", lambda _: GivenTracks(file))
    lasts = {row["track"][-1]: row["last"] for row in table_of(tmp_path / "b")}
    assert lasts["1"] == (START + timedelta(seconds=2.4)).isoformat()  # its frame 25
    # KITTI's frames count from 0.
    file.write_text("4 7 Car 0 0 -1 9 9 60 60 -1 -1 -1 -1 -1 -1 -1\n")
    assert [*GivenDetections(file).frames] == [5]


@pytest.mark.parametrize("name", ["det.txt", "det.csv", "det.json"])
def test_a_video_may_show_no_vehicle(film: Path, tmp_path: Path, name: str) -> None:
    empty = {"det.txt": "", "det.csv": "frame,x1,y1,x2,y2\n", "det.json": "[]"}
    (tmp_path / name).write_text(empty[name])
    detections = GivenDetections(tmp_path / name)
    report = follow(film, tmp_path / "a", lambda video: ByteTrack(detections, video.rate))
    assert (report.frames, report.tracks, report.too_small) == (30, 0, 0)


def test_two_processes_may_write_into_one_folder(film: Path, boxes: Path, tmp_path: Path) -> None:
    given, predictor = GivenTracks(boxes), PixelPredictor()
    outputs = [open_output(str(tmp_path / "crops"), predictor) for _ in range(2)]
    for camera, output in zip(["north", "east"], outputs, strict=True):
        video, settings = Video(str(film)), {"camera": camera, "start": START, "progress": False}
        track([video], lambda _: given, predictor, output, **settings)
    assert [row["camera"] for row in table_of(tmp_path / "crops")] == ["north"] * 3 + ["east"] * 3


def test_an_interruption_while_tracks_are_written_writes_none_twice(
    film: Path, boxes: Path, tmp_path: Path, monkeypatch
) -> None:
    given, predictor = GivenTracks(boxes), PixelPredictor()
    monkeypatch.setattr(run, "_BATCH", 1)
    output = open_output(str(tmp_path), predictor)
    add = type(output).add

    def stopped(*given: Any) -> None:
        monkeypatch.setattr(type(output), "add", add)
        add(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(output), "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        track([Video(str(film))], lambda _: given, predictor, output, camera="north", start=START)
    names = [row["track"] for row in table_of(tmp_path)]
    assert len(names) == len(set(names)) > 0


def test_a_track_is_kept_within_a_minute_though_no_other_ends(film, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(run, "_LATEST", 0.0)  # the minute
    kept: list[int] = []

    class Once:
        """Sees a vehicle in the first frame alone."""

        patience = timedelta(0)

        def __call__(self, frame: Frame) -> list[Seen]:
            if frame.number == 20:
                kept.append(len(table_of(tmp_path)))
            return [Seen("1", np.float32([9, 9, 60, 60]), 1.0)] if frame.number == 1 else []

    follow(film, tmp_path, lambda _: Once())
    assert kept == [1]


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
        (one, *_) = gather(iter(frames), crops=crops, side=60)
        kept[crops] = sorted(int(crop.pixels[0, 0, 0]) for crop in one.crops)
    assert kept == {-1: [4, 6], 0: [2, 4, 6]}


@pytest.mark.parametrize(
    ("patience", "names"),
    [
        (timedelta(seconds=1), ["20261101T080000-1", "20261101T080003-1"]),
        (timedelta(minutes=1), ["20261101T080000-1"]),
    ],
)
def test_a_vehicle_that_comes_back_late_is_another_track(patience, names) -> None:
    seen = [Seen("1", np.float32([9, 9, 60, 60]), 1.0)]
    frames = [
        (Frame(number, START + timedelta(seconds=number), np.zeros((99, 99, 3), np.uint8)), there)
        for number, there in enumerate([seen, [], [], seen])
    ]
    found = list(gather(iter(frames), crops=1, side=60, patience=patience))
    assert [one.name for one in found] == names


def test_boxes_below_32_pixels_and_beyond_the_frame_make_no_track(film, tmp_path) -> None:
    places = {1: "50,50,60,31", 2: "900,900,60,60", 3: "210,-20,60,60"}
    path = tmp_path / "odd.txt"
    rows = (f"{number},{car},{box},1\n" for number in range(1, 20) for car, box in places.items())
    path.write_text("".join(rows))
    report = follow(film, tmp_path / "crops", lambda _: GivenTracks(path))
    assert (report.tracks, report.too_small) == (0, 3)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("1,-1,50,50,60,60,0.5,-1,-1,-1", "are of no track; use --boxes"),
        (
            "frame,track,x,y,w,h\n1,a/../b,5,5,60,60",
            "a track of frame 1 is 'a/../b'; expected a na",
        ),
        ("7,1,50,50,60,60,57.3", "a confidence of frame 7 is 57.3; expected 0 to 1"),
        ("image,track,x,y,w,h\na.jpg,1,5,5,60,60", "the box of a.jpg is of no frame with a number"),
    ],
)
def test_tracks_that_cannot_be_kept_are_refused(tmp_path: Path, row: str, named: str) -> None:
    (tmp_path / "gt.txt").write_text(f"{row}\n")
    with pytest.raises(DataError, match=named):
        GivenTracks(tmp_path / "gt.txt")


def test_a_camera_has_a_name_for_a_folder(film: Path, boxes: Path, tmp_path: Path) -> None:
    given, predictor = GivenTracks(boxes), PixelPredictor()
    for name in ("", "..", "a/b", " a", "a\n", "a" * 201):
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
    for other, named in (
        (str(film), "is of one video"),
        ("rtsp://x/y", "has no end; give it alone"),
    ):
        command = ["track", str(film), other, "--camera", "north", "--start", "2026-11-01T08:00:00"]
        with pytest.raises(SystemExit):
            main([*command, "--boxes", str(boxes), *store])
        assert named in capsys.readouterr().err
