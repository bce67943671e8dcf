"""The light of a time of day and a weather."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .chance import Rng


@dataclass(frozen=True, eq=False)
class Light:
    """Sun and sky; linear, 1.0 fully lights a white matt surface on a bright day."""

    direction: np.ndarray  # ``[3]``, unit vector towards the sun; at night towards the street lamp
    sun: np.ndarray  # ``[3]``, irradiance of the sun on a surface that faces it
    sky: np.ndarray  # ``[3]``, irradiance of the whole sky on a horizontal surface
    softness: float  # how blurred shadows are, metres a metre of height
    night: bool  # lamps are lit, little else

    @property
    def ground(self) -> np.ndarray:
        """Irradiance of the ground ``[3]``."""
        return self.sky + self.sun * max(float(self.direction[2]), 0.0)

    def upright(self, normal: np.ndarray) -> np.ndarray:
        """Irradiance ``[3]`` of a wall of this normal: half the sky, half the ground, the sun."""
        return (
            0.5 * self.sky
            + 0.1 * self.ground  # of which the road sends a fifth back
            + self.sun * max(float(normal @ self.direction), 0.0)
        )


@dataclass(frozen=True)
class _Weather:
    """Ranges of a weather, and its share of the pictures: like the real ones, and spread out."""

    share: tuple[float, float]
    sun: tuple[float, float]
    sky: tuple[float, float]
    elevation: tuple[float, float]  # degrees
    softness: tuple[float, float]


_WEATHERS = (
    _Weather((0.46, 0.26), (0.0, 0.06), (0.6, 0.95), (35, 70), (0.4, 0.9)),  # overcast
    _Weather((0.25, 0.2), (0.12, 0.45), (0.45, 0.7), (25, 65), (0.08, 0.3)),  # hazy
    _Weather((0.18, 0.22), (0.65, 1.0), (0.25, 0.42), (28, 72), (0.015, 0.05)),  # sunny
    _Weather((0.07, 0.12), (0.4, 0.9), (0.2, 0.35), (8, 24), (0.02, 0.06)),  # low sun
    _Weather((0.035, 0.08), (0.0, 0.02), (0.06, 0.25), (30, 60), (0.5, 0.9)),  # dusk
    _Weather((0.005, 0.12), (0.03, 0.12), (0.008, 0.03), (40, 80), (0.03, 0.1)),  # night
)


def draw_light(rng: Rng, *, wide: bool) -> Light:
    """Draw a time of day and a weather; ``wide`` has more night and coloured light than is real."""
    shares = [weather.share[wide] for weather in _WEATHERS]
    kind = int(rng.choice(len(_WEATHERS), p=np.array(shares) / sum(shares)))
    weather, night = _WEATHERS[kind], kind == len(_WEATHERS) - 1
    height, around = np.radians(rng.uniform(*weather.elevation)), rng.uniform(0, 2 * np.pi)
    level = np.cos(height)
    warmth = rng.uniform(0, 1) + 1.5 * (height < 0.4) + 1.5 * night
    tint = np.exp(rng.normal(0, 0.1 if wide and rng.random() < 0.25 else 0.01, 3))
    return Light(
        direction=np.array([level * np.cos(around), level * np.sin(around), np.sin(height)]),
        sun=rng.uniform(*weather.sun) * np.array([1.06, 1.0, 0.9]) ** warmth * tint,
        sky=rng.uniform(*weather.sky) * np.array([0.97, 1.0, 1.04]) ** rng.uniform(0, 1.5) * tint,
        softness=rng.uniform(*weather.softness),
        night=night,
    )
