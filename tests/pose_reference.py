"""Everything around the pose network in plain float64 NumPy, for clarity and not for speed.

Written from the published description alone, to judge the package: nothing of it is imported.
Points are ``[..., 2]`` as (x, y). Pixel (x, y) of an image is ``image[y, x]``; integer coordinates
are pixel centres.
"""

from __future__ import annotations

import math

import numpy as np

INPUT, MAP, JOINTS, SIDE = 256, 64, 36, 18
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIGMA, RADIUS = 2, 6
SWAPPED = [*range(SIDE, JOINTS), *range(SIDE)]
GROUPS = {
    "Wheel": range(2),
    "Fender": range(2, 10),
    "Back": (10, 11),
    "Front": (16, 17),
    "WindshieldBack": (12, 13),
    "WindshieldFront": (14, 15),
}


def to_image(cells: np.ndarray, width: int, height: int, cell: float = MAP) -> np.ndarray:
    """Cells of the square 1.25 times as large as the image to pixels of the image."""
    return (cells / cell - 0.5) * 1.25 * max(width, height) + np.array([width, height]) / 2


def warp(image: np.ndarray) -> np.ndarray:
    """``[H, W, 3]`` to float ``[256, 256, 3]``, unrounded: each input pixel looks up its source.

    Bilinear; every pixel outside of the image is 0.
    """
    height, width = image.shape[:2]
    points = np.stack(np.meshgrid(np.arange(INPUT), np.arange(INPUT)), -1)
    points = to_image(points, width, height, INPUT)
    x0, y0 = (np.floor(points[..., i]).astype(int) for i in (0, 1))
    total = np.zeros((INPUT, INPUT, 3))
    for x in (x0, x0 + 1):
        for y in (y0, y0 + 1):
            weight = (1 - abs(points[..., 0] - x)) * (1 - abs(points[..., 1] - y))
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            total[inside] += (weight[inside] * image[y[inside], x[inside]].T.astype(float)).T
    return total


def normalise(image: np.ndarray) -> np.ndarray:
    """RGB ``[H, W, 3]`` in 0..255 to ``[3, H, W]``."""
    return ((image / 255 - np.array(MEAN)) / np.array(STD)).transpose(2, 0, 1)


def targets(joints: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints in input pixels ``[36, 2]`` to maps ``[36, 64, 64]`` and weights ``[36]``."""
    maps, weights = np.zeros((JOINTS, MAP, MAP)), np.zeros(JOINTS)
    for joint in range(JOINTS):
        mu_x, mu_y = (int(value / (INPUT // MAP) + 0.5) for value in joints[joint])
        for y in range(max(0, mu_y - RADIUS), min(MAP, mu_y + RADIUS + 1)):
            for x in range(max(0, mu_x - RADIUS), min(MAP, mu_x + RADIUS + 1)):
                if visible[joint]:
                    d2 = (x - mu_x) ** 2 + (y - mu_y) ** 2
                    maps[joint, y, x] = math.exp(-d2 / (2 * SIGMA**2))
                    weights[joint] = visible[joint]
    return maps, weights


def nvlabs_loss(maps: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """Mean over joints of half the mean square; ``[B, 36, 64, 64]`` twice and ``[B, 36]``."""
    difference = weights[:, :, None, None] * (maps.astype(float) - wanted)
    return float(np.mean([0.5 * np.mean(difference[:, joint] ** 2) for joint in range(JOINTS)]))


def flip_average(maps: np.ndarray, of_mirrored: np.ndarray) -> np.ndarray:
    """Maps ``[36, 64, 64]`` of an input, with those of the input mirrored, as in the flip test."""
    back = of_mirrored[SWAPPED][:, :, ::-1]
    shifted = back.copy()
    shifted[:, :, 1:] = back[:, :, :-1]
    return (maps + shifted) / 2


def decode(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``[36, 64, 64]`` to points in map cells ``[36, 2]`` and confidences ``[36]``, unclipped."""
    points, confidences = np.zeros((JOINTS, 2)), np.zeros(JOINTS)
    for joint, one in enumerate(maps):
        confidences[joint] = one.max()
        if confidences[joint] <= 0:
            continue
        y, x = divmod(int(one.argmax()), MAP)
        points[joint] = x, y
        if 1 < x < MAP - 1 and 1 < y < MAP - 1:
            points[joint, 0] += 0.25 * np.sign(one[y, x + 1] - one[y, x - 1])
            points[joint, 1] += 0.25 * np.sign(one[y + 1, x] - one[y - 1, x])
    return points, confidences


def published_metric(
    points: np.ndarray, confidences: np.ndarray, joints: np.ndarray, visible: np.ndarray
) -> dict[str, float]:
    """The figures that both ports print, in percent, under the names they have there.

    Points and joints ``[N, 36, 2]`` in pixels of the image, confidences and visibility ``[N, 36]``.
    A joint that is visible in no image makes its group NaN.
    """
    error = np.sqrt(((points - joints) ** 2).sum(-1) + (confidences - visible) ** 2)
    seen = visible == 1

    def share(threshold: float, chosen: np.ndarray) -> float:
        if not chosen.any():
            return math.nan
        return 100 * float((error[chosen] <= threshold * 0.25 * math.sqrt(len(points))).mean())

    figures = {"Mean": share(0.5, seen), "Mean@0.1": share(0.11, seen)}
    for name, group in GROUPS.items():
        both = [joint + side for joint in group for side in (0, SIDE)]
        shares = [share(0.5, seen & (np.arange(JOINTS) == joint)) for joint in both]
        figures[name] = float(np.mean(shares))
    return figures
