"""The statistics of one picture that `realism.py` compares.

Grey is OpenCV's, 0 to 255; L*, a* and b* are OpenCV's of float RGB. "@128" is the picture resized
to a longer side of 128; the vehicle is the convex hull of its 36 points; a surface passes if its
corners' confidence is at least 0.5 and it is strictly convex.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from multitasknet.vehicle.keypoints import SURFACES, facing_surfaces, visible_surfaces

WINDSCREEN, BODY = (10,), (0, 1, 2, 3, 4, 5, 7, 11)


def measure_image(jpeg: bytes, keypoints: np.ndarray) -> dict[str, float]:
    """All that concerns the picture.

    NaN where there is nothing to measure: no windscreen, nothing beside the vehicle.

    Args:
        jpeg: the file's bytes.
        keypoints: ``[36, 3]`` as in the label file.
    """
    rgb = decode(jpeg)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = resize(grey.astype(np.float32), 128)
    lab = lab_of(rgb)
    height, width = grey.shape
    hull = cv2.convexHull(keypoints[:, :2].round().astype(np.int32))
    vehicle = cv2.fillConvexPoly(np.zeros_like(grey), hull, (1,))
    small_vehicle = cv2.resize(vehicle, small.shape[::-1], interpolation=cv2.INTER_NEAREST)
    edges = cv2.Laplacian(small, cv2.CV_32F)
    return {
        "width": width,
        "height": height,
        "longer side": max(width, height),
        "width / height": width / height,
        "JPEG quality": jpeg_quality(jpeg),
        "bits per pixel": 8 * len(jpeg) / grey.size,
        "brightness 0..255": float(grey.mean()),
        "contrast (std)": float(grey.std()),
        "saturation %": saturation(rgb),
        "a* (green to red)": float(lab[..., 1].mean()),
        "b* (blue to yellow)": float(lab[..., 2].mean()),
        "pixels < 16 %": float(100 * (grey < 16).mean()),
        "pixels > 240 %": float(100 * (grey > 240).mean()),
        "Laplacian variance @128": float(edges.var()),
        "top octave % @128": top_octave(small),
        "top octave % native": top_octave(grey),
        "noise, grey levels": noise(grey),
        "Laplacian var. on vehicle": over(np.var, edges[small_vehicle == 1]),
        "and beside it": over(np.var, edges[small_vehicle == 0]),
        "L* of the windscreen": float(panel_color(keypoints, lab, WINDSCREEN)[0]),
        "L* beside the vehicle": over(np.median, lab[vehicle == 0, 0]),
    }


def measure_pose(jpeg: bytes, keypoints: np.ndarray) -> dict[str, float]:
    """How the points ``[36, 3]`` lie in the picture, and which surfaces they span."""
    height, width = decode(jpeg).shape[:2]
    size, points = np.array([width, height]), keypoints[:, :2]
    low, high = points.min(axis=0), points.max(axis=0)
    left, top = 100 * low / size
    right, bottom = 100 * (size - high) / size
    inside = (np.clip(high, 0, size) - np.clip(low, 0, size)) / size
    outside = ((points < -0.02 * size) | (points > 1.02 * size)).any(axis=1)
    passing = visible_surfaces(keypoints)
    return {
        "points' box, % of image": float(100 * inside.prod()),
        "margin left, % of width": left,
        "margin right": right,
        "margin top, % of height": top,
        "margin bottom": bottom,
        "points outside by > 2 %": float(outside.sum()),
        "surfaces that pass (net)": len(passing),
        "of them facing away (net)": len(passing) - len(facing_surfaces(keypoints)),
    }


def body_color(jpeg: bytes, keypoints: np.ndarray) -> np.ndarray:
    """Median L*, a*, b* of the sides, the boot and the bonnet: ``[3]``, NaN where none shows."""
    return panel_color(keypoints, lab_of(decode(jpeg)), BODY)


def decode(jpeg: bytes) -> np.ndarray:
    """A file's pixels: uint8 ``[h, w, 3]``, RGB."""
    return np.asarray(Image.open(BytesIO(jpeg)).convert("RGB"))


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """L*, a* and b* of uint8 RGB."""
    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)


def resize(image: np.ndarray, longer: int) -> np.ndarray:
    """The image with this longer side: the area's average downwards, cubic upwards."""
    scale = longer / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, (width, height), interpolation=way)


def over(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    """A statistic of at least ten values, else NaN."""
    return float(statistic(values)) if values.size >= 10 else np.nan


def saturation(rgb: np.ndarray) -> float:
    """The mean over pixels of (max - min) / max, in %."""
    high, low = rgb.max(axis=2).astype(float), rgb.min(axis=2)
    return float(100 * ((high - low) / np.maximum(high, 1)).mean())


def noise(grey: np.ndarray) -> float:
    """Immerkaer's estimate of the standard deviation, over the flatter half of the picture."""
    grey = grey.astype(np.float32)
    kernel = np.outer([1, -2, 1], [1, -2, 1]).astype(np.float32)
    response = np.abs(cv2.filter2D(grey, -1, kernel))
    edges = np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 2), cv2.CV_32F))
    rough = cv2.GaussianBlur(edges, (0, 0), 3)
    return float(np.sqrt(np.pi / 2) / 6 * response[rough <= np.median(rough)].mean())


def top_octave(grey: np.ndarray) -> float:
    """The share of the energy at 0.25 to 0.5 cycles a pixel, in %.

    Of the half spectrum as the real transform gives it, Hann-windowed, without its mean.
    """
    height, width = grey.shape
    window = np.outer(np.hanning(height), np.hanning(width))
    energy = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    energy[0, 0] = 0
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    top = energy[(radius >= 0.25) & (radius <= 0.5)].sum()
    return float(100 * top / energy[radius <= 0.5].sum()) if top else 0.0


def jpeg_quality(jpeg: bytes) -> int:
    """The libjpeg setting whose luminance table has the nearest sum."""
    given = sum(JpegImageFile(BytesIO(jpeg)).quantization[0])
    return 1 + int(np.argmin(np.abs(table_sums() - given)))


@cache
def table_sums() -> np.ndarray:
    """The sum of libjpeg's luminance table at each quality from 1 to 100."""
    sums = []
    for quality in range(1, 101):
        file = BytesIO()
        Image.new("L", (8, 8)).save(file, "JPEG", quality=quality)
        sums.append(sum(JpegImageFile(BytesIO(file.getvalue())).quantization[0]))
    return np.array(sums)


def is_420(jpeg: bytes) -> bool:
    """Whether the colours are stored at half the resolution both ways."""
    return get_sampling(Image.open(BytesIO(jpeg))) == 2


def panel_color(keypoints: np.ndarray, lab: np.ndarray, surfaces: Iterable[int]) -> np.ndarray:
    """Median L*, a*, b* ``[3]`` of the surfaces that pass and face the camera, shrunk to 0.75.

    NaN where there are none.
    """
    points = keypoints[:, :2]
    inside = np.zeros(lab.shape[:2], dtype=np.uint8)
    for surface in set(surfaces).intersection(facing_surfaces(keypoints)):
        corners = points[list(SURFACES[surface])]
        corners = corners.mean(axis=0) + 0.75 * (corners - corners.mean(axis=0))
        cv2.fillConvexPoly(inside, corners.round().astype(np.int32), (1,))
    return np.median(lab[inside == 1], axis=0) if inside.any() else np.full(3, np.nan)
