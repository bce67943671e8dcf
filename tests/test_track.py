"""Videos: their frames, what is found in them, and tracks that are kept."""

from __future__ import annotations

import csv
import json
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from itertools import islice
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import numpy as np
import pytest
from stores import PixelPredictor

from multitasknet.cli import main
from multitasknet.errors import DataError, ImageError, OutputError
from multitasknet.gallery.gallery import Gallery
from multitasknet.images import read_image
from multitasknet.tracking import run, tracks
from multitasknet.tracking import video as videos
from multitasknet.tracking.following import ByteTrack, GivenDetections, GivenTracks
from multitasknet.tracking.outputs import FolderOutput, open_output
from multitasknet.tracking.run import TrackReport, track
from multitasknet.tracking.tracks import Seen, gather
from multitasknet.tracking.video import Video, VideoFrame

av = pytest.importorskip("av")
pytest.importorskip("supervision")

START, RATE = datetime(2026, 11, 1, 8), 10
# By its track: colour, first place, pixels a frame, first and last frame, heading.
CARS = {
    "1": ((220, 30, 30), (0, 10), (5, 0), (1, 25), 0),
    "2": ((30, 30, 220), (190, 115), (0, -4), (5, 30), 90),
    "7": ((40, 200, 40), (100, 90), (0, 0), (3, 28), None),
}
WIDTH, HEIGHT = 48, 40


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def places_in(number: int) -> dict[str, tuple[int, int]]:
    """x and y of the cars in a frame."""
    return {
        car: (x + right * (number - first), y + down * (number - first))
        for car, (_, (x, y), (right, down), (first, last), _) in CARS.items()
        if first <= number <= last
    }


def draw(number: int) -> np.ndarray:
    pixels = np.full((160, 240, 3), 128, np.uint8)
    for car, (x, y) in places_in(number).items():
        pixels[y : y + HEIGHT, x : x + WIDTH] = CARS[car][0]
    return pixels


def greys(count: int) -> list[np.ndarray]:
    """Frames whose brightness is four times their number, with a texture that takes bytes."""
    texture = np.random.default_rng(0).integers(0, 30, (96, 128, 1))
    rolled = (np.roll(texture, 3 * number, 1) + 4 * number for number in range(1, count + 1))
    return [np.repeat(pixels, 3, 2).astype(np.uint8) for pixels in rolled]


def number_in(frame: VideoFrame) -> int:
    return round((float(frame.pixels.mean()) - 14.5) / 4)


def write_video(
    path: Path, frames: list[np.ndarray], rate: int = RATE, times: Sequence[int] = ()
) -> Path:
    """A video whose frames are shown at these ticks of the rate; default is one a tick."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "10"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.gop_size = "yuv420p", 8
        for pixels, tick in zip(frames, times or range(len(frames)), strict=True):
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            picture.pts = int(tick)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def frames_of(path: Path) -> tuple[Video, list[VideoFrame]]:
    video = Video(str(path))
    return video, [one for one in video.frames(START) if one]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("film") / "north.mp4", [*map(draw, range(1, 31))])


def write_boxes(path: Path, first: int = 1, confidence: str = "1") -> Path:
    """The cars in MOT's format, of which the first frame has that number."""
    lines = [
        f"{number - 1 + first},{car},{x},{y},{WIDTH},{HEIGHT},{confidence},-1,-1,-1\n"
        for number in range(1, 31)
        for car, (x, y) in places_in(number).items()
    ]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def boxes(film: Path) -> Path:
    return write_boxes(film.with_suffix(".txt"))


def test_frames_have_numbers_and_times(film, tmp_path) -> None:
    video, frames = frames_of(film)
    assert (video.total, video.rate, video.damaged) == (30, RATE, 0)
    assert [(one.number, one.time) for one in frames] == [(n + 1, after(n / 10)) for n in range(30)]
    assert video.end == after(3)
    assert np.abs(frames[9].pixels.astype(int) - draw(10)).mean() < 3
    # A rate that no camera has is not believed.
    video, frames = frames_of(write_video(tmp_path / "film.mkv", greys(4), rate=1000))
    assert video.rate == 25
    assert [one.time for one in frames] == [after(n / 1000) for n in range(4)]


def test_a_turned_video_is_upright(film, tmp_path) -> None:
    one = 1 << 16
    upright = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    turned = film.read_bytes().replace(upright, quarter, 1)
    (tmp_path / "turned.mp4").write_bytes(turned)
    frame = frames_of(tmp_path / "turned.mp4")[1][0]
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
    assert 10 < len(frames) < 48 and (frames[-1].number == 48) != is_cut
    assert [number_in(frame) for frame in frames] == [frame.number for frame in frames]
    assert video.damaged == 48 - len(frames)
    assert video.end == after(4.8)  # then the next file begins
    assert f"is damaged: {len(frames)} of 48 frames could be read" in caplog.text


def test_files_that_were_joined_go_on_in_time(tmp_path) -> None:
    part = write_video(tmp_path / "part.ts", greys(20))
    (tmp_path / "both.ts").write_bytes(2 * part.read_bytes())
    video, frames = frames_of(tmp_path / "both.ts")
    assert [one.number for one in frames] == list(range(1, 41)) and video.damaged == 0
    times = [(one.time - START).total_seconds() for one in frames]
    assert times == pytest.approx([place / RATE for place in range(40)])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_frames_of_a_rate_that_varies_are_counted_and_none_is_missing(tmp_path, suffix) -> None:
    times = [0, *np.cumsum([1, 5, 1, 1, 9] * 8)[:-1]]
    video, frames = frames_of(write_video(tmp_path / f"film{suffix}", greys(40), times=times))
    assert [one.number for one in frames] == list(range(1, 41)) and video.damaged == 0
    last = (frames[-1].time - START).total_seconds()
    assert last == pytest.approx(times[-1] / RATE, abs=0.5)  # AVI fills the first gap up


def test_what_was_cut_off_without_a_new_encoding_is_not_damaged(tmp_path) -> None:
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
    assert [frame.number for frame in frames] == list(range(1, 31)) and video.damaged == 0


def test_what_is_no_video_is_named_without_its_password(tmp_path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for source, named in {
        f"{tmp_path}/gone.mp4": r"gone\.mp4: there is no such file",
        f"{tmp_path}/text.mp4": r"text\.mp4: the video cannot be read",
        "rtsp://admin:secret@127.0.0.1:9/x": r"^rtsp://\*\*\*@127\.0\.0\.1:9/x: the video",
    }.items():
        with pytest.raises(ImageError, match=named):
            Video(source)


_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:0\r\n"
# What a camera answers to OPTIONS, DESCRIBE, SETUP and PLAY.
_ANSWERS = (
    "Public: DESCRIBE, SETUP, PLAY\r\n\r\n",
    f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}",
    "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n",
    "Session: 1\r\n\r\n",
)


@contextmanager
def camera(film: Path, times: int) -> Iterator[tuple[str, list[int]]]:
    """An RTSP address, which sends an MPEG-TS film so many times, then none; who connected."""
    content, asked = film.read_bytes(), []

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            asked.append(len(asked))
            if len(asked) > times:
                return
            for number, answer in enumerate(_ANSWERS, start=1):
                while self.rfile.readline().strip():
                    pass
                self.wfile.write(f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n{answer}".encode())
            for number in range(len(content) // 188):
                packet = struct.pack(">BBHII", 0x80, 33, number, 0, 0)
                packet += content[188 * number :][:188]
                self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/stream", asked
        server.shutdown()


def test_a_camera_is_asked_again_and_only_the_newest_frames_wait(
    tmp_path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(videos, "_FIRST_WAIT", 0.05)
    with camera(write_video(tmp_path / "film.ts", greys(48)), times=2) as (address, asked):
        video = Video(address)
        assert video.is_live and video.total is None
        frames = video.frames()
        found = list(islice(filter(None, frames), 1))
        while len(asked) < 3:  # until both connections have given all they have
            time.sleep(0.01)
        found += iter(lambda: next(frames), None)
    assert [frame.number for frame in found] == list(range(1, len(found) + 1))
    assert len(found) <= 1 + videos.WAITING and 80 < video.dropped + len(found) <= 96
    assert number_in(found[0]) == 1 and number_in(found[1]) > 48 - 2 * videos.WAITING
    assert "sends no more; asked again in" in caplog.text
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    assert now - found[-1].time < timedelta(minutes=1)


def follow(
    film: Path, output: Any, follower: Any, predictor: Any = None, **how: Any
) -> TrackReport:
    predictor = predictor or PixelPredictor()
    if isinstance(output, Path):
        output = open_output(str(output), predictor)
    how = {"camera": "north", "start": START} | how
    return track([Video(str(film))], lambda _: follower, predictor, output, **how)


def table_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "tracks.csv").open()))


def rows_of(store: Path) -> list[dict[str, Any]]:
    return sorted(Gallery(store).table.to_arrow().to_pylist(), key=lambda row: row["id"])


def test_tracks_become_rows_of_a_gallery(film, boxes, tmp_path) -> None:
    store, predictor = tmp_path / "city.lance", PixelPredictor()
    report = follow(film, store, GivenTracks(boxes), predictor)
    assert (report.frames, report.tracks, report.unchanged) == (30, 3, 0)
    rows = rows_of(store)
    assert [row["id"] for row in rows] == [f"north/20261101T080000-{car}" for car in CARS]
    for row, (color, _, _, (first, last), heading) in zip(rows, CARS.values(), strict=True):
        assert row["track"] == row["id"].removeprefix("north/") and row["camera"] == "north"
        assert row["time"] == row["first"] == after((first - 1) / RATE)
        assert row["last"] == after((last - 1) / RATE)
        assert (row["heading"], row["box"], row["crops"]) == (heading, None, 5)
        image = Path(row["image"])
        assert image == tmp_path / "city-crops" / "north" / f"{row['track']}.jpg"
        crop = read_image(image)
        assert crop.shape == (row["height"], row["width"], 3) == (HEIGHT, WIDTH, 3)
        assert np.abs(crop.reshape(-1, 3).mean(0) - color).max() < 12
        wanted = predictor.one(np.uint8([[color]])).embedding
        far = np.linalg.norm(np.float32(row["embedding"]) - wanted)
        assert far < 0.1 * np.linalg.norm(wanted)
        table = list(csv.DictReader(image.with_suffix(".csv").open()))
        assert [int(line["frame"]) for line in table] == list(range(first, last + 1))
    # Rows that are embedded again, from one picture, stay tracks.
    gallery, other = Gallery(store), PixelPredictor(weights="cd" * 32)
    gallery.add(other, gallery.stale(other.origin), reembed=True, progress=False)
    for again, before in zip(rows_of(store), rows, strict=True):
        kept = ("id", "camera", "time", "track", "first", "last", "heading")
        assert [again[name] for name in kept] == [before[name] for name in kept]
        assert again["crops"] == 1


@pytest.mark.parametrize("place", ["city.lance", "crops"])
def test_an_interrupted_call_keeps_whole_tracks_and_goes_on(
    film, boxes, tmp_path, monkeypatch, place, caplog
) -> None:
    given, predictor = GivenTracks(boxes), PixelPredictor()
    whole, output = tmp_path / "whole.lance", tmp_path / place
    follow(film, whole, given)
    predict, threads = PixelPredictor.predict, threading.active_count()

    def stopped(self: Any, images: Any) -> Any:
        if self.embedded:
            raise KeyboardInterrupt
        return predict(self, images)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PixelPredictor, "predict", stopped)
        follow(film, output, given, predictor)
    assert "1 tracks were kept; the same command goes on" in caplog.text
    assert threading.active_count() <= threads  # none is left that reads or detects
    once = predictor.embedded
    report = follow(film, output, given, predictor)
    assert (report.tracks, report.unchanged, predictor.embedded) == (2, 1, 3 * once)
    if place == "crops":
        table = table_of(output)
        assert sorted(row["track"] for row in table) == [row["track"] for row in rows_of(whole)]
        assert all((output / row["image"]).is_file() for row in table)
        assert len(list(output.rglob("*.jpg"))) == 15
        return
    for ours, theirs in zip(rows_of(output), rows_of(whole), strict=True):
        assert {name for name in ours if ours[name] != theirs[name]} == {"image"}


@pytest.mark.parametrize(("first", "confidence"), [(1, "1"), (0, "0.9"), (1, "-1")])
def test_boxes_are_followed_from_either_number_and_without_confidences(
    film, tmp_path, first, confidence
) -> None:
    file = write_boxes(tmp_path / "det.txt", first, confidence)
    assert follow(film, tmp_path / "a", ByteTrack(GivenDetections(file), RATE)).tracks == 3
    assert sorted(row["heading"] for row in table_of(tmp_path / "a")) == ["", "0.0", "90.0"]
    follow(film, tmp_path / "b", GivenTracks(file))
    lasts = {row["track"][-1]: row["last"] for row in table_of(tmp_path / "b")}
    assert lasts["1"] == after(2.4).isoformat()  # its frame 25
    # KITTI's frames count from 0.
    file.write_text("4 7 Car 0 0 -1 9 9 60 60 -1 -1 -1 -1 -1 -1 -1\n")
    assert [*GivenDetections(file).frames] == [5]


def test_a_video_may_show_no_vehicle_or_none_that_is_large_enough(film, tmp_path) -> None:
    given = tmp_path / "det.txt"
    given.write_text("")
    report = follow(film, tmp_path, ByteTrack(GivenDetections(given), RATE))
    assert (report.frames, report.tracks, report.too_small) == (30, 0, 0)
    # Below 32 pixels, or beyond the frame.
    row = "{0},1,50,50,60,31,1\n{0},2,900,900,60,60,1\n{0},3,210,-20,60,60,1\n"
    given.write_text("".join(map(row.format, range(1, 20))))
    report = follow(film, tmp_path, GivenTracks(given))
    assert (report.tracks, report.too_small) == (0, 3)


def test_tracks_of_several_cameras_go_into_one_folder_unless_their_quality_is_low(
    film, boxes, tmp_path
) -> None:
    early = open_output(str(tmp_path), PixelPredictor())
    follow(film, tmp_path, GivenTracks(boxes), camera="east")
    follow(film, early, GivenTracks(boxes))
    assert [row["camera"] for row in table_of(tmp_path)] == ["east"] * 3 + ["north"] * 3
    report = follow(film, tmp_path, GivenTracks(boxes), camera="west", min_quality=1.1)
    assert (report.tracks, report.low_quality) == (0, {"doubtful": 3})


def test_a_track_is_kept_within_a_minute_though_others_go_on(
    film, boxes, tmp_path, monkeypatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(run, "_LATEST", 0.0)  # the minute
    monkeypatch.setattr(GivenTracks, "patience", timedelta(0))
    monkeypatch.setattr(FolderOutput, "add", lambda self, camera, new: kept.append(len(new)))
    follow(film, tmp_path, GivenTracks(boxes))
    assert kept == [1, 1, 1]


def test_the_best_crops_are_whole_near_unhidden_and_of_different_views(monkeypatch) -> None:
    # Cut off by the frame's border; small; hidden by a nearer one; two alike; one elsewhere.
    lefts_and_sides = [(0, 60), (20, 36), (60, 60), (100, 60), (101, 60), (220, 60)]
    frames = []
    for number, (left, side) in enumerate(lefts_and_sides, start=1):
        seen = [Seen("1", np.float32([left, 50, left + side, 50 + side]), 1.0)]
        if number == 3:
            seen.append(Seen("2", np.float32([50, 60, 130, 130]), 1.0))
        frames.append((VideoFrame(number, START, np.full((200, 300, 3), number, np.uint8)), seen))
    monkeypatch.setattr(tracks, "_SPARE", 0)
    for count, wanted in {2: [4, 6], 3: [2, 4, 6]}.items():
        monkeypatch.setattr(tracks, "_CROPS", count)
        (one, *_) = gather(frames, side=60)
        assert sorted(int(crop.pixels[0, 0, 0]) for crop in one.crops) == wanted


@pytest.mark.parametrize(
    ("follower", "names"), [(ByteTrack, ["00-1", "03-1"]), (GivenTracks, ["00-1"])]
)
def test_a_vehicle_that_comes_back_late_is_another_track(follower, names) -> None:
    seen, pixels = [Seen("1", np.float32([9, 9, 60, 60]), 1.0)], np.zeros((99, 99, 3), np.uint8)
    frames = [(VideoFrame(n, after(n), pixels), seen if n in (0, 3) else []) for n in range(4)]
    found = gather(frames, side=60, patience=follower.patience)
    assert [one.name.removeprefix("20261101T0800") for one in found] == names


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("1,-1,50,50,60,60,0.5,-1,-1,-1", r"without tracks use --boxes"),
        ("frame,track,x,y,w,h\n1,a/../b,5,5,60,60", "a track of frame 1 is 'a/../b'; expected a n"),
        ("7,1,50,50,60,60,57.3", "a confidence of frame 7 is 57.3; expected 0 to 1"),
        ("image,track,x,y,w,h\na.jpg,1,5,5,60,60", "the box of a.jpg is of no frame with a number"),
    ],
)
def test_tracks_that_cannot_be_kept_are_refused(tmp_path, row, named) -> None:
    (tmp_path / "gt.txt").write_text(f"{row}\n")
    with pytest.raises(DataError, match=named):
        GivenTracks(tmp_path / "gt.txt")


@pytest.mark.parametrize("name", ["", "..", "a/b", " a"])
def test_a_camera_has_a_name_for_a_folder(tmp_path, name) -> None:
    predictor = PixelPredictor()
    with pytest.raises(OutputError, match="expected a name that a folder can have"):
        track([], ByteTrack, predictor, open_output(str(tmp_path), predictor), camera=name)


def test_videos_of_several_cameras_are_tracked_in_one_call(
    film, boxes, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("multitasknet.cli.track.make_predictor", lambda _: PixelPredictor())
    table, store = tmp_path / "cameras.csv", tmp_path / "city.lance"
    table.write_text("name,start,latitude\nnorth,2026-11-01T08:00:00Z,1\neast,2026-11-01T09:00,2\n")
    named = [tmp_path / "north" / "vdo.mp4", tmp_path / "films" / "east.mp4"]
    for video in named:
        (video.parent / "gt").mkdir(parents=True)
        video.write_bytes(film.read_bytes())
        (video.parent / "gt" / "gt.txt").write_bytes(boxes.read_bytes())
    command = ["track", *map(str, named), "--cameras", str(table), "--tracks", "gt/gt.txt"]
    command += ["--output", str(store)]
    assert main(command) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == ["north", "east"] and ["tracks", "3", "3"] in printed
    rows = Gallery(store).rows(["camera", "first"])
    assert {(row["camera"], row["first"].hour) for row in rows} == {("north", 8), ("east", 9)}
    assert main([*command, "--json"]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["camera"], one["unchanged"]) for one in reports] == [("north", 3), ("east", 3)]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--cameras south,0", "no camera is named north or film0"),
        ("--cameras north,", "start is empty"),
        ("--cameras north,soon", "cameras.csv:2"),
        ("--cameras north,2026-11-01 --start 2026-11-01", "leave out --start"),
        ("--camera north --start soon", "--start: start cannot be used ('soon' is not a time"),
        ("{film} --camera north --start 2026-11-01", "is of one video"),
        ("rtsp://x/y --camera north", "has no end; give it alone"),
    ],
)
def test_a_video_whose_camera_or_boxes_are_not_known_is_refused(
    film, boxes, tmp_path, capsys, arguments, named
) -> None:
    given, table = arguments.format(film=film).split(), tmp_path / "cameras.csv"
    if given[0] == "--cameras":
        table.write_text(f"name,start\n{given[1]}")
        given[1] = str(table)
    with suppress(SystemExit):
        command = ["track", str(film), *given, "--boxes", str(boxes), "--output", str(tmp_path)]
        assert main(command) == 2
    assert named in capsys.readouterr().err
