"""What a camera looks at: the picture without the vehicle, and what shiny things mirror.

All light is linear: a matt surface shows its albedo times its irradiance; 1.0 is white in full
light. A radiance is in the same unit, so that a uniform sky of radiance 1 gives an irradiance of 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from .camera import Camera, Size, rotation
from .chance import Rng, pick
from .light import Light
from .sprites import draw_sprite
from .street import PERIOD, Standing, Street, billboard, draw_street
from .surface import (
    Texture,
    blend,
    filled,
    outline,
    paint_flat,
    paint_upright,
    pixels_a_metre,
    quads_in_view,
    window,
)
from .textures import clouds, colored

_PAINTED = 0.05  # of the places of the training prior
_ROWS, _COLUMNS = 64, 128  # of the environment
_SOFT = 0.2  # softness of a light whose shadows of trees and poles do not show


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A picture of a place: radiance, float32 ``[h, w, 3]``, and how much sun its ground gets.

    ``sun`` is float32 ``[h, w]``, 0 in shadows of trees.
    """

    color: np.ndarray
    sun: np.ndarray


@dataclass(frozen=True, eq=False)
class Place:
    """What all pictures of one camera share."""

    street: Street  # before the camera
    mount: float  # y of the camera in the street's frame
    figures: tuple[Texture, ...]  # those who may pass: vehicles, riders, walkers
    busy: float  # how many there are on average
    shade: Texture  # cover of the shadows that trees beside the street cast
    skyline: np.ndarray  # ``[128]``, elevation in radians of what stands on the horizon
    sky: np.ndarray  # ``[32, 128]``, clouds
    painted: bool  # random colours instead of a street

    def backdrop(
        self, camera: Camera, light: Light, size: Size, rng: Rng, *, wet: float = 0.0
    ) -> Backdrop:
        """What a picture shows without the vehicle, in whose frame camera and light are.

        Where it is on the street and who passes is random. A wet road (0 to 1) mirrors.
        """
        if self.painted:
            return _painted(rng, light, size)
        camera, light, vehicle = self._on_street(camera, light, rng)
        things = [*self.street.standing, *self._passing(camera, vehicle, rng)]
        standing = [thing for thing in things if _behind(thing, camera, vehicle)]
        return self.seen(camera, light, size, standing, wet=wet)

    def seen(
        self, camera: Camera, light: Light, size: Size, things: list[Standing], *, wet: float = 0.0
    ) -> Backdrop:
        """The street and these things before a camera, which is in the street's frame."""
        canvas, ground = empty_sky(camera, light, size)
        paint_ground(canvas, ground, self.street, camera, light.ground)
        sun = self._shaded(canvas, ground, camera, light)
        right = _level(camera.axes[0])
        standing = [thing.turned(right) for thing in in_view(things, camera, size)]
        paint_shadows(canvas, camera, [thing for thing in standing if thing.turns])
        standing.sort(key=lambda thing: far_first(thing, camera))
        if wet:
            mirror(canvas, ground, standing, camera, light, wet)
        for thing in standing:
            paint_standing(canvas, thing, camera, light)
        return Backdrop(np.maximum(canvas, 0, out=canvas), sun)

    def environment(self, light: Light) -> np.ndarray:
        """What shiny things mirror: radiance, float32 ``[64, 128, 3]``, equirectangular.

        Row 0 looks up, the last one down; column 0 looks along x, the next ones turn towards y. The
        upper half's irradiance on the ground is ``light.sky``; the sun's disc is left out.
        """
        theta = (np.arange(_ROWS, dtype=np.float32) + 0.5) * np.float32(np.pi / _ROWS)
        phi = (np.arange(_COLUMNS, dtype=np.float32) + 0.5) * np.float32(2 * np.pi / _COLUMNS)
        cos, sin = np.cos(theta[: _ROWS // 2, None]), np.sin(theta[: _ROWS // 2, None])
        x, y, z = light.direction.astype(np.float32)
        toward = sin * (np.cos(phi) * x + np.sin(phi) * y) + cos * z
        clear = float(np.clip(light.sun.mean() / (light.sun + light.sky).mean(), 0, 1))
        bright = 1 + (0.25 + 1.2 * clear) * np.exp(-cos / 0.2)
        bright = bright + 2.5 * clear * np.exp((toward - 1) / 0.08)
        bright = bright * np.exp(0.22 * self.sky)
        built = np.clip((self.skyline - (np.pi / 2 - theta[: _ROWS // 2, None])) / 0.04, 0, 1)
        dark = 0.1 * (0.6 * light.sky + 0.4 * light.sun)
        weight = cos * sin * np.float32(np.pi / _ROWS * 2 / _COLUMNS)
        channels = []
        for channel, blue in enumerate((0.9, 1.0, 1.14)):
            sky = bright * np.float32(blue) ** (clear * np.clip(cos, 0.2, 1))
            sky *= np.float32(light.sky[channel])
            sky += (np.float32(dark[channel]) - sky) * built
            sky *= np.float32(light.sky[channel]) / (sky * weight).sum()
            ground = np.full_like(sky, self.street.albedo[channel] * light.ground[channel])
            channels.append(np.concatenate([sky, ground]))
        return cv2.merge(channels)

    def _on_street(
        self, camera: Camera, light: Light, rng: Rng
    ) -> tuple[Camera, Light, np.ndarray]:
        """Camera, light, and the vehicle's place ``[3]`` in the street's frame.

        The camera looks along the street whichever way the vehicle drives; the vehicle is in the
        lane that the camera's mount tells, and some are turning.
        """
        yaw = 0.0 if camera.axes[2, 0] > 0 else np.pi
        yaw += rng.normal(0, 0.03) if rng.random() < 0.85 else rng.uniform(-0.6, 0.6)
        turn = rotation(yaw)
        eye = camera.eye @ turn
        lanes = self.street.lanes
        lane = lanes[np.abs(lanes + eye[1] - self.mount).argmin()]
        vehicle = np.array([rng.normal(0, 1) - eye[0], lane + rng.normal(0, 0.25), 0])
        turned = replace(light, direction=light.direction @ turn)
        return replace(camera, eye=eye + vehicle, axes=camera.axes @ turn), turned, vehicle

    def _shaded(
        self, canvas: np.ndarray, ground: Ground, camera: Camera, light: Light
    ) -> np.ndarray:
        """Take the sun from the shaded ground; what it keeps, float32 ``[h, w]``, 1 is all."""
        if light.softness > _SOFT:
            return np.ones(ground.shown.shape, dtype=np.float32)
        near = np.array([camera.eye[0] + 10, camera.eye[1], 0])
        sun = 1 - self.shade.at(ground.x, ground.y, pixels_a_metre(camera, near))
        dark = np.where(ground.shown, 1 - sun, np.float32(0))
        shares = (1 - light.sky / light.ground).astype(np.float32)
        canvas *= cv2.merge([1 - share * dark for share in shares])
        return sun

    def _passing(self, camera: Camera, vehicle: np.ndarray, rng: Rng) -> list[Standing]:
        """Others about the vehicle, none before it."""
        others = []
        right, away = _level(camera.axes[0]), _level(camera.axes[2])
        for _ in range(rng.poisson(self.busy)):
            figure = pick(rng, self.figures)
            behind, beside = rng.uniform(1.5, 16), rng.uniform(-7, 7)
            if abs(beside) < 2.5:
                behind += 5
            place = vehicle + behind * away + beside * right
            if figure.extent[0] > 1.5:
                lane = self.street.lanes[np.abs(self.street.lanes - place[1]).argmin()]
                if abs(lane - vehicle[1]) > 1 or place[0] > vehicle[0] + 7:
                    place[1] = lane + rng.normal(0, 0.2)
            others.append(billboard(place, figure))
        return others


def draw_place(rng: Rng, *, wide: bool) -> Place:
    """Draw what one camera looks at; ``wide`` has wider ranges than are real, and random paint."""
    street = draw_street(rng, wide=wide)
    kinds = rng.choice(
        ["car", "van", "rider", "walker", "cone"], 6, p=[0.45, 0.12, 0.23, 0.15, 0.05]
    )
    skyline = 0.12 + 0.06 * clouds(rng, (4, _COLUMNS), (4, 16))[0]
    skyline += 0.025 * clouds(rng, (4, _COLUMNS), (4, 64))[0]
    return Place(
        street=street,
        mount=float(rng.uniform(*street.roadsides)),
        figures=tuple(draw_sprite(rng, str(kind)) for kind in kinds),
        busy=rng.uniform(0.5, 3.0),
        shade=_draw_shade(rng, street),
        skyline=np.clip(skyline, 0.01, 0.5).astype(np.float32),
        sky=clouds(rng, (_ROWS // 2, _COLUMNS), (4, 8)),
        painted=wide and rng.random() < _PAINTED,
    )


def _draw_shade(rng: Rng, street: Street) -> Texture:
    """Shadows that lie on the street: dapples of a tree, a pole's bar, a house's edge."""
    shape = (256, 256)
    cover = np.zeros(shape, dtype=np.float32)
    if rng.random() < 0.5:
        leafy = clouds(rng, shape, (8, 8)) + 0.5 * clouds(rng, shape, (64, 64))
        cover = np.clip(2.5 * (leafy - rng.uniform(0.4, 1.3)), 0, 1)
    if rng.random() < 0.4:
        x, lean = rng.uniform(0, 256), rng.normal(0, 80)
        line = np.rint(np.array([[x, 0], [x + lean, 256]])).astype(np.int32)
        cv2.polylines(cover, [line], False, [1.0], int(rng.integers(1, 3)))
    return Texture.of(0.92 * cv2.GaussianBlur(cover, (3, 3), 0.8), (PERIOD, PERIOD))


def _level(direction: np.ndarray) -> np.ndarray:
    """The unit vector ``[3]`` of a direction on the map."""
    level = direction * np.array([1, 1, 0])
    return level / np.linalg.norm(level)


def _behind(thing: Standing, camera: Camera, vehicle: np.ndarray) -> bool:
    """Whether something stands aside of the vehicle or beyond it, not between it and the camera."""
    y, eye, other = thing.ball[1], float(camera.eye[1]), float(vehicle[1])
    beyond = (y < min(eye, other - 1.2)) or (y > max(eye, other + 1.2))
    return beyond or abs(y - other) > abs(eye - other) or (y - other) * (eye - other) < 0


def _painted(rng: Rng, light: Light, size: Size) -> Backdrop:
    """Random colours and shapes, as in domain randomisation."""
    width, height = size
    shades = rng.uniform(0.03, 0.6, (int(rng.integers(2, 6)), int(rng.integers(2, 6)), 3))
    canvas = cv2.resize(shades.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    for _ in range(rng.integers(0, 14)):
        center = tuple(np.rint(rng.uniform(0, 1, 2) * size).astype(int).tolist())
        axes = tuple(np.rint(rng.uniform(0.03, 0.3, 2) * size).astype(int).tolist())
        color = rng.uniform(0.02, 0.6, 3).tolist()
        cv2.ellipse(canvas, center, axes, rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA)
    speckle = 1 + 0.15 * rng.standard_normal((height, width, 1), dtype=np.float32)
    color = np.maximum(canvas * speckle * light.ground.astype(np.float32), 0)
    return Backdrop(color, np.ones((height, width), dtype=np.float32))


_YELLOW = np.array([1.0, 0.68, 0.22], dtype=np.float32)
_WHITE = np.array([1.0, 0.99, 0.96], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Ground:
    """Where a picture shows the ground: places in metres and whether, each ``[h, w]``."""

    x: np.ndarray
    y: np.ndarray
    shown: np.ndarray


def empty_sky(camera: Camera, light: Light, size: Size) -> tuple[np.ndarray, Ground]:
    """A canvas ``[h, w, 3]`` with nothing but sky, and where the ground is."""
    x, y, rise = camera.on_ground(size)
    canvas = np.zeros((size[1], size[0], 3), dtype=np.float32)
    ground = Ground(x, y, rise < 0)
    if not ground.shown.all():
        canvas[:] = colored(1.15 - 0.5 * np.clip(rise, 0, 1), light.sky)
    return canvas, ground


def paint_ground(
    canvas: np.ndarray, ground: Ground, street: Street, camera: Camera, irradiance: np.ndarray
) -> None:
    """Paint the street, all of it lit, wherever there is ground."""
    size = (canvas.shape[1], canvas.shape[0])
    near, far, side = -20.0, 300.0, 120.0
    corners = np.array([[near, -side, 0], [far, -side, 0], [far, side, 0], [near, side, 0]])
    whole = outline(camera, corners, size)
    if not len(whole):
        return
    middle = camera.eye + camera.axes[2] * (camera.eye[2] / max(-camera.axes[2, 2], 0.06))
    scale = pixels_a_metre(camera, middle)
    x, y = ground.x, ground.y + np.float32(PERIOD / 2)
    stones = street.stones.at(x, y, scale)
    values = street.road.at(x, y, scale) * (1 + 0.075 * stones)
    road = colored(values, street.albedo * irradiance)
    if ground.shown.all():
        canvas[:] = road
    else:
        blend(canvas, road, filled([whole], size))
    for low, high, texture in street.bands:
        strip = np.array([[near, low, 0], [far, low, 0], [far, high, 0], [near, high, 0]])
        polygon = outline(camera, strip, size, 1)
        where = window(polygon, size)
        if where is not None:
            corner = [where[1].start, where[0].start]
            picture = texture.at(x[where], y[where], scale)
            paint_flat(canvas[where], polygon - corner, picture, irradiance)
    for quads, color in ((street.white, _WHITE), (street.yellow, _YELLOW)):
        marks = quads_in_view(camera, quads, size)
        where = window(np.concatenate(marks), size) if marks else None
        if where is not None:
            worn = np.clip(1 - street.wear + 0.5 * street.wear * stones[where], 0.1, 1)
            cover = filled(marks, size)[where] * worn
            blend(canvas[where], colored(values[where], street.paint * color * irradiance), cover)


def paint_shadows(canvas: np.ndarray, camera: Camera, things: list[Standing]) -> None:
    """Darken the ground below those who pass."""
    size = (canvas.shape[1], canvas.shape[0])
    for thing in things:
        left, right = thing.feet
        away = np.array([-camera.axes[0, 1], camera.axes[0, 0], 0])
        deep = 0.9 * np.linalg.norm(right - left) * away
        quad = np.stack([left - 0.1 * deep, right - 0.1 * deep, right + deep, left + deep])
        seen = outline(camera, quad, size)
        blur = 0.12 * pixels_a_metre(camera, left)
        where = window(seen, size, int(blur) + 1)
        if where is None:
            continue
        low = [where[1].start, where[0].start]
        part = canvas[where]
        dark = filled([seen - low], (part.shape[1], part.shape[0]))
        dark = 1 - 0.7 * cv2.blur(dark, (int(2 * blur) + 1, int(blur) + 1))
        part *= cv2.merge([dark, dark, dark])


def mirror(
    canvas: np.ndarray,
    ground: Ground,
    standing: list[Standing],
    camera: Camera,
    light: Light,
    wet: float,
) -> None:
    """Darken a wet road and let it mirror, upright smears, what stands on it."""
    size = (canvas.shape[1], canvas.shape[0])
    mirrored = np.broadcast_to(light.sky.astype(np.float32), canvas.shape).copy()
    for thing in standing:
        paint_standing(mirrored, thing, camera, light, -1.0)
    steep = np.clip(-camera.axes[2, 2], 0.05, 1)
    share = np.float32(wet * (0.02 + 0.98 * (1 - steep) ** 5))
    cover = np.where(ground.shown, share, 0).astype(np.float32)
    canvas *= (1 - 0.45 * wet * ground.shown[..., None]).astype(np.float32)
    blend(canvas, cv2.blur(mirrored, (3, size[1] // 8 | 1)), cover)


def paint_standing(
    canvas: np.ndarray, thing: Standing, camera: Camera, light: Light, mirrored: float = 1.0
) -> None:
    run = thing.feet[1] - thing.feet[0]
    normal = np.array([run[1], -run[0], 0]) / np.hypot(run[0], run[1])
    if normal @ (camera.eye - thing.feet[0]) < 0:
        normal = -normal
    irradiance = light.upright(normal)
    paint_upright(canvas, camera, thing.texture, thing.feet, mirrored * thing.top, irradiance)


def in_view(things: list[Standing], camera: Camera, size: Size) -> list[Standing]:
    """Those of the things that may show; whether what is long does is found out later."""
    balls = np.array([thing.ball for thing in things]).reshape(-1, 4)
    pixels, depth = camera.project(balls[:, :3])
    reach = balls[:, 3] * camera.focal / np.maximum(depth, 0.1)
    beside = np.abs(pixels + 0.5 - np.array(size) / 2) - np.array(size) / 2
    shown = (depth > 0.5) & (beside.max(axis=1) < reach) | (balls[:, 3] > 20)
    return [thing for thing, one in zip(things, shown.tolist(), strict=True) if one]


def far_first(thing: Standing, camera: Camera) -> tuple[float, float]:
    """Sorts far things first: of two in one direction the farther is farther aside."""
    if abs(float(thing.feet[0, 1] - thing.feet[1, 1])) > 100:  # the end of the view
        return -math.inf, 0.0
    x, y, _, _ = thing.ball
    return -abs(y - float(camera.eye[1])), float(camera.eye[0]) - x
