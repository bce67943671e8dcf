"""Keypoints drawn into a picture, and pictures laid on a sheet."""

from __future__ import annotations

import numpy as np
from PIL import Image

from multitasknet.report.overlay import contact_sheet, draw_overlay


def test_an_overlay_marks_keypoints_and_leaves_the_image_alone() -> None:
    image = Image.new("RGB", (100, 80), "gray")
    pose = np.zeros((36, 3), np.float32)
    pose[3] = 50, 40, 1
    pose[20] = -20, 500, 0.2
    overlay = draw_overlay(image, pose)
    assert overlay.size == image.size
    assert overlay.getpixel((50, 40)) == (255, 214, 0)
    assert overlay.getpixel((50, 60)) == image.getpixel((50, 60)) == (128, 128, 128)
    sheet = contact_sheet([(overlay, "a"), (image, "b"), (image, "c")], columns=2, cell=50)
    assert sheet.size[0] == 100
    assert sheet.getpixel((25, 25)) != (255, 255, 255)
