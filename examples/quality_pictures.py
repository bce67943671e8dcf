"""Pictures that show one vehicle, several, none or a part of one, for VehiclePose's quality head.

Each kind is a function from a :class:`Sources` and a random generator to a picture, uint8
``[H, W, 3]``, RGB. Nothing is read but generated crops and what installed packages bring with them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from augmentation import covered, read_pixels, relit, retaken, saturated
from PIL import Image

from vehiclesynth.look import draw_look
from vehiclesynth.model import Model, build_model
from vehiclesynth.scene import Station, draw_station, shoot_street

Pixels = np.ndarray
ONE, NONE, SEVERAL, CUT_OFF = range(4)
SIDE = 144  # of what is drawn, in pixels
_MODELS, _STATIONS = 60, 40
_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_SIMPLEX)
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True, eq=False)
class Sources:
    """What pictures are made of.

    Attributes:
        crops: generated vehicles, one a picture.
        points: their keypoints, float32 ``[36, 2]`` each.
        photos: pictures without vehicles.
        seed: of vehicles and cameras of the streets.
    """

    crops: list[Pixels]
    points: list[np.ndarray]
    photos: list[Pixels] = field(default_factory=list)
    seed: int = 0

    @cached_property
    def models(self) -> list[Model]:
        rng = np.random.default_rng((self.seed, 1))
        kinds = zip(rng.integers(1, 10, _MODELS), rng.integers(1, 11, _MODELS), strict=True)
        return [build_model(draw_look(rng, int(kind), int(color))) for kind, color in kinds]

    @cached_property
    def stations(self) -> list[tuple[Station, str]]:
        rng = np.random.default_rng((self.seed, 2))
        priors = ("real", "real", "even")  # every second of the last has painted surroundings
        return [(draw_station(rng, priors[i % 3]), priors[i % 3]) for i in range(_STATIONS)]

    def crop(self, rng: np.random.Generator) -> Pixels:
        return self.crops[int(rng.integers(len(self.crops)))]


def packaged_photos(*packages: str) -> list[Pixels]:
    """The photographs and drawings that installed packages ship as samples, in colour."""
    found = []
    for package in packages:
        spec = find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed; install it for its sample pictures")
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix in _PHOTO_SUFFIXES and path.stat().st_size > 20_000:
                with Image.open(path) as image:
                    found.append(np.array(image.convert("RGB")))
    return found


# One vehicle


def good(sources: Sources, rng: np.random.Generator) -> Pixels:
    """A crop as a camera could have taken it otherwise; others may hang in at the border."""
    pixels = sources.crop(rng)
    if rng.random() < 0.3:
        pixels = recut(pixels, rng)
    if rng.random() < 0.3:
        pixels = with_neighbour(pixels, sources.crop(rng), rng)
    if rng.random() < 0.25:
        pixels = _squared(pixels, lambda square: covered(square, np.zeros((0, 2)), rng)[0])
    return seen(pixels, rng)


def as_generated(sources: Sources, rng: np.random.Generator) -> Pixels:
    return sources.crop(rng)


def recut(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A tighter box, by up to an eighth on each side."""
    height, width = pixels.shape[:2]
    top, bottom = (int(share * height) for share in rng.uniform(0, 0.1, 2))
    left, right = (int(share * width) for share in rng.uniform(0, 0.1, 2))
    return pixels[top : height - bottom, left : width - right]


def with_neighbour(pixels: Pixels, other: Pixels, rng: np.random.Generator) -> Pixels:
    """With up to a quarter of another crop at one border, as of a vehicle that the box cuts."""
    pixels = pixels.copy()
    height, width = pixels.shape[:2]
    axis = int(rng.random() < 0.3)
    side = (width, height)[axis]
    reach = max(int(side * rng.uniform(0.05, 0.27)), 1)
    scale = rng.uniform(0.6, 1.1)
    size = max(int(width * scale), reach), max(int(height * scale), reach)
    other = cv2.resize(other, size, interpolation=cv2.INTER_AREA)
    if axis:
        strip = other[:reach] if rng.random() < 0.5 else other[-reach:]
        start = int(rng.integers(-size[0] // 3, max(width - size[0] // 2, 1)))
        left, right = max(start, 0), min(start + size[0], width)
        rows = slice(height - reach, height) if rng.random() < 0.7 else slice(0, reach)
        pixels[rows, left:right] = strip[:, left - start : right - start]
        return pixels
    strip = other[:, :reach] if rng.random() < 0.5 else other[:, -reach:]
    start = int(rng.integers(-size[1] // 3, max(height - size[1] // 2, 1)))
    top, bottom = max(start, 0), min(start + size[1], height)
    columns = slice(0, reach) if rng.random() < 0.5 else slice(width - reach, width)
    pixels[top:bottom, columns] = strip[top - start : bottom - start]
    return pixels


def seen(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """In another light, by another camera, or as others would draw it."""
    if rng.random() < 0.7:
        pixels = relit(pixels, rng)
    if rng.random() < 0.3:
        pixels = saturated(pixels, 0.0 if rng.random() < 0.3 else rng.uniform(0.2, 1.6))
    if rng.random() < 0.35:
        pixels = restyled(pixels, rng)
    return _squared(pixels, lambda square: retaken(square, rng)) if rng.random() < 0.7 else pixels


def restyled(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Smoothed to areas, sharpened, evened out, with other hues or a texture: no content changes.

    Real pictures differ from generated ones, and so do these.
    """
    how = int(rng.integers(5))
    if how == 0:
        return cv2.bilateralFilter(pixels, 5, float(rng.uniform(20, 90)), float(rng.uniform(2, 6)))
    if how == 1:
        soft = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.7, 2.5))
        more = rng.uniform(0.4, 2.0)
        return cv2.addWeighted(pixels, 1 + more, soft, -more, 0)
    if how == 2:
        light, *colors = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB))
        evened = cv2.createCLAHE(rng.uniform(1, 5), (4, 4)).apply(light)
        return cv2.cvtColor(cv2.merge([evened, *colors]), cv2.COLOR_LAB2RGB)
    if how == 3:
        turned = cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV)
        turned[..., 0] = (turned[..., 0].astype(int) + rng.integers(0, 180)) % 180
        return cv2.cvtColor(turned, cv2.COLOR_HSV2RGB)
    coarse = rng.normal(0, rng.uniform(3, 14), (int(rng.integers(4, 40)), int(rng.integers(4, 40))))
    texture = cv2.resize(coarse, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(pixels + texture[..., None], 0, 255).astype(np.uint8)


def _squared(pixels: Pixels, change: Callable[[Pixels], Pixels]) -> Pixels:
    """A change that is made for square pictures."""
    size = pixels.shape[1], pixels.shape[0]
    side = max(size)
    return cv2.resize(change(cv2.resize(pixels, (side, side))), size, interpolation=cv2.INTER_AREA)


# Several


def mosaic(sources: Sources, rng: np.random.Generator) -> Pixels:
    """Two to six crops in rows and columns."""
    rows, columns = ((1, 2), (2, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2))[int(rng.integers(7))]
    shapes = np.array([sources.crop(rng).shape[:2] for _ in range(rows * columns)])
    cell = np.maximum(np.median(shapes, axis=0) * rng.uniform(0.8, 1.25, 2) / 1.5, 24).astype(int)
    gap = int(rng.integers(0, 7)) if rng.random() < 0.4 else 0
    tall, wide = rows * (cell[0] + gap) - gap, columns * (cell[1] + gap) - gap
    picture = np.full((tall, wide, 3), rng.integers(0, 256, 3), np.uint8)
    fits = rng.random() < 0.4  # else stretched
    for index in range(rows * columns):
        row, column = divmod(index, columns)
        crop, at = sources.crop(rng), np.array([row, column]) * (cell + gap)
        size = cell
        if fits:
            size = np.maximum(np.array(crop.shape[:2]) * min(cell / crop.shape[:2]), 1).astype(int)
            at = at + (cell - size) // 2
        small = cv2.resize(crop, (int(size[1]), int(size[0])), interpolation=cv2.INTER_AREA)
        picture[at[0] : at[0] + size[0], at[1] : at[1] + size[1]] = small
    return picture


def street(sources: Sources, rng: np.random.Generator) -> Pixels:
    """A street with two to six vehicles of which none hides most of another."""
    for _ in range(20):
        count = int(rng.integers(2, 7))
        models = [sources.models[i] for i in rng.choice(_MODELS, count, replace=False)]
        picture, shown = _photograph(models, sources, rng)
        if shown >= 2:
            return picture
    raise SystemExit("no street with two vehicles came out in twenty attempts")


# None


def empty_street(sources: Sources, rng: np.random.Generator) -> Pixels:
    return _photograph([], sources, rng)[0]


def _photograph(
    models: list[Model], sources: Sources, rng: np.random.Generator
) -> tuple[Pixels, int]:
    station, prior = sources.stations[int(rng.integers(_STATIONS))]
    jpeg, shown = shoot_street(models, station, rng, pixels=SIDE, prior=prior)
    with Image.open(io.BytesIO(jpeg)) as image:
        return np.array(image), shown


def photo(sources: Sources, rng: np.random.Generator) -> Pixels:
    """A part of a photograph, of any size down to a sixth of it."""
    pixels = sources.photos[int(rng.integers(len(sources.photos)))]
    height, width = pixels.shape[:2]
    share, aspect = np.exp(rng.uniform(np.log(0.17), 0)), np.exp(rng.normal(0, 0.25))
    tall = int(np.clip(min(height, width) * share / aspect, 24, height))
    wide = int(np.clip(min(height, width) * share * aspect, 24, width))
    top, left = (int(rng.integers(0, room + 1)) for room in (height - tall, width - wide))
    part = pixels[top : top + tall, left : left + wide]
    scale = min(1, 2 * SIDE / max(part.shape))
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return part[:, ::-1].copy() if rng.random() < 0.5 else part


def noise(_: Sources, rng: np.random.Generator) -> Pixels:
    """Independent values, or coarser ones, grey or in colour."""
    shape = _shape(rng)
    grain = max(int(np.exp(rng.uniform(0, np.log(12)))), 1)
    coarse = (max(shape[0] // grain, 2), max(shape[1] // grain, 2), 3 if rng.random() < 0.6 else 1)
    if rng.random() < 0.5:
        values = rng.uniform(0, 256, coarse)
    else:
        values = rng.normal(rng.uniform(40, 215), rng.uniform(4, 70), coarse)
    values = np.clip(np.broadcast_to(values, (*coarse[:2], 3)), 0, 255).astype(np.uint8)
    how = cv2.INTER_NEAREST if rng.random() < 0.4 else cv2.INTER_CUBIC
    return cv2.resize(values, shape[::-1], interpolation=how)


def flat(_: Sources, rng: np.random.Generator) -> Pixels:
    """One colour."""
    color = rng.integers(0, 256, 3) if rng.random() < 0.6 else np.full(3, rng.integers(0, 256))
    return np.full((*_shape(rng), 3), color, np.uint8)


def gradient(_: Sources, rng: np.random.Generator) -> Pixels:
    """From colour to colour, in a line or around a place."""
    height, width = _shape(rng)
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, None, None]
    angle, (row, column) = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, 2)
    along = np.cos(angle) * x + np.sin(angle) * y
    if rng.random() < 0.5:
        along = np.hypot(y - row, x - column)
    share = (along - along.min()) / np.ptp(along)
    one, other = rng.uniform(0, 255, (2, 3))
    return (one + (other - one) * share[..., None]).astype(np.uint8)


def text(_: Sources, rng: np.random.Generator) -> Pixels:
    """Lines of letters, as of a page, a screen or a sign."""
    height, width = _shape(rng)
    dark = rng.random() < 0.3
    ground, ink = np.sort(rng.integers(0, 256, (2, 3)), axis=0)[:: 1 if dark else -1]
    picture = np.full((height, width, 3), ground, np.uint8)
    size = rng.uniform(0.25, 1.4)
    step, y = int(26 * size) + 4, int(rng.integers(8, 30))
    while y < height + step:
        letters = "".join(chr(code) for code in rng.integers(32, 123, 40))
        font = _FONTS[int(rng.integers(3))] if rng.random() < 0.1 else _FONTS[0]
        at = (int(rng.integers(-20, 8)), y)
        cv2.putText(picture, letters, at, font, size, ink.tolist(), 1 + (size > 0.9), cv2.LINE_AA)
        y += step
    return picture


def interior(_: Sources, rng: np.random.Generator) -> Pixels:
    """A room: walls, a floor, and furniture of boxes, windows and lamps."""
    height, width = _shape(rng)
    picture = np.full((height, width, 3), rng.integers(90, 240, 3), np.uint8)
    floor = int(height * rng.uniform(0.5, 0.85))
    picture[floor:] = rng.integers(40, 200, 3)
    corner = int(width * rng.uniform(0.1, 0.9))
    cv2.line(picture, (corner, 0), (corner, floor), rng.integers(40, 200, 3).tolist(), 1)
    for _ in range(int(rng.integers(2, 9))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        wide, tall = rng.integers(width // 12, width // 2), rng.integers(height // 12, height // 2)
        color = rng.integers(0, 256, 3).tolist()
        cv2.rectangle(picture, (int(x), int(y)), (int(x + wide), int(y + tall)), color, -1)
        if rng.random() < 0.5:
            edge = rng.integers(0, 256, 3).tolist()
            cv2.rectangle(picture, (int(x), int(y)), (int(x + wide), int(y + tall)), edge, 2)
    if rng.random() < 0.6:
        middle = (int(rng.integers(0, width)), int(rng.integers(0, height // 2)))
        cv2.circle(picture, middle, int(rng.integers(4, 20)), (250, 245, 220), -1, cv2.LINE_AA)
    return picture


def people(_: Sources, rng: np.random.Generator) -> Pixels:
    """One or more drawn figures before a plain ground."""
    height, width = _shape(rng)
    picture = np.full((height, width, 3), rng.integers(60, 230, 3), np.uint8)
    picture[int(height * rng.uniform(0.6, 0.95)) :] = rng.integers(60, 180, 3)
    for _ in range(int(rng.integers(1, 4))):
        tall, x = height * rng.uniform(0.5, 1.1), int(rng.integers(width // 6, width))
        foot = int(height * rng.uniform(0.85, 1.1))
        skin, shirt, legs = rng.integers(30, 240, (3, 3)).tolist()
        thick = max(int(tall * rng.uniform(0.05, 0.09)), 2)
        hip, neck = int(foot - 0.48 * tall), int(foot - 0.82 * tall)
        for side in (-1, 1):
            out = int(side * tall * rng.uniform(0.02, 0.14))
            cv2.line(picture, (x, hip), (x + out, foot), legs, thick, cv2.LINE_AA)
            hand = (x + int(side * tall * rng.uniform(0.08, 0.25)), int(foot - 0.5 * tall))
            cv2.line(picture, (x, neck), hand, shirt, max(thick - 1, 1), cv2.LINE_AA)
        cv2.line(picture, (x, neck), (x, hip), shirt, 2 * thick, cv2.LINE_AA)
        cv2.circle(picture, (x, int(foot - 0.91 * tall)), thick, skin, -1, cv2.LINE_AA)
    return picture


def stripes(_: Sources, rng: np.random.Generator) -> Pixels:
    """Stripes or squares of two colours."""
    height, width = _shape(rng)
    y, x = np.mgrid[:height, :width]
    period, angle = rng.uniform(4, 50), rng.uniform(0, np.pi)
    mask = (np.cos(angle) * x + np.sin(angle) * y) % period < period / 2
    if rng.random() < 0.5:
        mask ^= (np.cos(angle) * y - np.sin(angle) * x) % period < period / 2
    one, other = rng.integers(0, 256, (2, 3))
    return np.where(mask[..., None], one, other).astype(np.uint8)


def shapes(_: Sources, rng: np.random.Generator) -> Pixels:
    """Ellipses and polygons of any colour."""
    height, width = _shape(rng)
    picture = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
    for _ in range(int(rng.integers(1, 10))):
        color = rng.integers(0, 256, 3).tolist()
        corners = rng.uniform(-0.1, 1.1, (int(rng.integers(3, 6)), 2)) * [width, height]
        if rng.random() < 0.5:
            cv2.fillPoly(picture, [corners.astype(np.int32)], color, cv2.LINE_AA)
        else:
            axes = [int(one) for one in rng.uniform(4, max(width, height) / 2, 2)]
            middle = [int(one) for one in corners[0]]
            cv2.ellipse(picture, middle, axes, float(rng.uniform(0, 180)), 0, 360, color, -1)
    return picture


def background(sources: Sources, rng: np.random.Generator) -> Pixels:
    """A crop with its vehicle painted over by the street beside it."""
    index = int(rng.integers(len(sources.crops)))
    pixels, points = sources.crops[index], sources.points[index]
    mask = np.zeros(pixels.shape[:2], np.uint8)
    hull = cv2.convexHull(np.rint(points).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, 255)
    mask = cv2.dilate(mask, np.ones((9, 9), np.uint8))
    return cv2.inpaint(pixels, mask, 5, cv2.INPAINT_TELEA)


def _shape(rng: np.random.Generator) -> tuple[int, int]:
    aspect = np.exp(rng.normal(0, 0.3))
    return int(SIDE / max(aspect, 1)), int(SIDE * min(aspect, 1))


# A part of one


def half(sources: Sources, rng: np.random.Generator) -> Pixels:
    """The vehicle cut through: 30 to 58 % of it along one axis."""
    return _window(sources, rng, rng.uniform(0.3, 0.58), 1.0)


def close_up(sources: Sources, rng: np.random.Generator) -> Pixels:
    """A fifth to a half of its width and height."""
    return _window(sources, rng, *rng.uniform(0.2, 0.5, 2))


def _window(sources: Sources, rng: np.random.Generator, share: float, other: float) -> Pixels:
    """A window in a vehicle, of that share of it along one axis and along the other."""
    index = int(rng.integers(len(sources.crops)))
    pixels, points = sources.crops[index], sources.points[index]
    size = np.array([pixels.shape[1], pixels.shape[0]])
    low, high = np.clip(points.min(0), 0, size - 1), np.clip(points.max(0), 0, size - 1)
    shares = np.array([share, other] if rng.random() < 0.65 else [other, share])
    extent = np.maximum((high - low) * shares, 12)
    # Along the axis that is cut it begins or ends inside; a half keeps one end of the vehicle.
    free = (high - low) - extent
    start = low + free * (rng.random(2) if other < 1 else rng.integers(0, 2, 2))
    margin = np.where(shares < 1, 0, 0.06) * size
    left, top = np.clip(start - margin, 0, size - 12).astype(int)
    right, bottom = np.clip(start + extent + margin, (left + 12, top + 12), size).astype(int)
    return pixels[top:bottom, left:right]


# How many of the pictures that show no single vehicle are seen otherwise, as the good ones are.
VARIED = 0.6
# What the head is trained with: what it shows, and its share.
TRAINED: dict[str, tuple[Callable[[Sources, np.random.Generator], Pixels], int, float]] = {
    "good": (good, ONE, 0.30),
    "as generated": (as_generated, ONE, 0.11),
    "mosaic": (mosaic, SEVERAL, 0.09),
    "street": (street, SEVERAL, 0.09),
    "empty street": (empty_street, NONE, 0.07),
    "background": (background, NONE, 0.04),
    "photo": (photo, NONE, 0.11),
    "noise": (noise, NONE, 0.03),
    "flat": (flat, NONE, 0.01),
    "gradient": (gradient, NONE, 0.02),
    "text": (text, NONE, 0.02),
    "shapes": (shapes, NONE, 0.02),
    "half": (half, CUT_OFF, 0.05),
    "close-up": (close_up, CUT_OFF, 0.04),
}
# Never trained with, by themselves or at all.
HELD_OUT: dict[str, tuple[Callable[[Sources, np.random.Generator], Pixels], int]] = {
    "interior": (interior, NONE),
    "people": (people, NONE),
    "stripes": (stripes, NONE),
}


def read_sources(roots: list[Path], photos: list[Pixels], *, held_out: bool, seed: int) -> Sources:
    """The crops of data sets in the PAMTRI layout; of query and test, or of train."""
    import multitasknet

    crops, points = [], []
    for root in roots:
        for split in multitasknet.read_dataset(root, check=False).splits:
            if (split.name != "train") != held_out:
                continue
            for record in split.records:
                crops.append(read_pixels(record.image))
                points.append(record.keypoints[:, :2])
    return Sources(crops, points, photos, seed)
