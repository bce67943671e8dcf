"""Inputs that nobody should send, and outputs that cannot be: refused in words, before any work."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import drawn
import numpy as np
import pytest
import stores
from PIL import Image

from multitasknet.cli import main
from multitasknet.data.layouts import read_dataset
from multitasknet.errors import (
    CardError,
    CheckpointError,
    DataError,
    EngineError,
    OutputError,
    TrainingError,
)
from multitasknet.files import check_output, exclusive, replacing
from multitasknet.hub.card import load_card
from multitasknet.inference.metadata import Metadata
from multitasknet.models.base import check_memory
from multitasknet.models.multitasknet.spec import MultiTaskNetSpec
from multitasknet.report.page import Panel, Shot, thumbnail, write_page
from multitasknet.training.history import read_history
from multitasknet.training.settings import read_config
from multitasknet.weights.ckpt_file import _message_class
from multitasknet.weights.convert import convert
from multitasknet.weights.read import read_weights
from multitasknet.weights.sidecar import read_sidecar

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"
RANDOM = ["--weights", "none"]
DEEP = "[" * 2500


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("author: MindSpore team", f"author: {DEEP}"),
        ("https://example.com/a.ckpt", "http://["),
        ("https://example.com/a.ckpt", "http://a\u2100b/a.ckpt"),
        ("https://example.com/a.ckpt", "https://example.com/a b.ckpt"),
        ("https://example.com/a.ckpt", 'https://example.com/"a.ckpt'),
    ],
)
def test_a_hostile_card_is_refused(write_card: Callable[..., Path], before, after) -> None:
    path = write_card("https://example.com/a.ckpt")
    path.write_text(path.read_text().replace(before, after))
    with pytest.raises(CardError) as refused:
        load_card(path)
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize(
    "text",
    [
        DEEP,
        "[]",
        '{"settings": {}, "before": {}, "more": 1, "epochs": []}',
        '{"settings": {}, "before": {}, "epochs": [{"epoch": 1}]}',
        "\0",
    ],
)
def test_a_hostile_history_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "history.json").write_text(text)
    with pytest.raises(TrainingError, match=r"history\.json"):
        read_history(tmp_path / "history.json")


@pytest.mark.parametrize(
    "change",
    [
        {"vehicle_ids": [1e999]},
        {"metrics": {"mAP": "x"}},
        {"metrics": 3},
        {"origin": 5},
        {"size": "big"},
        {"colors": 5},
    ],
)
def test_a_hostile_sidecar_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    values = {
        "format": 1,
        "vehicle_ids": [1, 2],
        "color_ids": [],
        "type_ids": [],
        "size": [64, 64],
        "colors": list(MultiTaskNetSpec.color_names),
        "types": list(MultiTaskNetSpec.type_names),
        "metrics": {},
        "origin": {},
    }
    spec = MultiTaskNetSpec(num_ids=2)
    path = tmp_path / "w.json"
    path.write_text(json.dumps(values))
    assert read_sidecar(tmp_path / "w.ckpt", spec)
    path.write_text(json.dumps(values | change))
    with pytest.raises(CheckpointError, match=r"w\.json"):
        read_sidecar(tmp_path / "w.ckpt", spec)
    path.write_text(DEEP)
    with pytest.raises(CheckpointError, match=r"w\.json"):
        read_sidecar(tmp_path / "w.ckpt", spec)


@pytest.mark.parametrize(
    "change",
    [
        {"batch": "x"},
        {"batch": 0},
        {"precision": []},
        {"spec": {"color_names": [[1]]}},
        {"spec": {"num_ids": "many"}},
        {"spec": {"keypoint_aware": 3}},
        {"spec": {"input_size": [1, 2]}},
        {"spec": {"more": 1}},
        {"network": []},
    ],
)
def test_hostile_metadata_are_refused(change: dict[str, object]) -> None:
    (text,) = Metadata(MultiTaskNetSpec()).as_strings().values()
    value = json.loads(text)
    spec = value["spec"] | change.get("spec", {})
    for hostile in (json.dumps(value | change | {"spec": spec}), DEEP):
        with pytest.raises(EngineError, match="model"):
            Metadata.from_strings({"multitasknet": hostile}, "model")


def test_a_checkpoint_with_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    # The same entry, whose name is made invalid behind protobuf's back.
    message = _message_class()()
    entry = message.value.add()
    entry.tag = "nameless"
    entry.tensor.tensor_type, entry.tensor.tensor_content = "Float32", b"\0" * 4
    path = tmp_path / "w.ckpt"
    path.write_bytes(message.SerializeToString().replace(b"nameless", b"\xff" * 8))
    with pytest.raises(CheckpointError, match=r"w\.ckpt"):
        read_weights(path)


@pytest.mark.parametrize("value", ["&a [*a]", DEEP, "!!int abc", "{x: [1, {y: 2}]}"])
def test_a_hostile_setting_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "config.yaml").write_text(f"milestones: {value}")
    with pytest.raises(TrainingError, match=r"config\.yaml"):
        read_config(tmp_path / "config.yaml")


# Pictures


def test_a_pipe_in_a_data_set_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    (tmp_path / "train.csv").write_text("image,vehicle_id\nx.jpg,1\n")
    with pytest.raises(DataError, match=r"x\.jpg is no regular file"):
        read_dataset(tmp_path)


def test_a_stored_map_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    data = drawn.pamtri(tmp_path / "data", drawn.plan(), maps=True)
    first = next((data / "heatmap_train").glob("*/00.jpg"))
    first.unlink()
    os.mkfifo(first)
    from multitasknet.data.samples import load_maps

    record = next(
        one for one in read_dataset(data, ["train"]).train.records if one.heatmaps == first.parent
    )
    with pytest.raises(DataError, match=r"00\.jpg: the stored map cannot be read"):
        load_maps(record, (64, 64))


# Data sets


def csv_data(root: Path, image: str) -> Path:
    root.mkdir(parents=True)
    for split in ("train", "query", "gallery"):
        (root / f"{split}.csv").write_text(f"image,vehicle_id\n{image},1\n")
    return root


def test_pictures_may_lie_anywhere(tmp_path: Path) -> None:
    """Such as behind a link to another disk."""
    (tmp_path / "disk").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "disk" / "x.png")
    for name, image in (("up", "../disk/x.png"), ("absolute", str(tmp_path / "disk" / "x.png"))):
        assert len(read_dataset(csv_data(tmp_path / name, image)).train) == 1
    linked = csv_data(tmp_path / "linked", "crops/x.png")
    (linked / "crops").symlink_to(tmp_path / "disk")
    assert len(read_dataset(linked).train) == 1


def test_a_folder_without_a_split_is_refused(tmp_path: Path, capsys) -> None:
    for name in ("x.csv", "label_x.csv"):
        root = tmp_path / name.partition(".")[0]
        root.mkdir()
        (root / name).write_text("image,vehicle_id\n")
        assert main(["check-data", str(root)]) == 2
        assert "no known layout" in capsys.readouterr().err


# Outputs


def test_an_output_is_checked_before_any_work(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_text("keep")
    link.symlink_to(file)
    with pytest.raises(OutputError, match="is what is read as"):
        check_output(link, inputs=[file])
    with pytest.raises(OutputError, match="expected a folder"):
        check_output(file, folder=True)
    with pytest.raises(OutputError, match="expected a file"):
        check_output(tmp_path)
    check_output(tmp_path / "no" / "x")
    with pytest.raises(OutputError, match="cannot be written"):
        check_output(file / "below" / "x")
    with pytest.raises(OutputError, match=r"/proc.*cannot be written"):
        check_output(Path("/proc/x/s.png"))
    check_output(tmp_path / "new", folder=True)
    check_output(file)
    assert file.read_text() == "keep"
    assert sorted(tmp_path.iterdir()) == [file, link]


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "{w}", "{w}"],
        ["search", *RANDOM, "--gallery", "{d}", "--query", "{p}", "--output", "{p}"],
        ["search", *RANDOM, "--gallery", "{d}", "--query", "{p}", "--output", "/proc/x/s.html"],
        ["synthesize", "--output", "{d}/data", "--vehicles", "100000000"],
        ["synthesize", "--output", "{d}/data", "--images", "100000000"],
        ["synthesize", "--output", "{d}/data", "--cameras", "100000000"],
    ],
)
def test_an_output_that_cannot_be_is_refused_and_nothing_is_lost(
    command: list[str], tmp_path: Path, capsys
) -> None:
    photo, weights = tmp_path / "q.jpg", tmp_path / "w.ckpt"
    photo.write_bytes(PHOTO.read_bytes())
    weights.write_bytes(b"weights")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    given = [part.format(d=tmp_path, p=photo, w=weights) for part in command]
    start = time.process_time()
    assert main(given) == 2
    assert time.process_time() - start < 20
    assert "Traceback" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_second_process_is_refused_a_folder_in_use(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from multitasknet.files import *\n"
        "with exclusive(Path(sys.argv[1]), Path(sys.argv[1], '.lock')): pass"
    )
    other = [sys.executable, "-c", code, str(tmp_path)]
    with exclusive(tmp_path, tmp_path / ".lock"):
        refused = subprocess.run(other, capture_output=True, text=True)
    assert "another process is writing it" in refused.stderr
    assert subprocess.run(other).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_no_text_is_an_error_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="not UTF-8"), replacing(tmp_path / "x.csv") as part:
        part.write_text("a\udcff.jpg", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []


# Command lines


def test_without_a_home_folder_the_remedy_is_named(monkeypatch, capsys) -> None:
    def no_such_user(_: int) -> None:
        raise KeyError

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    assert main(["download"]) == 2
    assert "give the path in full (of the cache by MULTITASKNET_CACHE)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["info", "--weights", "~nosuchuser/w.ckpt"],
        ["info", "--weights", f"{'x' * 300}.md"],
        ["search", *RANDOM, "--gallery", "x" * 300, "--query", str(PHOTO)],
        ["group", "x" * 300, "--output", "groups"],
        ["predict", str(PHOTO), *RANDOM, "--size", "32000"],
    ],
)
def test_odd_arguments_are_one_line_and_exit_code_2(command, capsys) -> None:
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("multitasknet: error: ")
    assert all(line.startswith("multitasknet: ") for line in error)


def test_a_batch_beyond_the_memory_is_refused_with_the_numbers() -> None:
    with pytest.raises(EngineError, match=r"a batch of 8 at 32000x32000 .* [\d,.]+ GB"):
        check_memory(MultiTaskNetSpec(), (32000, 32000), 8)
    check_memory(MultiTaskNetSpec(), (256, 256), 8)


def run(arguments: list[str], **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "multitasknet", *arguments]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **options)


def test_names_that_the_terminal_cannot_show_are_printed(tmp_path: Path) -> None:
    root = os.fsencode(csv_data(tmp_path / "d", "a.png")).replace(b"/d", b"/\xe9\xff")
    (tmp_path / "d").rename(os.fsdecode(root))
    done = run(
        ["check-data", os.fsdecode(root)],
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONIOENCODING="ascii"),
    )
    assert done.returncode == 2
    assert "a.png does not exist" in done.stderr


def test_the_search_page_names_files_of_any_bytes(tmp_path: Path) -> None:
    shot = Shot(thumbnail(np.zeros((8, 8, 3), np.uint8)), "\udcff", "caf\udce9.jpg", "query")
    page = write_page(
        tmp_path / "x.html",
        "search.html",
        title="t",
        panels=[Panel("a\udce9", (shot,))],
        queries=1,
        gallery=1,
        weights="w",
        random=False,
    )
    assert "caf\\udce9.jpg" in page.read_text()


# A full disk, as a limit on the size of files


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def large_table(folder: Path, _: Path) -> None:
    gallery = stores.open_gallery(width=1024)
    embeddings = np.random.default_rng(0).normal(size=(99, 1024))
    rows = [stores.row(f"{n}", n, embedding=one) for n, one in enumerate(embeddings)]
    gallery.merge(rows, insert=True)
    with files_of_at_most(1 << 16):
        gallery.export(folder / "rows.parquet")


def large_weights(ending: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, checkpoint: Path) -> None:
        with files_of_at_most(1 << 20):
            convert(checkpoint, folder / f"w.{ending}")

    return write


def large_page(folder: Path, _: Path) -> None:
    with files_of_at_most(1 << 10):
        write_page(
            folder / "page.html",
            "search.html",
            title="t" * 10_000,
            panels=[],
            queries=1,
            gallery=1,
            weights="w",
            random=False,
        )


@pytest.mark.parametrize(
    "write",
    [large_table, large_weights("ckpt"), large_weights("safetensors"), large_page],
    ids=["index", "ckpt", "safetensors", "page"],
)
def test_a_full_disk_is_one_error_and_leaves_nothing(
    write: Callable[[Path, Path], None], tmp_path: Path, checkpoint: Path
) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write(tmp_path, checkpoint)
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == []
