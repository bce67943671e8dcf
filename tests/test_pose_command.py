"""``multitasknet pose``: keypoints of images, and data sets that get some."""

from __future__ import annotations

import csv
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from multitasknet import PoseEstimator, read_dataset, read_labels
from multitasknet.cli import main
from multitasknet.data.labels import LabelRow
from multitasknet.images import decode_gray, read_image
from multitasknet.inference import pose_dataset
from multitasknet.inference.pose_dataset import PoseDatasetError, estimate_dataset
from multitasknet.interruption import Interrupted
from multitasknet.models.poseestnet.decoding import stored_heatmaps
from multitasknet.models.poseestnet.definition import NETWORK as POSEESTNET
from multitasknet.vehicle.keypoints import KEYPOINT_NAMES, NUM_KEYPOINTS
from multitasknet.vehicle.maps import draw_segments
from multitasknet.vehicle.pose import Pose
from vehiclesynth import synthesize

ASSETS = Path(__file__).resolve().parents[1] / "assets"
PHOTO = ASSETS / "example.jpg"
QUICK = ["--backend", "mindspore", "--size", "64", "--batch-size", "2", "--no-flip-test"]


@pytest.fixture(scope="module")
def estimator(pose_checkpoint: Path) -> PoseEstimator:
    return PoseEstimator(
        pose_checkpoint, backend="mindspore", batch_size=2, size=(64, 64), flip_test=False
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small PAMTRI data set: train, query and gallery."""
    root = tmp_path_factory.mktemp("source") / "data"
    synthesize(root, vehicles=2, images=2, cameras=2, pixels=48)
    for split, images in (("train", 3), ("query", 2), ("test", 2)):
        labels = root / f"label_{split}.csv"
        labels.write_text("".join(labels.read_text().splitlines(keepends=True)[:images]))
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, estimator: PoseEstimator) -> PoseEstimator:
    """Commands that share one estimator, which has been loaded."""
    monkeypatch.setattr(
        "multitasknet.inference.pose_estimator.PoseEstimator", lambda *_, **__: estimator
    )
    return estimator


def files_of(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


# Images


def test_keypoints_are_summed_up_written_and_drawn(
    pose_checkpoint: Path, estimator: PoseEstimator, tmp_path: Path, capsys
) -> None:
    small = tmp_path / "7_small.png"
    Image.open(PHOTO).convert("RGB").resize((80, 60)).save(small)
    table, overlays = tmp_path / "out" / "labels.csv", tmp_path / "drawn"
    weights = ["--weights", str(pose_checkpoint)]
    command = ["pose", str(PHOTO), str(small), *weights, *QUICK]
    assert main([*command, "--output", str(table), "--overlay", str(overlays)]) == 0
    lines = capsys.readouterr().out.splitlines()
    poses = estimator.estimate([PHOTO, small])
    seen = int((poses[0].keypoints[:, 2] >= 0.5).sum())
    confidence = f"mean confidence {poses[0].confidence:.2f}"
    assert lines[0] == f"{PHOTO}: {confidence}, {seen} of 36 at or above 0.5"
    assert lines[2:] == [str(table), str(overlays)]
    rows = read_labels(table)
    assert [(name, row.vehicle_id) for name, row in rows.items()] == [
        (PHOTO.name, 0),
        (small.name, 7),
    ]
    for row, pose in zip(rows.values(), poses, strict=True):
        np.testing.assert_allclose(row.keypoints, pose.keypoints, rtol=1e-6, atol=6e-4)
    drawn = Image.open(overlays / "7_small.png")
    assert drawn.size == (80, 60)
    assert np.asarray(drawn).tolist() != read_image(small).tolist()


def test_json_is_a_line_an_image_and_coco_is_told_by_its_ending(
    quick: PoseEstimator, tmp_path: Path, capsys
) -> None:
    coco = tmp_path / "poses.json"
    assert main(["pose", str(PHOTO), str(PHOTO), "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == second
    assert (first["image"], np.shape(first["keypoints"])) == (str(PHOTO), (36, 3))
    assert first["seen"] == sum(point[2] >= 0.5 for point in first["keypoints"])
    assert main(["pose", str(PHOTO), "--json", "--output", str(coco)]) == 0
    captured = capsys.readouterr()
    assert (len(captured.out.splitlines()), captured.err.splitlines()[-1]) == (1, str(coco))
    content = json.loads(coco.read_text())
    assert content["categories"][0]["keypoints"] == list(KEYPOINT_NAMES)
    with Image.open(PHOTO) as image:
        assert (content["images"][0]["width"], content["images"][0]["height"]) == image.size
    (row,) = read_labels(coco).values()
    np.testing.assert_allclose(row.keypoints, first["keypoints"], rtol=1e-4)


def test_flip_test_and_decoding_reach_the_network(monkeypatch, capsys) -> None:
    asked = {}

    def refuse(*_: object, **options: object) -> None:
        asked.update(options)
        raise PoseDatasetError("stop")

    monkeypatch.setattr("multitasknet.inference.pose_estimator.PoseEstimator", refuse)
    options = ["--no-flip-test", "--decode", "dark", "--size", "128", "--threads", "1"]
    assert main(["pose", str(PHOTO), *options, "--batch-size", "4"]) == 2
    assert (asked["flip_test"], asked["decode"], asked["size"]) == (False, "dark", (128, 128))
    assert (asked["threads"], asked["batch_size"], asked["offline"]) == (1, 4, False)


def test_random_weights_are_said_to_be(capsys) -> None:
    assert main(["pose", str(PHOTO), "--pose", "none", *QUICK]) == 0
    assert "the weights are random; these poses mean nothing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give either images or --data"),
        ([PHOTO, "--data", "x"], "give either images or --data"),
        (["nowhere.jpg"], "nowhere.jpg does not exist"),
        ([PHOTO, "--maps"], "--maps and --images go with --data"),
        ([PHOTO, "--images", "copy"], "--maps and --images go with --data"),
        ([PHOTO, "--output", "poses.txt"], "--output is poses.txt; expected a name in .csv or"),
        ([PHOTO, PHOTO, "--output", "a.csv"], "2 images are called example.jpg"),
        ([PHOTO, PHOTO, "--overlay", "drawn"], "2 images are called example, which"),
        ([PHOTO, "--overlay", PHOTO.parent], "assets, where the images are; give another folder"),
        (["--data", "x"], "--data takes --output"),
        (["--data", "x", "--output", "y", "--overlay", "z"], "and no --overlay"),
        (["--data", "nowhere", "--output", "y"], "nowhere: there is no such folder"),
        ([PHOTO, "--weights", "nowhere.ckpt"], "nowhere.ckpt"),
        ([PHOTO, "--output", f"{PHOTO}/a.csv"], "the folder cannot be made"),
    ],
)
def test_a_mistake_is_one_line(arguments, said: str, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pose", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("multitasknet: error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*.csv"))


def test_a_broken_image_leaves_no_label_file(quick: PoseEstimator, tmp_path: Path, capsys) -> None:
    broken, table = tmp_path / "broken.jpg", tmp_path / "a.csv"
    broken.write_bytes(PHOTO.read_bytes()[:2000])
    assert main(["pose", str(PHOTO), str(broken), "--output", str(table)]) == 2
    assert "broken.jpg: the image cannot be read" in capsys.readouterr().err
    assert not table.exists()


# Data sets


def test_a_data_set_gets_estimated_poses_and_maps(
    quick: PoseEstimator, source: Path, tmp_path: Path, capsys
) -> None:
    root = tmp_path / "posed"
    command = ["pose", "--data", str(source), "--output", str(root), "--maps"]
    assert main(command) == 0
    assert capsys.readouterr().out.split() == [
        *("data", str(root)),
        *("train", "3", "query", "2", "gallery", "2", "renamed", "0"),
    ]
    assert not list(tmp_path.glob("*.partial"))
    assert not (root / "journal.jsonl").exists() and not (root / "renamed.csv").exists()
    before, after = read_dataset(source), read_dataset(root)
    for old_split, new_split in zip(before.splits, after.splits, strict=True):
        for old, new in zip(old_split.records, new_split.records, strict=True):
            for field in ("vehicle_id", "camera_id", "color_id", "type_id"):
                assert getattr(new, field) == getattr(old, field)
            assert (new.image.name, new.image.stat().st_ino) == (
                old.image.name,
                old.image.stat().st_ino,
            )
    record = after.gallery.records[0]
    pose = quick.estimate([r.image for r in after.gallery.records], heatmaps=True)[0]
    np.testing.assert_allclose(record.keypoints, pose.keypoints, atol=6e-4)
    stored = np.stack([decode_gray(file.read_bytes()) for file in record.heatmap_files])
    assert record.heatmaps == root / "heatmap_test" / record.image.stem
    enlarged = [
        np.asarray(Image.fromarray(one).resize((64, 64), Image.Resampling.BILINEAR))
        for one in pose.heatmaps
    ]
    assert np.abs(stored - stored_heatmaps(np.stack(enlarged)).astype(int)).mean() < 8
    # Every convex surface, whatever its confidence: what loads them looks at that.
    height, width = read_image(record.image).shape[:2]
    sure = np.array(record.keypoints)
    sure[:, 2] = 1
    drawn = draw_segments(sure, width=width, height=height).astype(int)
    segments = np.stack([decode_gray(file.read_bytes()) for file in record.segment_files])
    assert np.abs(segments - drawn).mean() < 4
    assert len(files_of(root)) == 3 + 7 * (1 + NUM_KEYPOINTS + 13)
    assert main(command) == 2
    assert "posed: something is there already; give a new or empty" in capsys.readouterr().err


class Interrupting:
    """An estimator that is interrupted during its n-th batch, and counts the images."""

    def __init__(self, estimator: PoseEstimator, stop_at: int | None = None) -> None:
        self._estimator, self._stop_at = estimator, stop_at
        self.batches = self.images = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._estimator, name)

    def estimate_pixels(self, pixels: list[np.ndarray], *, heatmaps: bool = False) -> list[Pose]:
        self.batches += 1
        if self.batches == self._stop_at:
            signal.raise_signal(signal.SIGINT)
        self.images += len(pixels)
        return self._estimator.estimate_pixels(pixels, heatmaps=heatmaps)


def test_an_interrupted_call_goes_on_and_ends_in_the_same_bytes(
    estimator: PoseEstimator, source: Path, tmp_path: Path, caplog
) -> None:
    dataset = read_dataset(source)
    whole = estimate_dataset(estimator, dataset, tmp_path / "whole", maps=True, progress=False)
    root, partial = tmp_path / "posed", tmp_path / "posed.partial"
    estimated = 0
    for stop_at, done in ((1, 2), (1, 4)):
        stopped = Interrupting(estimator, stop_at)
        with pytest.raises(Interrupted, match=rf"holds {done} of 7 images; the same command"):
            estimate_dataset(stopped, dataset, root, maps=True, progress=False)
        estimated += stopped.images
        assert partial.is_dir() and not root.exists()
    with pytest.raises(PoseDatasetError, match="begun with other images, weights or options"):
        estimate_dataset(estimator, dataset, root, progress=False)
    # Killed in the middle of a line, and of an image.
    with (partial / "journal.jsonl").open("a") as file:
        file.write("[[1.0, 2.0")
    (partial / "image_query" / dataset.query.records[1].image.name).write_bytes(b"half")
    last = Interrupting(estimator)
    data = estimate_dataset(last, dataset, root, maps=True, progress=False)
    assert estimated + last.images == sum(data.images.values()) == 7
    assert files_of(root) == files_of(whole.root)
    assert "going on behind 4 images" in caplog.text
    assert not partial.exists()


def test_ctrl_c_is_exit_code_130(
    quick: PoseEstimator, source: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    stopped = Interrupting(quick, 1)
    monkeypatch.setattr(
        "multitasknet.inference.pose_estimator.PoseEstimator", lambda *_, **__: stopped
    )
    assert main(["pose", "--data", str(source), "--output", str(tmp_path / "posed")]) == 130
    error = capsys.readouterr().err
    assert f"{tmp_path / 'posed.partial'} holds 2 of 7 images; the same command goes on" in error


class Still:
    """An estimator that finds the same in all images, at once."""

    engine, origin = SimpleNamespace(name="still"), "still"
    definition = POSEESTNET

    def read_ahead(self, images: list[Path]) -> Iterator[list[np.ndarray]]:
        paths = iter(images)
        while batch := list(islice(paths, 2)):
            yield [read_image(path) for path in batch]

    def estimate_pixels(self, pixels: list[np.ndarray], *, heatmaps: bool = False) -> list[Pose]:
        keypoints = np.full((NUM_KEYPOINTS, 3), 0.49912, np.float32)
        return [Pose(keypoints, "estimated")] * len(pixels)


def picture(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (shade, 0, 0)).save(path)
    return path


def veri(root: Path) -> Path:
    """VeRi as its authors ship it."""
    names = ["0001_c001_00016450_0.jpg", "0001_c002_00016510_0.jpg"]
    items = []
    for name in names:
        picture(root / "image_train" / name)
        # The last one's camera is not what its name says.
        camera = "c003" if name == names[1] else "c001"
        fields = f'imageName="{name}" vehicleID="0001" cameraID="{camera}"'
        items.append(f'<Item {fields} colorID="2" typeID="0" />')
    text = f'<?xml version="1.0" encoding="gb2312" ?><T><Items>{"".join(items)}</Items></T>'
    (root / "train_label.xml").write_text(text, encoding="gb2312")
    (root / "name_train.txt").write_text("\n".join(names))
    return root


def test_names_carry_the_cameras_where_the_source_has_them_elsewhere(tmp_path: Path) -> None:
    source = veri(tmp_path / "veri")
    data = estimate_dataset(Still(), read_dataset(source), tmp_path / "posed", progress=False)
    after = read_dataset(data.root)
    kept, renamed = after.train.records
    assert kept.image.name == "0001_c001_00016450_0.jpg"
    assert renamed.image.name == "0001_c003_00000002.jpg"
    assert after.train.camera_ids.tolist() == [1, 3]
    assert (kept.color_id, kept.type_id) == (2, None)
    assert data.renamed == 1
    assert list(csv.reader((data.root / "renamed.csv").open())) == [
        ["split", "image", "source"],
        ["train", renamed.image.name, str(source / "image_train" / "0001_c002_00016510_0.jpg")],
    ]
    row = (data.root / "label_train.csv").read_text().splitlines()[0].split(",")
    assert (len(row), row[:4], row[-1]) == (112, [kept.image.name, "1", "2", "0"], "0.499")


def test_names_that_collide_are_told_apart(tmp_path: Path) -> None:
    root = tmp_path / "folder"
    rows = [
        ("a/1.jpg", 5, 2),
        ("b/1.jpg", 5, 2),
        ("b/1.png", 5, ""),
        ("0005_c002_00000001.jpg", 5, 2),
        ("c/0007_c001_x.jpg", 7, 1),
        ("c/free.jpg", 7, ""),
    ]
    for shade, (name, _, _) in enumerate(rows):
        picture(root / name, 40 * shade)
    with (root / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "vehicle_id", "camera"), *rows])
    before = read_dataset(root)
    data = estimate_dataset(Still(), before, tmp_path / "posed", images="copy", progress=False)
    after = read_dataset(data.root)
    assert [record.image.name for record in after.train.records] == [
        "0005_c002_00000007.jpg",  # place 1 is taken
        "0005_c002_00000002.jpg",
        "0005_00000003.png",
        "0005_c002_00000001.jpg",
        "0007_c001_x.jpg",
        "free.jpg",
    ]
    assert after.train.camera_ids.tolist() == before.train.camera_ids.tolist()
    for old, new in zip(before.train.records, after.train.records, strict=True):
        assert new.image.read_bytes() == old.image.read_bytes()
        assert new.image.stat().st_ino != old.image.stat().st_ino


def test_images_are_copied_where_links_fail(tmp_path: Path, monkeypatch) -> None:
    source = veri(tmp_path / "veri")

    def fail(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    data = estimate_dataset(Still(), read_dataset(source), tmp_path / "posed", progress=False)
    assert len(read_dataset(data.root).train) == 2


def test_a_linked_image_is_its_target(tmp_path: Path) -> None:
    source = veri(tmp_path / "veri")
    image = source / "image_train" / "0001_c001_00016450_0.jpg"
    shutil.move(image, tmp_path / "elsewhere.jpg")
    image.symlink_to("../../elsewhere.jpg")
    data = estimate_dataset(
        Still(), read_dataset(source, allow_outside=True), tmp_path / "posed", progress=False
    )
    assert not (data.root / "image_train" / image.name).is_symlink()


def numbered_from_zero(root: Path) -> Path:
    picture(root / "a.jpg")
    (root / "train.csv").write_text("image,vehicle_id,color\na.jpg,1,0\n")
    return root


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (numbered_from_zero, "a colour or type of 0, which in the PAMTRI layout means unknown"),
    ],
)
def test_what_the_layout_cannot_hold_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], said: str
) -> None:
    dataset = read_dataset(make(tmp_path / "in"))
    with pytest.raises(PoseDatasetError, match=said):
        estimate_dataset(Still(), dataset, tmp_path / "posed", progress=False)
    assert not list(tmp_path.glob("posed*"))


def test_a_full_disk_is_one_error_and_the_same_call_goes_on(tmp_path: Path, monkeypatch) -> None:
    dataset = read_dataset(veri(tmp_path / "veri"))
    calls = []

    def full(path: Path, rows: list[LabelRow], **_: object) -> None:
        calls.append(path)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(pose_dataset, "write_labels", full)
        with pytest.raises(OSError, match=r"finished \(.*No space left on device\); mend that"):
            estimate_dataset(Still(), dataset, tmp_path / "posed", progress=False)
    assert calls and not (tmp_path / "posed").exists()
    data = estimate_dataset(Still(), dataset, tmp_path / "posed", progress=False)
    assert data.images == {"train": 2}


def test_a_foreign_folder_in_the_way_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "posed.partial" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    dataset = read_dataset(veri(tmp_path / "veri"))
    with pytest.raises(PoseDatasetError, match=r"posed\.partial: begun with other"):
        estimate_dataset(Still(), dataset, tmp_path / "posed", progress=False)
    assert mine.read_text() == "mine"
