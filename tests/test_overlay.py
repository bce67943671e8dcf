"""Keypoints drawn into a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

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
