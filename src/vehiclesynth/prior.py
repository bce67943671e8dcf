"""How vehicles stand before traffic cameras: as on real crops, or evenly spread for training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .chance import Rng

PRIORS = ("even", "real")
_LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
# Percentiles 5, 25, 50, 75, 95 of real crops: 2,899 of VeRi-776's test part.
_ELEVATION = (7.0, 10.6, 13.8, 17.3, 25.0)
_ROLL = (-9.3, -5.0, -0.73, 2.8, 9.0)
_DISTANCE = (13.8, 18.2, 23.5, 31.0, 74.0)  # metres, as fitted and a quarter more
_LONGER_SIDE = (118, 177, 233, 308, 494)
_MARGINS = {
    "left": (0.051, 0.059, 0.068, 0.081, 0.133),
    "right": (0.020, 0.044, 0.066, 0.097, 0.145),
    "top": (0.058, 0.067, 0.076, 0.106, 0.161),
    "bottom": (0.036, 0.061, 0.112, 0.160, 0.230),
}
# Share, mean and spread of the yaw in degrees: 0 shows the front, 90 the left side.
_YAWS = (
    (0.14, 0, 5),
    (0.24, 19, 7),
    (0.12, -15, 6),
    (0.10, 179, 5),
    (0.27, 161, 7),
    (0.12, 198, 8),
    (0.01, 92, 20),
    (0.02, 280, 15),
)
_REAL_SCALE = (0.42, 0.62, 0.80, 0.95, 1.0)


@dataclass(frozen=True)
class View:
    """How the camera sees the vehicle.

    Attributes:
        yaw: degrees; 0 shows the front, 90 the left side, 180 the rear.
        elevation: degrees above the horizon from which the camera looks down.
        roll: degrees by which the picture is turned clockwise.
        distance: metres from the camera to the vehicle's middle.
    """

    yaw: float
    elevation: float
    roll: float
    distance: float


@dataclass(frozen=True)
class Crop:
    """How a detector cuts the vehicle out."""

    # shares of the picture's width or height beyond the keypoints
    left: float
    right: float
    top: float
    bottom: float
    longer_side: int  # pixels
    scale: float  # the sensor saw it at this share of its size


def draw_view(rng: Rng, prior: str) -> View:
    """Draw a camera's side, height and distance."""
    if prior == "real":
        return View(
            yaw=_real_yaw(rng),
            elevation=max(_like(rng, _ELEVATION), 2.0),
            roll=_like(rng, _ROLL),
            distance=max(_like(rng, _DISTANCE), 9.0),
        )
    usual = rng.random() < 0.5
    return View(
        yaw=_real_yaw(rng) + rng.normal(0, 8) if usual else rng.uniform(0, 360),
        elevation=rng.uniform(2, 36) if rng.random() < 0.4 else max(_like(rng, _ELEVATION), 1.0),
        roll=rng.normal(0, 6),
        distance=float(np.exp(rng.uniform(np.log(8), np.log(70)))),
    )


def draw_crop(rng: Rng, prior: str, pixels: int) -> Crop:
    """Draw margins and size; ``pixels`` is the usual longer side."""
    margins = {side: _like(rng, values) for side, values in _MARGINS.items()}
    if prior == "real":
        longer = round(_like(rng, _LONGER_SIDE) * pixels / 256)
        scale = min(max(_like(rng, _REAL_SCALE), 0.2), 1.0)
        return Crop(**margins, longer_side=max(longer, pixels // 4), scale=scale)
    margins = {side: share + rng.normal(0, 0.03) for side, share in margins.items()}
    if rng.random() < 0.15:  # a box that cuts into the vehicle
        margins[str(rng.choice(list(margins)))] -= rng.uniform(0.08, 0.25)
    scale = float(np.exp(rng.uniform(np.log(0.22), 0))) if rng.random() < 0.5 else 1.0
    return Crop(**margins, longer_side=pixels, scale=scale)


def _real_yaw(rng: Rng) -> float:
    shares = np.array([share for share, _, _ in _YAWS])
    _, mean, spread = _YAWS[int(rng.choice(len(_YAWS), p=shares / shares.sum()))]
    return float(rng.normal(mean, spread) % 360)


def _like(rng: Rng, percentiles: tuple[float, ...]) -> float:
    """A draw from the distribution of these percentiles, its tails a little beyond them."""
    values = np.array(percentiles, float)
    low = values[0] - 0.3 * (values[1] - values[0])
    high = values[-1] + 0.3 * (values[-1] - values[-2])
    return float(np.interp(rng.random(), [0, *_LEVELS, 1], [low, *values, high]))
