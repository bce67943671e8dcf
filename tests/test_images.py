"""Pictures: which files are pictures, and what is read of them."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from multitasknet import ImageError, Picture, find_images, open_picture
from multitasknet.images import MOST_PIXELS, encode_jpeg, read_image, resize, size_of

NOISE = np.random.default_rng(0).integers(0, 256, (99, 66, 3), dtype=np.uint8)


def saved(path: Path, image: Any, **options: Any) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def turned(image: Image.Image) -> Image.Exif:
    """What makes a viewer turn the picture clockwise."""
    exif = image.getexif()
    exif[0x0112] = 6
    return exif


def test_every_form_of_a_picture_gives_its_upright_pixels(tmp_path: Path) -> None:
    image = Image.fromarray(np.rot90(NOISE).copy())
    path = saved(tmp_path / "turned.png", image, exif=turned(image))
    for form in (path, str(path), Image.open(path), Image.fromarray(NOISE), NOISE):
        np.testing.assert_array_equal(read_image(form), NOISE)
    assert open_picture(path).shape == (99, 66)


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("nowhere.jpg", "nowhere.jpg: the image cannot be read (no such file)"),
        (np.zeros((4, 4)), "float64 [4, 4]; expected uint8 [H, W, 3]"),
        (b"", "car.jpg: the image cannot be read (no format of pictures that is known)"),
        (encode_jpeg(NOISE, 90)[:2000], "car.jpg: the image cannot be read"),
        # A program, which Pillow would have Ghostscript run.
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n%%EndComments\n", "it is PostScript"),
    ],
)
def test_a_bad_image_is_named(image: Any, named: str) -> None:
    for size in (None, (8, 8)):
        with pytest.raises(ImageError) as refused:
            is_content = isinstance(image, bytes)
            (Picture("car.jpg", image) if is_content else open_picture(image)).decode(size)
        assert named in str(refused.value)


def test_colours_and_shades_are_those_that_people_see(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    for image, options in ((palette, {"transparency": 1}), (clear, {})):  # no hidden colour
        path = saved(tmp_path / "alpha.png", image, **options)
        assert np.unique(read_image(path)).tolist() == [128]
    cmyk = saved(tmp_path / "cmyk.jpg", Image.new("CMYK", (16, 16), (0, 255, 255, 0)))
    red, green, blue = read_image(cmyk)[8, 8]
    assert red > 200 and green < 60 and blue < 60
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    gray = read_image(saved(tmp_path / "ramp.png", ramp))
    np.testing.assert_allclose(gray, np.stack([ramp / 257] * 3, axis=2), atol=1)
    colors = np.linspace(0, 65535, 192).astype(np.uint16).reshape(8, 8, 3)
    cv2.imwrite(str(tmp_path / "deep.png"), colors[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), colors >> 8)
    dark = np.full((30, 54, 3), 9, np.uint8)  # and not for 16 bits, by the 162 bytes of its rows
    np.testing.assert_array_equal(read_image(saved(tmp_path / "night.bmp", dark)), dark)


@pytest.mark.parametrize("mode", ["I", "I;16", "F", "png", "rgb"])
def test_deep_values_of_unknown_scale_are_refused_and_not_black(tmp_path: Path, mode: str) -> None:
    values = np.linspace(0, 0xFFF, 64).astype(np.uint16).reshape(8, 8)
    kinds = {"I": np.int32, "I;16": np.uint16, "F": np.float32}
    image: Any = tmp_path / "deep.png"
    if mode in kinds:
        image = Image.fromarray(values.astype(kinds[mode]))
    else:
        cv2.imwrite(str(image), np.stack([values] * 3, axis=2) if mode == "rgb" else values)
    with pytest.raises(ImageError, match="save it with 8 "):
        read_image(image)


@pytest.mark.parametrize(("side", "divisor"), [(255, 1), (256, 2), (512, 4), (2100, 8)])
def test_a_jpeg_far_larger_than_needed_is_read_at_a_part_of_its_size(
    tmp_path: Path, side: int, divisor: int
) -> None:
    across, down = np.meshgrid(np.linspace(0, 255, side + 40), np.linspace(0, 255, side))
    image = Image.fromarray(np.stack([across, down, 255 - down], 2).astype(np.uint8))
    jpeg = saved(tmp_path / "large.jpg", image, quality=95, exif=turned(image))
    whole = read_image(jpeg)
    pixels, found = open_picture(jpeg).decode((16, 32))
    assert found == divisor and open_picture(jpeg).shape == whole.shape[:2]
    assert pixels.shape == (*(-(-length // divisor) for length in whole.shape[:2]), 3)
    assert np.abs(pixels - resize(whole, pixels.shape[:2]).astype(int)).mean() < 2
    for same in (saved(tmp_path / "large.png", image), image, whole):
        as_it_is, one = open_picture(same).decode((16, 32))
        np.testing.assert_array_equal(as_it_is, read_image(same))
        assert one == 1


def test_what_no_decoder_reports_is_not_promised() -> None:
    """A JPEG with its second half cut out passes; docs/reliability.md says so."""
    content = encode_jpeg(NOISE, 95)
    cut = content[: len(content) // 2] + b"\xff\xd9"
    assert Picture("cut", cut).decode()[0].shape == NOISE.shape
    stated = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
    assert "closed by an end marker, or with a hole of zeros, is not noticed" in stated.read_text()


def test_what_is_too_large_or_no_regular_file_is_no_picture(tmp_path: Path) -> None:
    big = saved(tmp_path / "big.png", Image.new("1", (MOST_PIXELS // 2048 + 1, 2048)))
    with pytest.raises(ImageError, match="32769 x 2048 pixels; expected at most 67 million"):
        read_image(big)
    os.mkfifo(tmp_path / "x.jpg")
    for path in (tmp_path / "x.jpg", Path("/dev/zero")):
        for read in (open_picture, size_of):
            with pytest.raises(ImageError, match="no regular file"):
                read(path)
    (tmp_path / "cam.MP4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(ImageError, match=r"cam\.MP4.*it is a video; save its frames"):
        open_picture(tmp_path / "cam.MP4")


def test_a_picture_is_read_once_and_knows_its_hash_and_time(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), (200, 10, 10))
    exif = image.getexif()
    exif[0x0132] = "2026:11:03 07:08:09"
    path = saved(tmp_path / "car.jpg", image, exif=exif)
    content = path.read_bytes()
    picture = open_picture(path)
    path.unlink()
    assert (picture.name, picture.shape) == (str(path), (30, 40))
    assert picture.sha256 == hashlib.sha256(content).hexdigest()
    assert picture.taken_at == datetime(2026, 11, 3, 7, 8, 9)
    pixels, _ = picture.decode()
    array = open_picture(pixels, name="frame 7")
    assert (array.name, array.shape, array.taken_at) == ("frame 7", (30, 40), None)
    assert array.sha256 == open_picture(pixels.copy()).sha256
    assert array.sha256 != open_picture(pixels.reshape(40, 30, 3)).sha256


def test_a_folder_s_links_are_followed_once_and_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    for place in ("crops", "disk/cam1", "crops/b"):
        (tmp_path / place).mkdir(parents=True)
        saved(tmp_path / place / "a.png", NOISE)
    for name, target in (("cam1", "disk/cam1"), ("again", "disk/cam1"), ("round", "crops")):
        (tmp_path / "crops" / name).symlink_to(tmp_path / target)
    closed, scandir = tmp_path / "crops" / "b", os.scandir

    def refused(path: str) -> object:
        if path == str(closed):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path / "crops")]
    assert found == ["crops/a.png", "crops/again/a.png"]
    assert f"{closed} is left out: Permission denied" in caplog.text


def test_a_folder_s_pictures_are_those_that_people_put_there(tmp_path: Path, caplog) -> None:
    kept = ["a.jpg", "b.JPEG", "c.jfif", "d.tif", "e.gif", "f.avif", "sub/g.png", "sub/h.webp"]
    hidden = ["._a.jpg", ".ipynb_checkpoints/a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg"]
    for name in (*kept, *hidden, "notes.txt", "cam.mp4"):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "crops" / "z.jpg").mkdir()
    assert find_images(tmp_path / "crops") == sorted(tmp_path / "crops" / name for name in kept)
    assert "crops: 4 hidden pictures passed over, such as" in caplog.text
    with pytest.raises(ImageError, match="no such folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ImageError, match=r"z\.jpg: no picture found \(a name in \.jpg"):
        find_images(tmp_path / "crops" / "z.jpg")
