"""Write films of traffic before several cameras: videos or frames, with boxes and identities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from multitasknet.vehicle.attributes import COLORS, TYPES

from .camera import Size
from .chance import FOR_SCENE, stream
from .film import Frame, set_stage, shoot_film
from .light import draw_light
from .look import draw_look
from .model import build_model
from .optics import encode
from .plan import draw_classes
from .scene import draw_station
from .trace import import_embree
from .traffic import RATE, Traffic, draw_traffic, drive
from .work import check, run, whole_folder, write_csv

_FOR_CAMERA, _FOR_VEHICLE = 1, 2


@dataclass(frozen=True)
class SceneData:
    """Finished films: their folder, identities, a film of each scene's camera, frames and boxes."""

    root: Path
    vehicles: int
    films: int
    frames: int
    boxes: int


@dataclass(frozen=True)
class _Film:
    """What a worker needs for one camera's film; scene and camera count from 0."""

    folder: Path
    scene: int
    camera: int
    cameras: int
    vehicles: int
    seconds: float
    pixels: int
    prior: str
    seed: int
    as_frames: bool

    @property
    def traffic(self) -> Traffic:
        rng = stream(self.seed, FOR_SCENE, self.scene)
        first = self.scene * self.cameras + 1
        return draw_traffic(rng, self.vehicles, self.cameras, self.seconds, first=first)

    @property
    def first_vehicle(self) -> int:
        return self.scene * self.vehicles + 1

    @property
    def classes(self) -> list[tuple[int, int]]:
        """Type and colour of each vehicle."""
        rng = stream(self.seed, FOR_SCENE, self.scene, _FOR_VEHICLE)
        return draw_classes(rng, self.vehicles, self.prior)


def synthesize_scenes(
    root: str | Path,
    *,
    scenes: int = 1,
    vehicles: int = 20,
    cameras: int = 4,
    seconds: float = 60,
    pixels: int = 640,
    prior: str = "real",
    seed: int = 0,
    workers: int = 1,
    frames: bool = False,
    progress: bool = False,
) -> SceneData:
    """Write films of vehicles that drive past cameras, in the folders of CityFlow.

    ``S01/c001/vdo.avi`` and ``S01/c001/gt/gt.txt`` (frame from 1, vehicle, left, top, width, height
    of what is seen of it, as in the MOT challenge), ``S01/cameras.csv``, ``S01/vehicles.csv``. The
    folder appears whole at the end; the same seed gives the same bytes.
    With ``workers`` above 1, a script must call this under ``if __name__ == "__main__"``.

    Args:
        root: the new folder; it must not exist, or be empty.
        scenes: streets, each with its own vehicles and cameras.
        vehicles: identities of a scene.
        cameras: of a scene, which films all of its vehicles that pass.
        seconds: of each film, at 10 frames a second.
        pixels: width of the frames, 64 to 2048; their height is three quarters of it.
        prior: of colours, types, streets and lenses: ``real`` or ``even``.
        seed: of everything that is random.
        workers: processes, each of which draws a film.
        frames: write JPEG files ``S01/c001/img1/000001.jpg`` and MOT's ``seqinfo.ini``, no videos.
        progress: whether to show a progress bar on stderr, where that is a terminal.
    Raises:
        SyntheticError: an argument or the folder cannot be used, or the renderer is not installed;
            nothing has been written.
    """
    root = Path(root)
    check(
        prior,
        seed,
        scenes=(scenes, 1, 99),
        vehicles=(vehicles, 1, 9999),
        cameras=(cameras, 1, 999),
        seconds=(seconds, 1, 3600),
        pixels=(pixels, 64, 2048),
        workers=(workers, 1, 9999),
    )
    import_embree()
    with whole_folder(root) as folder:
        sizes = cameras, vehicles, seconds, pixels, prior, seed, frames
        films = [
            _Film(folder / f"S{scene + 1:02}", scene, camera, *sizes)
            for scene in range(scenes)
            for camera in range(cameras)
        ]
        for film in films[::cameras]:
            film.folder.mkdir()
            _write_tables(film)
        bar = tqdm(
            run(_write_film, films, workers),
            total=len(films),
            unit="film",
            disable=None if progress else True,
        )
        boxes = sum(bar)
    return SceneData(root, scenes * vehicles, len(films), len(films) * round(seconds * RATE), boxes)


def _write_tables(film: _Film) -> None:
    """Where the cameras are and when their films start; who the vehicles are."""
    posts = [
        (post.name, post.latitude, post.longitude, f"{post.start:%Y-%m-%dT%H:%M:%SZ}")
        for post in film.traffic.posts
    ]
    write_csv(film.folder / "cameras.csv", [("name", "latitude", "longitude", "start"), *posts])
    vehicles = [
        (film.first_vehicle + number, TYPES[kind - 1], COLORS[color - 1])
        for number, (kind, color) in enumerate(film.classes)
    ]
    write_csv(film.folder / "vehicles.csv", [("vehicle", "type", "color"), *vehicles])


def _write_film(film: _Film) -> int:
    """Draw and write one camera's film; return the number of boxes."""
    traffic = film.traffic
    folder = film.folder / traffic.posts[film.camera].name
    size = (film.pixels // 2 * 2, film.pixels * 3 // 8 * 2)  # videos want even ones
    (folder / "gt").mkdir(parents=True)
    rows = []

    def noted(frames: Iterable[Frame]) -> Iterable[np.ndarray]:
        for number, frame in enumerate(frames, start=1):
            for vehicle, (x1, y1, x2, y2) in sorted(frame.boxes.items()):
                box = (x1, y1, x2 - x1, y2 - y1)
                rows.append((number, film.first_vehicle + vehicle, *box, 1, -1, -1, -1))
            yield frame.pixels

    pictures = noted(_draw_film(film, traffic, size))
    if film.as_frames:
        _write_frames(folder, pictures, size)
    else:
        _write_video(folder / "vdo.avi", pictures, size)
    write_csv(folder / "gt" / "gt.txt", rows)
    return len(rows)


def _draw_film(film: _Film, traffic: Traffic, size: Size) -> Iterable[Frame]:
    light = draw_light(stream(film.seed, FOR_SCENE, film.scene, 0), wide=film.prior == "even")
    rng = stream(film.seed, FOR_SCENE, film.scene, _FOR_CAMERA, film.camera)
    stage = set_stage(rng, draw_station(rng, film.prior), light, size)
    looks = [
        draw_look(stream(film.seed, FOR_SCENE, film.scene, _FOR_VEHICLE, number), *one)
        for number, one in enumerate(film.classes)
    ]
    passages = drive(
        rng,
        stage.station.place.street,
        traffic.arrivals[:, film.camera],
        traffic.oncoming,
        np.array([look.body.length for look in looks]),
        film.seconds,
    )
    models = {passage.vehicle: build_model(looks[passage.vehicle]) for passage in passages}
    return shoot_film(stage, models, passages, round(film.seconds * RATE), rng)


def _write_frames(folder: Path, pictures: Iterable[np.ndarray], size: Size) -> None:
    (folder / "img1").mkdir()
    count = 0
    for count, picture in enumerate(pictures, start=1):
        (folder / "img1" / f"{count:06}.jpg").write_bytes(encode(picture, 95))
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.name}\nimDir=img1\nframeRate={RATE}\nseqLength={count}\n"
        f"imWidth={size[0]}\nimHeight={size[1]}\nimExt=.jpg\n"
    )


def _write_video(path: Path, pictures: Iterable[np.ndarray], size: Size) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), RATE, size)
    if not video.isOpened():
        raise OSError(f"OpenCV cannot write {path.name}")
    for picture in pictures:
        video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    video.release()
