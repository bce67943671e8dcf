"""Whole trainings on small drawn data: results, resuming, stopping, settings."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import drawn
import mindspore
import numpy as np
import pytest
from mindspore import Tensor

from multitasknet import (
    CheckpointError,
    ClassMaps,
    MultiTaskNet,
    MultiTaskNetSpec,
    create_network,
    finetune,
    read_dataset,
    read_weights,
    save_weights,
    write_card,
)
from multitasknet.cli import main
from multitasknet.data.records import Record, Split
from multitasknet.errors import CardError, OutputError, TrainingError
from multitasknet.files import exclusive
from multitasknet.hub.card import default_card_path
from multitasknet.models.multitasknet.definition import NETWORK
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.training import identity
from multitasknet.training.history import EpochRecord, History
from multitasknet.training.identity import trained_classes, with_poses
from multitasknet.training.loop import Job, data_digest
from multitasknet.training.settings import MultiTaskNetSettings, check_settings, read_config
from multitasknet.vehicle.pose import Pose

pytestmark = pytest.mark.usefixtures("small")
FAST = {
    "weights": "none",
    "variant": "rgb",
    "size": 32,
    "epochs": 2,
    "batch_size": 8,
    "instances": 2,
    "lr": 1e-4,
    "freeze": "stages",
    "progress": False,
}
HEADS = FAST | {"freeze": "backbone", "epochs": 1}
# What 2b2ef9b, before the training was made smaller, came to with these seeds.
TOTALS, MEAN_AP, HEADS_TOTAL = (3.5378811, 3.2002709), 74.157047, 2.5096536


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data"), drawn.plan(6, 2, 3))


def copy_after_first(run: Path, killed: Path) -> Callable[[EpochRecord], None]:
    def copy(record: EpochRecord) -> None:
        if record.epoch == 1:
            shutil.copytree(run, killed)

    return copy


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """Two epochs without a break; ``killed`` is what a process leaves that dies in the second."""
    folder = tmp_path_factory.mktemp("straight")
    copy = copy_after_first(folder / "run", folder / "killed")
    return finetune(data, folder / "run", on_epoch=copy, workers=2, **FAST)


@pytest.fixture
def killed(straight, tmp_path) -> Path:
    return shutil.copytree(straight.output.with_name("killed"), tmp_path / "killed")


def assert_same(one, other) -> None:
    """All that does not depend on the clock."""
    epochs = (
        [replace(epoch, seconds=0, images_per_second=0) for epoch in run.history.epochs]
        for run in (one, other)
    )
    assert next(epochs) == next(epochs)
    for name in ("last.ckpt", "best.ckpt"):
        expected, found = (read_weights(run.output / name).arrays for run in (one, other))
        assert expected.keys() == found.keys()
        for entry in expected:
            np.testing.assert_array_equal(found[entry], expected[entry], err_msg=entry)


def test_a_training_leaves_weights_history_and_curves(straight) -> None:
    records = straight.history.epochs
    assert [record.losses["total"] for record in records] == pytest.approx(TOTALS, rel=1e-3)
    assert records[-1].metrics["mAP"] == pytest.approx(MEAN_AP, abs=1.5)
    assert (straight.output / "last.ckpt").stat().st_mode & 0o600 == 0o600
    written = json.loads((straight.output / "history.json").read_text())
    assert [record["epoch"] for record in written["epochs"]] == [1, 2]
    assert written["settings"]["pose_convention"] == "published"
    page = (straight.output / "report.html").read_text()
    assert page.count("<svg") == 2
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)
    network = create_network(weights=straight.checkpoint)
    assert network.load_report.fresh == network.load_report.left_out == ()
    assert (network.spec.input_size, network.spec.num_ids) == ((32, 32), 6)
    side = json.loads(straight.checkpoint.with_suffix(".json").read_text())
    assert side["vehicle_ids"] == [1, 2, 3, 4, 5, 6]
    assert side["metrics"] == straight.metrics
    assert side["origin"]["epoch"] == (straight.history.best.epoch if straight.history.best else 0)


def test_what_is_frozen_stays_as_it_was_and_the_rest_is_trained(straight, killed) -> None:
    before, after = (read_weights(run / "last.ckpt").arrays for run in (killed, straight.output))
    for name in before:
        is_frozen = name.startswith(NETWORK.frozen["stages"])
        assert np.array_equal(before[name], after[name]) == is_frozen, name
    assert not after["base.norm0.moving_mean"].any()
    assert after["base.norm5.moving_mean"].any()


def test_a_run_that_dies_loses_the_epoch_in_hand_and_no_more(
    straight, killed, data, tmp_path
) -> None:
    moved, seen = shutil.copytree(data, tmp_path / "moved"), []
    resumed = finetune(moved, killed, resume=True, progress=False, on_epoch=seen.append)
    assert [record.epoch for record in seen] == [2]
    assert_same(straight, resumed)


def test_it_goes_on_when_its_first_weights_are_gone(data, tmp_path) -> None:
    """Features of a frozen backbone are those of the training's own state, then."""
    start = save_weights(create_network(weights=None, variant="rgb"), tmp_path / "start.ckpt")
    settings = HEADS | {"weights": start, "epochs": 2}
    copy = copy_after_first(tmp_path / "straight", tmp_path / "killed")
    straight = finetune(data, tmp_path / "straight", on_epoch=copy, **settings)
    start.unlink()
    assert_same(straight, finetune(data, tmp_path / "killed", resume=True, progress=False))


def test_labels_pictures_and_stored_maps_belong_to_the_data(tmp_path) -> None:
    root = drawn.pamtri(tmp_path / "data", drawn.plan(2, 1, 2), maps=True)
    dataset = read_dataset(root)
    first, *others = dataset.train.records

    def digest(*records: Record) -> str:
        return data_digest(replace(dataset, train=Split("train", (*records, *others))))

    before = digest(first)
    changes = {"vehicle_id": 9, "camera_id": 9, "color_id": 9, "type_id": 9}
    changes |= {"image": others[-1].image, "visibility": np.ones(36, np.uint8)}
    found = {digest(replace(first, **{name: value})) for name, value in changes.items()}
    shutil.copy(others[-1].segments / "11.jpg", first.segments / "00.jpg")
    found |= {digest(), digest(replace(first, keypoints=first.keypoints + 1)), digest(first)}
    assert len(found) == 9 and before not in found


def test_a_resume_on_other_data_is_refused(killed, data, tmp_path) -> None:
    root = shutil.copytree(data, tmp_path / "data")
    first, *_, last = sorted((root / "image_train").iterdir())
    shutil.copy(last, first)
    before = {path: path.read_bytes() for path in killed.iterdir()}
    with pytest.raises(TrainingError, match="are not those that the training there began with"):
        finetune(root, killed, resume=True, progress=False)
    assert {path: path.read_bytes() for path in killed.iterdir()} == before


@pytest.mark.parametrize("named", ["epoch", "moment1.fc_vid.bias", "moment1.fc_vcolor.weight"])
def test_a_damaged_state_is_refused(killed, data, named) -> None:
    """Also one with as many numbers in another shape."""
    state = mindspore.load_checkpoint(str(killed / "last.ckpt"))
    value = Tensor(state.pop(named).asnumpy())
    if named == "moment1.fc_vcolor.weight":
        state[named] = value.T
    kept = [{"name": name, "data": value} for name, value in state.items()]
    mindspore.save_checkpoint(kept, str(killed / "last.ckpt"))
    with pytest.raises(TrainingError, match=rf"no state of this training .*{named}.*start again"):
        finetune(data, killed, resume=True, progress=False)


def test_sigterm_stops_the_command_and_names_the_way_on(data, tmp_path) -> None:
    output, settings = tmp_path / "run", tmp_path / "settings.yaml"
    values = {name: value for name, value in FAST.items() if name != "progress"}
    settings.write_text(json.dumps(values | {"epochs": 500}))
    code = "from small import *; from multitasknet.__main__ import main\nwith small_networks(): "
    command = [sys.executable, "-c", f"{code}raise SystemExit(main())", "finetune", "--data"]
    command += [str(data), "--output", str(output), "--config", str(settings)]
    here = Path(__file__).parent
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=here) as process:
        for _ in range(600):
            if (output / "last.ckpt").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "with --resume it goes on" in errors and "FusedSparseAdam" not in errors
    assert errors.count("oneDNN") <= 1
    assert len(json.loads((output / "history.json").read_text())["epochs"]) < 500
    assert list(output.glob(".*.tmp*")) == []


def test_weights_that_no_epoch_improves_stay_the_best(data, tmp_path, capsys) -> None:
    mindspore.set_seed(0)
    start = save_weights(create_network(weights=None, variant="rgb"), tmp_path / "start.ckpt")
    config = {name: value for name, value in HEADS.items() if name not in ("progress", "weights")}
    # Steps of this size spoil whatever there was.
    (tmp_path / "c.yaml").write_text(json.dumps(config | {"lr": 0.1, "warmup": 0}))
    command = ["finetune", "--data", str(data), "--output", str(tmp_path / "run")]
    assert main([*command, "--config", str(tmp_path / "c.yaml"), "--weights", str(start)]) == 0
    assert "best: the weights as they were, which no epoch improved" in capsys.readouterr().out
    run = tmp_path / "run"
    before, best = (read_weights(one).arrays for one in (start, run / "best.ckpt"))
    changed = {name for name in before if not np.array_equal(before[name], best[name])}
    assert changed == {"classifier_vid.weight", "classifier_vid.bias"}
    assert "none is better by mAP than the weights before" in (run / "report.html").read_text()


def test_the_lowest_error_is_the_best_if_it_is_below_the_first() -> None:
    errors = {1: 3.0, 2: 1.0, 3: 2.0, 4: 1.0}
    records = tuple(EpochRecord(n, {}, metrics={"error": one}) for n, one in errors.items())
    for before, best in ((2.0, 2), (1.0, None)):
        history = History({}, "", {"error": before}, records, "error", higher_is_better=False)
        assert (history.best and history.best.epoch) == best
        assert history.best_metrics == {"error": 1.0}


def test_a_loss_that_is_not_finite_stops_with_the_batchs_images(data, tmp_path) -> None:
    with pytest.raises(TrainingError, match=r"epoch 1, batch \d: .*image_train/0\d+_c00\d.*\.jpg"):
        finetune(data, tmp_path / "run", **HEADS | {"lr": 1e30, "warmup": 0.0})
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_mixed_precision_comes_close_to_single(data, tmp_path) -> None:
    mixed = finetune(data, tmp_path / "run", **HEADS | {"precision": "mixed"})
    (record,) = mixed.history.epochs
    assert record.losses["total"] == pytest.approx(HEADS_TOTAL, rel=0.05)
    for name in ("best.ckpt", "last.ckpt"):
        weights = read_weights(tmp_path / "run" / name)
        assert {value.dtype for value in weights.arrays.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; expected some of weights, card"),
        ({"batch_size": 9}, "batch_size is 9 and instances is 2"),
        ({"instances": 8}, "at least 2 images of each of at least 2 vehicles"),
        ({"batch_size": 14}, "takes 7 vehicles, but the data have 6"),
        ({"network": "vehiclereid"}, "unknown setting 'variant'"),
        ({"network": "zoo"}, "network is 'zoo'; expected one of multitasknet, poseestnet"),
    ],
)
def test_settings_that_cannot_work_are_refused(data, tmp_path, settings, message) -> None:
    with pytest.raises(TrainingError, match=message):
        finetune(data, tmp_path / "run", **FAST | settings)
    assert not (tmp_path / "run" / "history.json").exists()


def test_settings_are_read_as_people_and_libraries_write_them(tmp_path) -> None:
    (tmp_path / "c.yaml").write_text("lr: 3e-4\nweights: a.ckpt\n")
    values = {**read_config(tmp_path / "c.yaml"), "epochs": np.int64(3), "erase": np.float32(0.25)}
    found = check_settings(values | {"weights": tmp_path}, "settings")
    assert (found.lr, found.epochs, found.erase) == (3e-4, 3, 0.25)
    for named in ("vehiclereid", "poseestnet"):
        assert check_settings({"weights": named}, "settings").network == named
    assert json.loads(json.dumps(found.as_json()))["weights"] == str(tmp_path)


def test_another_training_is_neither_overwritten_nor_resumed(straight, data, tmp_path) -> None:
    with pytest.raises(TrainingError, match="there is a training here already"):
        finetune(data, straight.output, **FAST)
    with pytest.raises(TrainingError, match=r"lr is 0\.5, but the training there has 0\.0001"):
        finetune(data, straight.output, resume=True, lr=0.5)
    with pytest.raises(TrainingError, match="the history cannot be read"):
        finetune(data, tmp_path, resume=True)
    refused = pytest.raises(OutputError, match="another process is writing it")
    with exclusive(tmp_path, tmp_path / ".training.lock"), refused:
        finetune(data, tmp_path, **FAST)
    assert list(tmp_path.iterdir()) == []


def test_a_sidecar_of_other_weights_is_refused(straight, tmp_path) -> None:
    own = shutil.copy(straight.checkpoint, tmp_path / "own.ckpt")
    side = json.loads(straight.checkpoint.with_suffix(".json").read_text())
    (tmp_path / "own.json").write_text(json.dumps(side | {"colors": ["red"]}))
    with pytest.raises(CheckpointError, match="states 1 colours, but the checkpoint has 10"):
        create_network(weights=own)


def test_several_data_sets_train_a_network_without_pose_that_keeps_its_size_and_distance(
    data, tmp_path, monkeypatch
) -> None:
    options = {"keypoint_aware": False, "distance": "cosine", "input_size": (32, 32)}
    network = MultiTaskNet(MultiTaskNetSpec(Variant.RGB, num_ids=6, **options))
    save_weights(network, tmp_path / "first.ckpt")
    monkeypatch.delattr(identity, "open_pose_estimator")  # no pose is looked for
    roots = data, drawn.veri(tmp_path / "bare", drawn.plan(2, 2, 2))
    settings = HEADS | {"weights": tmp_path / "first.ckpt", "size": None}
    result = finetune(roots, tmp_path / "run", **settings)
    trained = create_network(weights=result.checkpoint).spec
    assert {name: getattr(trained, name) for name in options} == options
    assert (result.history.settings["size"], trained.num_ids) == (32, 6 + 2)


def test_frozen_statistics_stay_in_every_norm(data, tmp_path) -> None:
    """Also in VehicleReID's neck, which is part of the head."""
    settings = {name: value for name, value in FAST.items() if name != "variant"}
    settings |= {"network": "vehiclereid", "freeze_statistics": True, "epochs": 1}
    result = finetune(data, tmp_path / "run", **settings)
    after = read_weights(result.output / "last.ckpt").arrays
    statistics = [name for name in after if "moving_" in name]
    assert "neck.moving_mean" in statistics
    for name in statistics:
        assert (after[name] == float("variance" in name)).all(), name


def test_heads_of_the_weights_stay_where_they_know_the_datas_classes(data, tmp_path) -> None:
    network = create_network(weights=None, variant="rgb", num_colors=5)
    names = ("Gelb", "Orange", "Rot", "Blau", "Braun")
    network.spec = replace(network.spec, color_names=names)
    classes = ClassMaps(tuple(range(576)), (1, 2, 5, 6, 9), tuple(range(1, 10)))
    weights = read_weights(save_weights(network, tmp_path / "own.ckpt", class_maps=classes))
    settings = MultiTaskNetSettings(**{k: v for k, v in HEADS.items() if k != "progress"})
    job = Job(settings, read_dataset(data, ["train"]), tmp_path, weights=weights)
    trained, found = identity.create_network(job)
    assert (trained.spec.color_names, found.color_ids) == (names, (1, 2, 5, 6, 9))
    head = "classifier_vcolor.weight"
    value = trained.parameters_dict()[head].asnumpy()
    np.testing.assert_array_equal(value, weights.arrays[head])
    strange = Split("train", (Record(Path("x"), vehicle_id=3, color_id=13),))
    found = trained_classes(classes, strange)
    assert (found.color_ids, found.type_ids) == ((13,), classes.type_ids)


def test_images_without_keypoints_get_them_from_the_pose_network(tmp_path, monkeypatch) -> None:
    def stream(records: list[Record]) -> Iterator[SimpleNamespace]:
        for index, record in enumerate(records):
            pose = Pose(np.full((36, 3), len(str(record.image)), np.float32), "estimated")
            yield SimpleNamespace(index=index, pose=pose)

    settings = MultiTaskNetSettings(pose="none", weights="none")
    bare = Job(settings, read_dataset(drawn.veri(tmp_path, drawn.plan(2, 2, 1))), tmp_path)
    assert with_poses(bare) is bare.dataset
    found = SimpleNamespace(stream=stream)
    monkeypatch.setattr(identity, "open_pose_estimator", lambda *_, **__: found)
    for split in with_poses(bare).splits:
        for record in split.records:
            assert record.estimated
            assert (record.keypoints == len(str(record.image))).all()


def test_finetune_publish_and_load_are_a_circle(straight, server, tmp_path) -> None:
    url = server.serve("/v1/best.ckpt", straight.checkpoint.read_bytes())
    server.serve("/v1/best.json", straight.checkpoint.with_suffix(".json").read_bytes())
    fields = {"model-version": "2.0", "model-name": ">", "summary": "Fleet #2"}
    notes = straight.output / default_card_path("multitasknet").name
    notes.write_text("my notes")
    with pytest.raises(CardError):
        write_card(straight.output, url="https://example.org/a", fields=fields)
    assert notes.read_text() == "my notes"
    notes.unlink()
    card = write_card(straight.output, url=url.rpartition("/")[0], fields=fields)
    assert card.metrics["map"] == pytest.approx(straight.metrics["mAP"], abs=0.01)
    assert (card.name, card.fields["summary"]) == (">", "Fleet #2")
    published = shutil.copy(card.path, tmp_path)
    network = create_network(card=published, cache_dir=tmp_path, progress=False)
    assert network.spec == create_network(weights=straight.checkpoint).spec
    assert Path(network.load_report.source).read_bytes() == straight.checkpoint.read_bytes()
