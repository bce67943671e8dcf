"""The PAMTRI label CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multitasknet import LabelError, read_labels

ROW = ["a.jpg", "12", "5", "1", *[str(n / 10) for n in range(108)]]


def write(path: Path, *rows: list[str]) -> Path:
    path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def changed(column: int, value: str) -> list[str]:
    return [*ROW[: column - 1], value, *ROW[column:]]


def test_a_row_is_read_as_it_stands(tmp_path: Path) -> None:
    rows = read_labels(write(tmp_path / "label.csv", ROW, ["b.jpg", *ROW[1:]]))
    assert list(rows) == ["a.jpg", "b.jpg"]
    row = rows["a.jpg"]
    assert (row.vehicle_id, row.color_id, row.type_id) == (12, 5, 1)
    np.testing.assert_allclose(row.keypoints.reshape(-1), np.arange(108) / 10, atol=1e-5)


@pytest.mark.parametrize(
    ("row", "named"),
    [
        (ROW[:-1], "111 columns; expected 112"),
        ([*ROW, "1"], "113 columns; expected 112"),
        (changed(1, ""), "column 1 (image) is empty"),
        (changed(2, "x"), "column 2 is 'x'; expected a number"),
        (changed(3, "1.5"), "column 3 is '1.5'; expected a whole number"),
        (changed(50, "nan"), "column 50 is 'nan'; expected a finite number"),
        (changed(51, "inf"), "column 51 is 'inf'"),
        (changed(112, ""), "column 112 is ''"),
        (changed(2, "1_000"), "column 2 is '1_000'; expected a whole number"),
        (changed(2, "\uff11\uff12"), "column 2 is '\uff11\uff12'; expected a whole number"),
        (changed(3, "-3"), "column 3 is '-3'; expected a class id"),
        (changed(4, "-1"), "column 4 is '-1'; expected a class id"),
        (changed(60, "1e39"), "column 60 is '1e39'; expected a finite number"),
    ],
)
def test_a_bad_row_is_named_by_file_line_and_value(
    tmp_path: Path, row: list[str], named: str
) -> None:
    path = write(tmp_path / "label.csv", ["first.jpg", *ROW[1:]], row)
    with pytest.raises(LabelError) as refused:
        read_labels(path)
    assert str(refused.value).startswith(f"{path}:2: {named}")


def test_large_ids_stay_apart(tmp_path: Path) -> None:
    ids = ("20221231235959001", "20221231235959002", "12.0")
    rows = [[f"{index}.jpg", text, *ROW[2:]] for index, text in enumerate(ids)]
    read = read_labels(write(tmp_path / "label.csv", *rows)).values()
    assert [row.vehicle_id for row in read] == [20221231235959001, 20221231235959002, 12]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    path = write(tmp_path / "label.csv", ROW)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_labels(path)) == ["a.jpg"]


def test_all_problems_come_at_once_up_to_twenty(tmp_path: Path) -> None:
    path = write(tmp_path / "label.csv", *[[f"{n}.jpg"] for n in range(23)])
    with pytest.raises(LabelError) as refused:
        read_labels(path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "... and 3 more"


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_an_empty_or_binary_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "label.csv"
    path.write_bytes(content)
    with pytest.raises(LabelError, match=r"label\.csv"):
        read_labels(path)


def test_a_duplicate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r":2: image 'a\.jpg' has a row already"):
        read_labels(write(tmp_path / "label.csv", ROW, ROW))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "label.csv"
    path.write_bytes(content)
    with pytest.raises(LabelError):
        read_labels(path)
