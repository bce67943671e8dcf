"""Pictures: which files are pictures, and what is read of them."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from multitasknet import ImageError, find_images, open_picture, picture_of
from multitasknet.images import MOST_PIXELS, encode_jpeg, read_image, resize

NOISE = np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)


def test_exif_orientation_and_other_modes_are_honoured(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8)
    turned = Image.fromarray(np.rot90(pixels).copy())
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise by a viewer
    turned.save(tmp_path / "turned.png", exif=exif)
    path = tmp_path / "turned.png"
    for image in (path, str(path), Image.open(path), Image.fromarray(pixels), pixels):
        np.testing.assert_array_equal(read_image(image), pixels)
    Image.fromarray(pixels).convert("L").save(tmp_path / "gray.png")
    assert read_image(tmp_path / "gray.png").shape == (60, 40, 3)


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("nowhere.jpg", "nowhere.jpg: the image cannot be read (no such file)"),
        (np.zeros((4, 4)), "float64 [4, 4]; expected uint8 [H, W, 3]"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "uint8 [0, 4, 3]"),
        *((content, "car.jpg: the image cannot be read") for content in (
            *(b"", b"no image at all", b"\xff\xd8\xff\xe0 cut", encode_jpeg(NOISE, 90)[:2000]),
            *(b"DDS " + b"\xff" * 200, b"\0\0\0\x20ftypavif" + b"\1" * 300),
        )),
        (b"no picture", "car.jpg: the image cannot be read (no format of pictures that is known)"),
    ],
)  # fmt: skip
def test_a_bad_image_is_named(image: Any, named: str) -> None:
    with pytest.raises(ImageError) as refused:
        (picture_of(image, "car.jpg") if isinstance(image, bytes) else open_picture(image)).decode()
    assert named in str(refused.value)
    if isinstance(image, bytes):
        with pytest.raises(ImageError, match=r"car\.jpg"):
            picture_of(image, "car.jpg").decode((8, 8))


def test_colours_and_shades_are_those_that_people_see(tmp_path: Path) -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=1)
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save(tmp_path / "alpha.png")
    for name in ("alpha.png", "palette.png"):  # no hidden colour
        assert np.unique(read_image(tmp_path / name)).tolist() == [128]
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    red, green, blue = read_image(tmp_path / "cmyk.jpg")[8, 8]
    assert red > 200 and green < 60 and blue < 60
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    pixels = read_image(tmp_path / "ramp.png")
    assert (pixels.min(), pixels.max()) == (0, 255)
    np.testing.assert_allclose(pixels[..., 0], ramp / 257, atol=1)
    colors = np.linspace(0, 65535, 192).astype(np.uint16).reshape(8, 8, 3)
    (tmp_path / "deep.png").write_bytes(deep_png(colors))
    np.testing.assert_array_equal(read_image(tmp_path / "deep.png"), colors >> 8)
    Image.fromarray(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match=r"f\.tif.*what white is in them is unknown"):
        read_image(tmp_path / "f.tif")


@pytest.mark.parametrize(("side", "divisor"), [(255, 1), (256, 2), (512, 4), (1024, 8), (2100, 8)])
def test_a_jpeg_far_larger_than_needed_is_read_at_a_part_of_its_size(
    tmp_path: Path, side: int, divisor: int
) -> None:
    across, down = np.meshgrid(np.linspace(0, 255, side + 40), np.linspace(0, 255, side))
    picture = Image.fromarray(np.stack([across, down, 255 - down], 2).astype(np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6  # to be turned clockwise by a viewer
    picture.save(tmp_path / "large.jpg", quality=95, exif=exif)
    picture.save(tmp_path / "large.png", exif=exif)
    whole = read_image(tmp_path / "large.jpg")
    pixels, found = open_picture(tmp_path / "large.jpg").decode((16, 32))
    assert found == divisor
    assert open_picture(tmp_path / "large.jpg").shape == whole.shape[:2]
    assert pixels.shape == (*(-(-length // divisor) for length in whole.shape[:2]), 3)
    wanted = resize(whole, pixels.shape[:2]).astype(int)
    assert np.abs(pixels - wanted).mean() < 2
    if divisor == 1:
        np.testing.assert_array_equal(pixels, whole)
    for same in (tmp_path / "large.png", picture, whole):
        as_it_is, one = open_picture(same).decode((16, 32))
        np.testing.assert_array_equal(as_it_is, read_image(same))
        assert one == 1


def test_what_no_decoder_reports_is_not_promised(tmp_path: Path) -> None:
    """A JPEG with its second half cut out passes; docs/reliability.md says so."""
    content = encode_jpeg(NOISE, 95)
    cut = content[: len(content) // 2] + b"\xff\xd9"
    assert picture_of(cut, "cut").decode()[0].shape == NOISE.shape
    stated = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
    assert "closed by an end marker is not noticed" in stated.read_text()


@pytest.mark.parametrize("largest", [200, 0x3FF, 0xFFF])
@pytest.mark.parametrize("mode", ["I", "I;16", "png", "rgb"])
def test_16_bits_that_hold_fewer_are_refused_and_not_black(tmp_path, mode, largest) -> None:
    values = np.linspace(0, largest, 64).astype(np.uint16).reshape(8, 8)
    image: Image.Image | Path = tmp_path / "deep.png"
    if mode == "rgb":
        image.write_bytes(deep_png(np.stack([values] * 3, axis=2)))
    elif mode == "png":
        Image.fromarray(values).save(image)
    else:
        image = Image.fromarray(values.astype(np.int32) if mode == "I" else values)
    with pytest.raises(ImageError, match=r"they seem to hold \d+ bits; save it with 8 bits"):
        read_image(image)


@pytest.mark.parametrize("width", [54, 72, 720])
def test_a_dark_bmp_is_not_taken_for_one_of_16_bits(tmp_path: Path, width: int) -> None:
    # Whose rows have 162, 216 and 2160 bytes.
    pixels = np.full((30, width, 3), 9, np.uint8)
    Image.fromarray(pixels).save(tmp_path / "night.bmp")
    np.testing.assert_array_equal(read_image(tmp_path / "night.bmp"), pixels)


def test_no_picture_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostScript is a program, which Pillow has Ghostscript run."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho started > {tmp_path / 'started'}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n%%EOF\n"
    with pytest.raises(ImageError, match=r"car\.jpg: .*it is PostScript, which is a program"):
        picture_of(content, "car.jpg").decode()
    assert not (tmp_path / "started").exists()


def deep_png(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write; uint16 ``[H, W, 3]``."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_with_more_pixels_than_memory_is_refused_with_the_numbers(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"big.{suffix}"
    Image.new("1" if suffix == "png" else "L", (MOST_PIXELS // 2048 + 1, 2048)).save(path)
    with pytest.raises(ImageError, match=r"32769 x 2048 pixels, 67 million; expected at most 67"):
        read_image(path)


def test_pipes_devices_and_videos_are_no_pictures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    for path in (tmp_path / "x.jpg", Path("/dev/zero")):
        with pytest.raises(ImageError, match="no regular file"):
            open_picture(path)
    (tmp_path / "cam.MP4").write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(ImageError, match=r"cam\.MP4.*it is a video; save its frames"):
        open_picture(tmp_path / "cam.MP4")


def test_a_picture_is_read_once_and_knows_its_hash_and_time(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 30), (200, 10, 10))
    exif = image.getexif()
    exif[0x0132] = "2026:11:03 07:08:09"
    path = tmp_path / "car.jpg"
    image.save(path, exif=exif)
    content = path.read_bytes()
    picture = open_picture(path)
    path.unlink()
    assert (picture.name, picture.shape) == (str(path), (30, 40))
    assert picture.sha256 == hashlib.sha256(content).hexdigest()
    assert picture.taken_at == datetime(2026, 11, 3, 7, 8, 9)
    pixels, divisor = picture.decode()
    assert (pixels.shape, divisor) == ((30, 40, 3), 1)
    same = picture_of(content, "upload 1")
    assert (same.name, same.sha256) == ("upload 1", picture.sha256)
    array = open_picture(pixels, name="frame 7")
    assert (array.name, array.shape, array.taken_at) == ("frame 7", (30, 40), None)
    assert array.sha256 == open_picture(pixels.copy()).sha256
    assert array.sha256 != open_picture(pixels.reshape(40, 30, 3)).sha256


def test_a_folder_s_links_are_followed_once_and_what_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch, caplog
) -> None:
    for place in ("crops", "disk/cam1", "crops/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / place / "a.png")
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
    jpeg = encode_jpeg(np.zeros((8, 8, 3), np.uint8), 90)
    kept = ["a.jpg", "b.JPEG", "c.jfif", "d.tif", "e.gif", "f.avif", "sub/g.png", "sub/h.webp"]
    hidden = ["._a.jpg", ".ipynb_checkpoints/a.jpg", "@eaDir/a.jpg", "__MACOSX/a.jpg"]
    others = ["notes.txt", "cam.mp4", "label_train.csv"]
    for name in (*kept, *hidden, *others):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
    (tmp_path / "crops" / "z.jpg").mkdir()
    assert find_images(tmp_path / "crops") == sorted(tmp_path / "crops" / name for name in kept)
    assert "crops: 4 hidden pictures passed over, such as" in caplog.text
    with pytest.raises(ImageError, match="no such folder"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match=r"empty: no picture found \(a name in \.jpg"):
        find_images(tmp_path / "empty")


@pytest.mark.parametrize("suffix", ["tif", "jfif", "gif", "avif", "webp", "bmp"])
def test_further_kinds_of_files_are_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"car.{suffix}"
    try:
        Image.new("RGB", (32, 24), (200, 10, 10)).save(path, "JPEG" if suffix == "jfif" else None)
    except (KeyError, ValueError, OSError):
        pytest.skip(f"this Pillow does not write {suffix}")
    red, green, blue = read_image(path)[12, 16]
    assert red > 180 and green < 40 and blue < 40
