"""Adaptation to crops without labels: clusters, statistics, rounds, resuming, refusals."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import drawn
import mindspore
import numpy as np
import pytest

from multitasknet import (
    ClassMaps,
    adapt,
    create_network,
    read_weights,
    save_weights,
    write_card,
)
from multitasknet.cli import main
from multitasknet.errors import TrainingError
from multitasknet.models.multitasknet.definition import NETWORK
from multitasknet.ranking.clustering import OUTLIER, cluster
from multitasknet.ranking.reranking import jaccard_similarities, rerank
from multitasknet.weights.sidecar import Sidecar, write_sidecar

pytestmark = pytest.mark.usefixtures("small")
# Random weights tell drawn vehicles apart by their colour at best.
FAST = {
    "size": 32,
    "rounds": 2,
    "batch_size": 16,
    "instances": 8,
    # A module's fixture is set up before what hides the shipped pose network.
    "pose": "none",
    "neighbors": 8,
    "lr": 1e-4,
    # The heads alone train in a moment; what the rounds do is the same.
    "freeze": "backbone",
    # Bringing the weights into ONNX takes longer than it saves with so few images.
    "backend": "mindspore",
    "progress": False,
}


def groups(count: int, images: int, scale: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of some vehicles, and which is whose."""
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(count), images)
    noise = rng.normal(scale=scale, size=(len(ids), 16))
    return rng.normal(size=(count, 16))[ids] + noise, ids


# Clusters


def pairs(labels: np.ndarray, ids: np.ndarray) -> set[tuple[int, int]]:
    """Which cluster holds images of which vehicle."""
    kept = labels != OUTLIER
    return {*zip(labels[kept].tolist(), ids[kept].tolist(), strict=True)}


def test_groups_are_found_and_what_lies_apart_is_left_out() -> None:
    embeddings, ids = groups(6, 10)
    apart = np.random.default_rng(1).normal(scale=3, size=(5, 16))
    found = cluster(np.concatenate([embeddings, apart]), k1=8)
    assert (found.count, found.one_camera) == (6, 0)
    assert len(pairs(found.labels[:60], ids)) == 6
    # Encodings are averaged with the nearest images', which draws some into a group.
    assert 1 <= found.outliers == (found.labels[60:] == OUTLIER).sum()
    blurred, _ = groups(6, 10, scale=0.7)
    assert cluster(blurred, k1=8).silhouette < found.silhouette < 1


def test_the_distance_of_neighbours_joins_no_vehicles() -> None:
    embeddings, ids = groups(20, 8, 0.35)
    # Two halves of all images are further apart than the vehicles are.
    embeddings[ids < 10] += 100 / np.sqrt(embeddings.shape[1])
    found = cluster(embeddings, k1=20)
    assert (found.labels != OUTLIER).mean() > 0.9
    assert np.bincount(found.labels[found.labels != OUTLIER]).max() <= len(ids) / 4
    assert cluster(embeddings, k1=20, eps=0.99).silhouette > found.silhouette


def test_what_a_cameras_images_have_in_common_is_taken_away() -> None:
    embeddings, ids = groups(8, 28)
    cameras = np.tile([1, 2, 3, 4], 56)
    shifted = embeddings + np.random.default_rng(2).normal(scale=2, size=(5, 16))[cameras]
    found = cluster(shifted, cameras, k1=12)
    assert (found.count, len(pairs(found.labels, ids)), found.one_camera) == (8, 8, 0)
    # Without the cameras, vehicles fall apart into what each saw.
    assert cluster(shifted, k1=12).count > 8


def test_similarities_are_those_of_reranking_without_the_original_distance() -> None:
    embeddings, _ = groups(4, 6)
    found = jaccard_similarities(embeddings, within=0.8, k1=5, k2=3).toarray()
    # One image against a pool of all: the pool of rerank is that of queries and gallery.
    for row in range(3):
        rest = np.delete(embeddings, row, axis=0)
        (distances,) = rerank(embeddings[row : row + 1], rest, k1=5, k2=3, lambda_value=0)
        expected = np.where(distances <= 0.8, 1 - distances, 0)
        np.testing.assert_allclose(np.delete(found[row], row), expected, atol=1e-6)
        assert found[row, row] == pytest.approx(1)
    np.testing.assert_array_equal(found, found.T)


def test_a_cluster_of_one_camera_is_left_out_where_there_are_several() -> None:
    embeddings, ids = groups(6, 10)
    cameras = np.tile([1, 2], 30)
    cameras[ids == 2] = 7
    found = cluster(embeddings, cameras, k1=8)
    assert (found.count, found.one_camera, found.outliers) == (5, 10, 0)
    assert (found.labels[ids == 2] == OUTLIER).all()
    assert {*found.labels.tolist()} == {OUTLIER, 0, 1, 2, 3, 4}
    # Without a second camera, or without any, there is nothing to go by.
    for same in (np.full(60, 3), np.full(60, -1), None):
        assert cluster(embeddings, same, k1=8).count == 6
    cameras[ids == 2] = -1
    assert cluster(embeddings, cameras, k1=8).count == 6


# Rounds


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights, whose sidecar has a class of colour fewer than are published."""
    mindspore.set_seed(1)
    path = tmp_path_factory.mktemp("weights") / "random.ckpt"
    network = create_network(weights=None, variant="rgb", num_ids=5, num_colors=9)
    mindspore.save_checkpoint(network, str(path))
    classes = ClassMaps(tuple(range(5)), tuple(range(2, 11)), tuple(range(1, 10)))
    write_sidecar(path, Sidecar(replace(network.spec, input_size=(32, 32)), classes))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data"), drawn.plan(4, 2, 1))


@pytest.fixture(scope="module")
def crops(tmp_path_factory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("crops"), drawn.plan(8, 2, 5)) / "image_train"


@pytest.fixture(scope="module")
def straight(crops, data, weights, tmp_path_factory):
    """Two rounds in one go, and what lay there after the first."""
    folder = tmp_path_factory.mktemp("straight")

    def copy(record) -> None:
        if record.epoch == 1:
            shutil.copytree(folder / "run", folder / "killed")

    return adapt(crops, folder / "run", data=data, weights=str(weights), on_round=copy, **FAST)


def test_rounds_leave_weights_history_and_a_page(straight, weights) -> None:
    history = straight.history
    assert [record.epoch for record in history.epochs] == [0, 1, 2]
    # What 2b2ef9b, before adapt took other networks, came to with these seeds.
    for record, total in zip(history.epochs[1:], (1.5238885, 1.0749432), strict=True):
        found = record.metrics
        assert found["clusters"] == 4
        left = found["outliers"] + found["one_camera"]
        assert found["used"] == pytest.approx(100 * (80 - left) / 80)
        assert record.losses["total"] == pytest.approx(total, rel=1e-3)
    measured = [record.metrics["mAP"] for record in history.epochs]
    assert straight.metrics["mAP"] == max(*measured, history.before["mAP"])
    side = json.loads(straight.checkpoint.with_suffix(".json").read_text())
    origin = side["origin"]["settings"]
    assert (origin["images"], origin["weights_sha256"]) == (80, read_weights(weights).sha256)
    assert side["metrics"].items() <= straight.metrics.items()
    assert side["color_ids"] == list(range(2, 11))
    page = (straight.output / "report.html").read_text()
    assert "2 of 2 rounds" in page and "<th>silhouette</th>" in page
    card = write_card(straight.output, url="http://127.0.0.1/x")
    assert card.metrics["map"] == pytest.approx(straight.metrics["mAP"], abs=0.01)


def changed(*paths: Path) -> set[str]:
    """The names of the parameters that differ in two files."""
    before, after = (read_weights(one).arrays for one in paths)
    return {name for name in after if not np.array_equal(before[name], after[name])}


def test_each_round_changes_what_it_trains_and_leaves_the_identities_out(straight, weights) -> None:
    start, last = (straight.output / f"round-{number}.ckpt" for number in (0, 2))
    moved = changed(weights, start)
    assert moved
    assert all(name.endswith(("moving_mean", "moving_variance")) for name in moved)
    trained = changed(start, last)
    assert not [name for name in trained if name.startswith(NETWORK.frozen["backbone"])]
    assert not [name for name in trained if "moving_" in name]
    assert {"fc_vid.weight", "classifier_vcolor.weight"} <= trained
    before, after = (read_weights(path) for path in (weights, last))
    lost = {"classifier_vid.weight", "classifier_vid.bias"}
    assert before.arrays.keys() - after.arrays.keys() == lost
    assert (after.spec.num_colors, after.spec.input_size) == (9, (32, 32))


@pytest.mark.parametrize("network", ["vehiclereid", "multitasknet"])
def test_another_network_or_distance_begins_at_the_centroids_of_its_clusters(
    crops, tmp_path, network
) -> None:
    mindspore.set_seed(1)
    if network == "vehiclereid":
        created = create_network(network, weights=None, num_ids=5)
    else:
        created = create_network(network, weights=None, num_ids=5, variant="rgb")
        created.spec = replace(created.spec, distance="cosine")
    weights = save_weights(created, tmp_path / "own.ckpt")
    result = adapt(crops, tmp_path / "run", **FAST | {"weights": str(weights), "rounds": 1})
    record = result.history.epochs[1]
    # A classifier at random would come to the logarithm.
    assert record.losses["identity"] < 0.75 * np.log(record.metrics["clusters"])
    after = read_weights(result.checkpoint)
    assert (after.spec.network, after.spec.distance) == (network, created.spec.distance)
    if network == "vehiclereid":
        moved = changed(weights, result.checkpoint)
        assert {"neck.moving_mean", "stem.norm.moving_mean", "embed.weight", "color.bias"} <= moved
        assert "stem.conv.weight" not in moved


def test_an_adaptation_that_dies_loses_the_round_in_hand_and_no_more(
    straight, crops, data, weights, tmp_path
) -> None:
    run = shutil.copytree(straight.output.with_name("killed"), tmp_path / "run")
    moved, seen = shutil.copytree(crops, tmp_path / "moved"), []
    again = adapt(moved, run, data=data, weights=str(weights), on_round=seen.append, **FAST)
    assert [record.epoch for record in seen] == [2]
    epochs = (
        [replace(epoch, seconds=0, images_per_second=0) for epoch in one.history.epochs]
        for one in (straight, again)
    )
    assert next(epochs) == next(epochs)
    for name in ("round-2.ckpt", "best.ckpt"):
        assert not changed(straight.output / name, run / name)


def test_it_does_not_go_on_with_other_crops(straight, crops, data, weights, tmp_path) -> None:
    other = shutil.copytree(crops, tmp_path / "crops")
    first, *_, last = sorted(other.iterdir())
    shutil.copy(last, first)
    with pytest.raises(TrainingError, match="are not those that the training there began with"):
        adapt(other, straight.output, data=data, weights=str(weights), **FAST | {"rounds": 3})


def test_the_command_prints_the_best(straight, crops, data, weights, tmp_path, capsys) -> None:
    names = "size", "batch_size", "instances", "neighbors", "lr"
    (tmp_path / "adapt.yaml").write_text(json.dumps({name: FAST[name] for name in names}))
    command = ["adapt", str(crops), "--output", str(straight.output), "--data", str(data)]
    command += ["--weights", str(weights), "--freeze", "backbone", "--rounds", "2"]
    assert main([*command, "--config", str(tmp_path / "adapt.yaml"), "--pose", "none"]) == 0
    printed, best = capsys.readouterr().out, straight.history.best
    assert (f"best: round {best.epoch}" if best else "best: the weights as they were") in printed
    assert str(straight.checkpoint) in printed


def test_weights_that_no_round_improves_stay_the_best(crops, data, weights, tmp_path) -> None:
    # Steps of this size spoil whatever there was.
    settings = FAST | {"weights": str(weights), "lr": 0.03}
    result = adapt(crops, tmp_path / "run", data=data, **settings)
    assert result.history.best is None and result.metrics == result.history.before
    assert changed(weights, result.checkpoint) == set()


def test_too_few_crops_or_clusters_are_refused_with_the_numbers(crops, weights, tmp_path) -> None:
    few, settings = tmp_path / "few", FAST | {"weights": str(weights), "batch_size": 160}
    few.mkdir()
    for image in sorted(crops.glob("*.jpg"))[:63]:
        shutil.copy(image, few)
    with pytest.raises(TrainingError, match=r"63 crops are too few .* at least 64"):
        adapt(few, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    with pytest.raises(TrainingError, match=r"round 1: \d+ clusters in 80 crops.* takes 20"):
        adapt(crops, tmp_path / "run", **settings)
    assert (tmp_path / "run" / "round-0.ckpt").is_file()
