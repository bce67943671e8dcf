"""Training of PoseEstNet: targets and loss beside a plain reference, and the whole circle."""

from __future__ import annotations

from pathlib import Path

import drawn
import mindspore
import numpy as np
import pose_reference as reference
import pytest

from multitasknet import (
    PoseEstimator,
    create_network,
    evaluate_pose,
    finetune,
    read_dataset,
    write_card,
)
from multitasknet.errors import TrainingError
from multitasknet.models.poseestnet.preprocessing import draw_targets, write_framed
from multitasknet.models.poseestnet.spec import PoseEstNetSpec
from multitasknet.training.augmentation import augment_pose
from multitasknet.training.batches import Draw
from multitasknet.training.losses import HeatmapLoss
from multitasknet.training.pose import PoseSource
from multitasknet.training.settings import PoseSettings, check_settings, read_config
from vehiclesynth import synthesize

ROOT = Path(__file__).resolve().parents[1]
GEOMETRY = PoseSettings(appearance=0.0, resolution=0.0, cover=0.0)


def test_targets_agree_with_the_reference_on_random_cases() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        points = rng.uniform(-60, 316, (36, 2))
        visible = (rng.random(36) < 0.7).astype(np.float64)
        maps, weights = draw_targets(np.column_stack((points, visible)), (256, 256))
        wanted, wanted_weights = reference.targets(points, visible)
        np.testing.assert_allclose(maps, wanted, atol=1e-6)
        seen = wanted.any((1, 2)) | (visible == 0)
        np.testing.assert_array_equal(weights[seen], wanted_weights[seen])


def test_the_loss_is_that_of_nvlabs() -> None:
    rng = np.random.default_rng(1)
    maps, wanted = rng.normal(size=(2, 3, 36, 64, 64))
    weights = (rng.random((3, 36)) < 0.6).astype(np.float64)
    tensors = (mindspore.Tensor(one, mindspore.float32) for one in (maps, wanted, weights))
    loss, parts = HeatmapLoss()(*tensors)
    assert float(loss) == pytest.approx(reference.nvlabs_loss(maps, wanted, weights), rel=1e-5)
    assert parts.shape == (1,)


def test_keypoints_stay_on_what_they_mark() -> None:
    rng = np.random.default_rng(2)
    height, width = 150, 200
    for _ in range(30):
        pixels = np.zeros((height, width, 3), np.uint8)
        keypoints = np.ones((36, 3), np.float32)
        keypoints[:, 0] = rng.integers(20, width - 20, 36)
        keypoints[:, 1] = rng.integers(20, height - 20, 36)
        joint = int(rng.integers(36))
        x, y = keypoints[joint, :2].astype(int)
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
        changed, moved, transform = augment_pose(pixels, keypoints, (256, 256), GEOMETRY, rng)
        rows, columns, _ = np.nonzero(changed)
        found = np.array([columns.mean(), rows.mean()])
        # Mirrored, it is the keypoint of the other side.
        (owner,) = np.flatnonzero(np.abs(moved[:, :2] - found).max(1) < 1e-3)[:1]
        assert owner in (joint, (joint + 18) % 36)
        framed = transform[:, :2] @ found + transform[:, 2]
        if (framed > 12).all() and (framed < 244).all():
            planes = np.empty((3, 256, 256), np.float32)
            write_framed(changed, transform, planes)
            light = planes[0] - planes[0].min()
            rows, columns = np.mgrid[:256, :256]
            middle = np.array([(columns * light).sum(), (rows * light).sum()]) / light.sum()
            np.testing.assert_allclose(middle, framed, atol=0.3)


def test_the_published_recipe_is_one_file() -> None:
    recipe = read_config(ROOT / "examples" / "poseestnet_published.yaml")
    settings = check_settings(recipe, "the recipe")
    assert isinstance(settings, PoseSettings)
    assert (settings.epochs, settings.milestones, settings.weight_decay) == (210, (170, 200), 0)
    assert settings.appearance == settings.resolution == settings.cover == 0


def test_batches_are_the_same_whatever_the_workers(tmp_path) -> None:
    split = read_dataset(drawn.pamtri(tmp_path / "data", drawn.plan(3, 1, 2))).train
    order, spec = np.arange(6).reshape(-1, 2), PoseEstNetSpec(input_size=(64, 64))

    def values(workers: int) -> list[np.ndarray]:
        source = PoseSource(split, spec, PoseSettings(), workers=workers)
        batches = source.read(order, Draw(5, 1))
        return [one.asnumpy() for batch in batches for one in (*batch.inputs, *batch.labels)]

    for one, other in zip(values(1), values(3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_data_without_keypoints_are_refused(tmp_path) -> None:
    root = drawn.veri(tmp_path / "veri", drawn.plan(2, 1, 2))
    with pytest.raises(TrainingError, match="has keypoints; give labels with them"):
        finetune(root, tmp_path / "run", network="poseestnet", weights="none", progress=False)


@pytest.mark.usefixtures("small")
def test_the_circle_from_training_to_the_network_by_name(tmp_path, server) -> None:
    root = tmp_path / "data"
    synthesize(root, vehicles=4, images=4, cameras=2, pixels=96, seed=3)
    settings = {
        "network": "poseestnet",
        "weights": "none",
        "size": 32,
        "batch_size": 8,
        "epochs": 2,
        "warmup": 0,
        "pose_convention": "visibility",
        "progress": False,
    }
    result = finetune(root, tmp_path / "run", **settings)
    first, last = (record.losses["heatmaps"] for record in result.history.epochs)
    assert last < first
    assert {"PCK@0.05", "PCK@0.1", "PCK@0.2", "NME"} == set(result.metrics)
    for name in ("best.ckpt", "best.json"):
        server.serve(f"/own/{name}", (result.output / name).read_bytes())
    card = write_card(result.output, url=server.url("/own"), fields={"model-name": "Own pose"})
    assert "PCK@0.05" in card.fields["evaluation"]
    network = create_network("poseestnet", card=card.path, cache_dir=tmp_path / "cache")
    assert network.spec.input_size == (32, 32)
    assert network.spec.pose_convention == "visibility"
    estimator = PoseEstimator(network=network, backend="mindspore", flip_test=False)
    evaluation = evaluate_pose(estimator, read_dataset(root), progress=False)
    found = evaluation.metrics
    assert {name: found[name] for name in result.metrics} == pytest.approx(result.metrics, abs=0.1)
    assert "best.ckpt" in evaluation.settings["weights"]
