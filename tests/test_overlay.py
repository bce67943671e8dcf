"""What reports draw: keypoints in a picture, cameras on a map."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from multitasknet.report.charts import draw_map
from multitasknet.report.overlay import draw_overlay


def test_an_overlay_marks_keypoints_and_leaves_the_image_alone() -> None:
    image = Image.new("RGB", (100, 80), "gray")
    pose = np.zeros((36, 3), np.float32)
    pose[3] = 50, 40, 1
    pose[20] = -20, 500, 0.2
    overlay = draw_overlay(image, pose)
    assert overlay.size == image.size
    assert overlay.getpixel((50, 40)) == (255, 214, 0)
    assert overlay.getpixel((50, 60)) == image.getpixel((50, 60)) == (128, 128, 128)


def test_a_map_is_north_up_and_true_to_scale() -> None:
    cameras = {"home": (60.0, 8.0), "north": (60.01, 8.0), "east": (60.0, 8.02)}
    svg = draw_map(cameras, {("north", "east"): 3})
    texts = re.findall(r'x="([\d.]+)" y="([\d.]+)"[^>]*>(\w+)</text>', svg)
    places = {text: np.array([float(x), float(y)]) for x, y, text in texts}
    assert set(places) == {*cameras, "3"}
    to_north, to_east = (places[name] - places["home"] for name in ("north", "east"))
    # On 60 degrees of latitude a degree of longitude is half as long.
    assert to_north == pytest.approx([0, -to_east[0]], rel=1e-2, abs=0.1)
    assert to_east == pytest.approx([-to_north[1], 0], rel=1e-2, abs=0.1) and to_east[0] > 0
