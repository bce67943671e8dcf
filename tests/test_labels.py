"""Label files and text: encodings, PAMTRI's CSV as tools write it, and which row is whose."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import DataError, read_labels
from multitasknet.data.file_names import camera_in, path_in, vehicle_in
from multitasknet.data.labels import LabelRow, keypoints_of, match
from multitasknet.data.text import read_lines, read_text

ROW = ["a.jpg", "12", "5", "1", *[str(n / 10) for n in range(108)]]


def write(path: Path, *rows: list[str], delimiter: str = ",") -> Path:
    path.write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def changed(column: int, value: str) -> list[str]:
    return [*ROW[: column - 1], value, *ROW[column:]]


# Encodings

CARS = "\u8f66 caf\u00e9"


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        (None, "utf-8"),
        (None, "utf-8-sig"),
        (None, "utf-16"),
        ("utf-8", "utf-8"),
        ("GB2312", "gb18030"),
        ("gbk", "gb18030"),
        ("UTF-16", "utf-16"),
        # Saved again by an editor that did not look at the declaration.
        ("utf-16", "utf-8"),
        ("no-such-thing", "utf-8"),
    ],
)
def test_text_is_read_in_the_encoding_that_it_has(
    tmp_path: Path, declared: str | None, encoding: str
) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>\n' if declared else ""
    content = f"{head}{CARS}\n \n  last\n".encode(encoding)
    (tmp_path / "list").write_bytes(content)
    assert read_text(tmp_path / "list") == f"{head}{CARS}\n \n  last\n"
    # Standard input comes as bytes, too.
    (*_, (place, last)) = read_lines(io.BytesIO(content))
    assert (place, last) == (f"standard input:{4 if head else 3}", "last")
    assert CARS in [line for _, line in read_lines(tmp_path / "list")]


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"a\xff\xfe\xfdb")
    with pytest.raises(DataError, match=r"x: .*save it as UTF-8"):
        read_text(tmp_path / "x")
    with pytest.raises(DataError, match=r"nowhere: .*No such file"):
        read_text(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "vehicle", "camera"),
    [
        ("0002_c002_00030600_0.jpg", 2, 2),
        ("0011_c1s1_000151_01.jpg", 11, 1),
        ("0012_001_02_0303morning_0015_0.jpg", 12, 2),
        ("-1_c3s2_000023_01.jpg", -1, 3),
        ("0007_C04.png", 7, 4),
        ("000001.jpg", 1, -1),
        ("0" * 30 + "7_c1.jpg", 7, 1),
        ("9" * 19 + ".jpg", 0, -1),
        ("car.jpg", 0, -1),
        ("0002_color.jpg", 2, -1),
    ],
)
def test_names_state_vehicle_and_camera(name: str, vehicle: int, camera: int) -> None:
    assert (vehicle_in(name), camera_in(name)) == (vehicle, camera)


# Rows


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_rows_as_spreadsheets_write_them(tmp_path: Path, delimiter: str) -> None:
    row = ["crops\\a.jpg", "12.0", "5,0", "1", *[one.replace(".", ",") for one in ROW[4:]]]
    (read,) = read_labels(write(tmp_path / "label.csv", row, delimiter=delimiter)).values()
    assert (read.image, read.vehicle_id, read.color_id) == ("crops/a.jpg", 12, 5)
    np.testing.assert_allclose(read.keypoints.reshape(-1), np.arange(108) / 10, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (ROW[:-1], "111 columns; expected 112"),
        (changed(1, ""), "column 1 (image) is ''"),
        (changed(2, "x"), "column 2 is 'x'; expected a whole number"),
        (changed(3, "1.5"), "column 3 is '1.5'; expected a whole number"),
        (changed(50, "nan"), "column 50 is 'nan'; expected a finite number"),
        (changed(2, "9" * 19), "column 2 is '9999999999999999999'; expected a whole number"),
        (changed(2, "1_000"), "column 2 is '1_000'; expected a whole number"),
        (changed(3, "-3"), "column 3 is -3; expected a class id"),
        (changed(60, "1e39"), "column 60 is '1e39'; expected a finite number"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_value(
    tmp_path: Path, row: list[str], named: str
) -> None:
    path = write(tmp_path / "label.csv", ["first.jpg", *ROW[1:]], row)
    with pytest.raises(DataError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}:2: {named}")


def test_large_ids_stay_apart(tmp_path: Path) -> None:
    ids = ("20221231235959001", "20221231235959002", "12.0")
    rows = [[f"{index}.jpg", text, *ROW[2:]] for index, text in enumerate(ids)]
    read = read_labels(write(tmp_path / "label.csv", *rows)).values()
    assert [row.vehicle_id for row in read] == [20221231235959001, 20221231235959002, 12]


def test_all_problems_come_at_once_up_to_twenty(tmp_path: Path) -> None:
    path = write(tmp_path / "label.csv", *[[f"{n}.jpg"] for n in range(23)])
    with pytest.raises(DataError) as refused:
        read_labels(path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 21 and lines[-1] == "... and 3 more"


# Which row is whose


def rows_of(tmp_path: Path, *images: str) -> dict[str, LabelRow]:
    return read_labels(write(tmp_path / "l.csv", *[[one, *ROW[1:]] for one in images]))


def test_rows_that_could_be_of_two_images_are_refused_and_others_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = rows_of(tmp_path, "cam1/000001.jpg", "cam2/000001.jpg", "cam3/7.jpg")
    images = [Path("cam1/000001.jpg"), Path("cam2/000001.jpg"), Path("cam1/../cam1/000001.jpg")]
    with caplog.at_level(logging.WARNING):
        assert match(images, rows, "label rows", str) == [path_in(str(one)) for one in images]
    assert "1 of 3 label rows match none of the 3 images, such as cam3/7.jpg" in caplog.text
    rows_of(tmp_path, "000001.jpg")
    with pytest.raises(DataError, match=r"l\.csv:1: the image '000001.jpg' may be .*cam1.* or "):
        keypoints_of(images, tmp_path / "l.csv")
    assert keypoints_of(images, None) == [None] * 3
    (found, nothing) = keypoints_of(["x/000001.jpg", "y.jpg"], tmp_path / "l.csv")
    assert found.shape == (36, 3) and nothing is None


segments = st.lists(st.sampled_from(["a", "b", "c.jpg", "..", "."]), min_size=1, max_size=6)


@settings(deadline=None)
@given(segments, st.lists(segments, max_size=5))
def test_a_row_found_is_an_end_of_the_images_path(image: list[str], rows: list[list[str]]) -> None:
    names = {name for row in rows if (name := path_in("/".join(row)))}
    path = "/" + path_in("/root/" + "/".join(image)).lstrip("/")
    (found,) = match([path], names, "rows", str)
    fitting = [name for name in names if path.endswith("/" + name)]
    assert found == (max(fitting, key=len) if fitting else None)
