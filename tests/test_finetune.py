"""Whole trainings on small drawn data: results, resuming, stopping, publishing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import drawn
import mindspore
import numpy as np
import pytest

from multitasknet import (
    CardError,
    CheckpointError,
    MultiTaskNet,
    MultiTaskNetSpec,
    create_network,
    finetune,
    read_weights,
    write_card,
)
from multitasknet.cli import main
from multitasknet.files import OutputError, exclusive
from multitasknet.interruption import Interrupted
from multitasknet.models.multitasknet.layout import FROZEN
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.training.history import EpochRecord
from multitasknet.training.loop import TrainingError
from multitasknet.training.sampler import SamplerError
from multitasknet.training.settings import FinetuneError

# The head alone trains in a moment; what the loop does is the same.
FAST = {
    "weights": "none",
    "variant": "rgb",
    "size": 32,
    "epochs": 3,
    "batch_size": 8,
    "instances": 2,
    "lr": 1e-3,
    "freeze": "backbone",
    "progress": False,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return drawn.pamtri(tmp_path_factory.mktemp("data"), drawn.plan(6, 2, 3))


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory):
    """Three epochs without a break."""
    folder = tmp_path_factory.mktemp("straight")
    return finetune(data, folder / "run", on_epoch=snapshot_after(2, folder), **FAST)


def snapshot_after(epoch: int, folder: Path) -> Callable[[EpochRecord], None]:
    """Copies ``run`` as a process leaves it that is killed after that epoch."""

    def copy(record: EpochRecord) -> None:
        if record.epoch == epoch:
            shutil.copytree(folder / "run", folder / "killed")

    return copy


@pytest.fixture
def killed(straight, tmp_path) -> Path:
    return shutil.copytree(straight.output.with_name("killed"), tmp_path / "killed")


@pytest.fixture
def output(straight, tmp_path) -> Path:
    """A folder that already has the backbone's features, which are the same in all these runs."""
    folder = tmp_path / "run"
    folder.mkdir()
    for path in straight.output.glob("features_*.npz"):
        shutil.copy(path, folder)
    return folder


def losses(history) -> list[dict]:
    """What does not depend on the clock."""
    return [(record.losses, record.metrics, record.rate) for record in history.epochs]


def assert_same_weights(one: Path, other: Path) -> None:
    expected, found = read_weights(one).arrays, read_weights(other).arrays
    assert expected.keys() == found.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_a_training_leaves_weights_history_and_curves(straight) -> None:
    assert [record.epoch for record in straight.history.epochs] == [1, 2, 3]
    assert straight.history.epochs[-1].losses["total"] < straight.history.epochs[0].losses["total"]
    assert straight.best.metrics["mAP"] == max(
        record.metrics["mAP"] for record in straight.history.epochs
    )
    written = json.loads((straight.output / "history.json").read_text())
    assert [record["epoch"] for record in written["epochs"]] == [1, 2, 3]
    assert written["before"]["mAP"] > 0
    page = (straight.output / "report.html").read_text()
    assert page.count("<svg") == 3
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page)


def test_the_checkpoint_has_the_published_layout(straight, manifest) -> None:
    names = read_weights(straight.checkpoint).arrays
    assert names.keys() == manifest.keys()
    assert read_weights(straight.output / "last.ckpt").arrays.keys() == manifest.keys()


def test_a_loaded_checkpoint_knows_its_classes_and_size(straight) -> None:
    network = create_network(weights=straight.checkpoint)
    assert network.load_report.fresh == network.load_report.left_out == ()
    assert network.spec.input_size == (32, 32)
    assert network.spec.num_ids == 6
    side = json.loads(straight.checkpoint.with_suffix(".json").read_text())
    assert side["vehicle_ids"] == [1, 2, 3, 4, 5, 6]
    assert side["metrics"] == straight.best.metrics
    assert side["origin"]["epoch"] == straight.best.epoch


def test_a_frozen_backbone_stays_as_it_was_and_its_features_are_kept(
    straight, data, output
) -> None:
    one = finetune(data, output, tensorboard=True, **FAST | {"epochs": 1})
    (events,) = (output / "events").iterdir()
    assert b"metrics/mAP" in events.read_bytes()
    before, after = (read_weights(run.output / "last.ckpt").arrays for run in (one, straight))
    for name in before:
        same = np.array_equal(before[name], after[name])
        assert same == name.startswith("base."), name
    assert {path.name for path in straight.output.glob("*.npz")} == {
        "features_train.npz",
        "features_query.npz",
        "features_gallery.npz",
    }


def test_a_run_that_is_interrupted_in_an_epoch_goes_on_bit_for_bit(straight, data, output) -> None:
    def interrupt(record) -> None:
        if record.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"epoch 2 of 3.*--resume"):
        finetune(data, output, on_epoch=interrupt, **FAST)
    resumed = finetune(data, output, resume=True, progress=False)
    assert losses(resumed.history) == losses(straight.history)
    assert_same_weights(straight.output / "last.ckpt", output / "last.ckpt")
    assert_same_weights(straight.checkpoint, resumed.checkpoint)


def test_a_run_that_dies_loses_the_epoch_in_hand_and_no_more(straight, killed, data) -> None:
    seen = []
    resumed = finetune(
        data, killed, resume=True, progress=False, on_epoch=lambda record: seen.append(record.epoch)
    )
    assert seen == [3]
    assert losses(resumed.history) == losses(straight.history)
    assert_same_weights(straight.output / "last.ckpt", killed / "last.ckpt")


def test_sigterm_stops_the_command_and_names_the_way_on(data, output, tmp_path) -> None:
    command = [sys.executable, "-m", "multitasknet", "finetune", "--data", str(data)]
    command += ["--output", str(output)]
    settings = tmp_path / "settings.yaml"
    fast = {name: value for name, value in FAST.items() if name != "progress"}
    settings.write_text(json.dumps(fast | {"epochs": 500}))
    with subprocess.Popen(
        [*command, "--config", str(settings)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        for _ in range(600):
            if (output / "last.ckpt").exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors.decode()
    assert f"--output {output} --resume" in errors.decode()
    assert len(json.loads((output / "history.json").read_text())["epochs"]) < 500
    assert list(output.glob(".*.tmp*")) == []


def test_a_loss_that_is_not_finite_stops_with_the_batchs_images(data, output) -> None:
    with pytest.raises(TrainingError, match=r"epoch 1, batch \d: .*image_train/0\d+_c00\d.*\.jpg"):
        finetune(data, output, **FAST | {"lr": 1e30, "warmup": 0.0})
    assert not (output / "best.ckpt").exists()


def test_mixed_precision_comes_close_to_single(straight, data, output) -> None:
    mixed = finetune(data, output, **FAST | {"precision": "mixed"})
    for ours, theirs in zip(losses(mixed.history), losses(straight.history), strict=True):
        assert ours[0]["total"] == pytest.approx(theirs[0]["total"], rel=0.05)
    assert {value.dtype for value in read_weights(mixed.checkpoint).arrays.values()} == {
        np.dtype(np.float32)
    }


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epoch": 3}, FinetuneError, "unknown setting 'epoch'; expected some of weights, card"),
        ({"epochs": 0}, FinetuneError, "epochs is 0; expected a whole number of at least 1"),
        ({"epochs": 2.5}, FinetuneError, "epochs is 2.5"),
        (
            {"freeze": "all"},
            FinetuneError,
            "freeze is 'all'; expected one of none, stages, backbone",
        ),
        ({"batch_size": 9}, FinetuneError, "batch_size is 9 and instances is 2"),
        ({"instances": 1}, FinetuneError, "at least 2 images of each"),
        ({"lr": 0.0}, FinetuneError, "lr is 0.0; expected more than 0"),
        ({"size": 40}, FinetuneError, "multiples of 32"),
        ({"batch_size": 14}, SamplerError, "takes 7 vehicles, but the data have 6"),
    ],
)
def test_settings_that_cannot_work_are_refused(data, tmp_path, settings, error, message) -> None:
    with pytest.raises(error, match=message):
        finetune(data, tmp_path / "run", **FAST | settings)
    assert not (tmp_path / "run" / "history.json").exists()


def test_another_training_is_neither_overwritten_nor_resumed(straight, data, tmp_path) -> None:
    with pytest.raises(FinetuneError, match="a training lies here already"):
        finetune(data, straight.output, **FAST)
    with pytest.raises(FinetuneError, match=r"lr is 0.5, but the training to resume has 0.001"):
        finetune(data, straight.output, resume=True, lr=0.5)
    assert main(["finetune", "--data", str(data), "--output", str(tmp_path), "--resume"]) == 2


def test_a_second_training_in_one_folder_is_refused(data, tmp_path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    refused = pytest.raises(OutputError, match="another process is writing it")
    with exclusive(run, run / ".training.lock"), refused:
        finetune(data, run, **FAST)
    assert list(run.iterdir()) == []
    (tmp_path / "file").write_text("keep")
    for odd in (tmp_path / "file", Path("/proc/x"), tmp_path / "file" / "below"):
        with pytest.raises(OutputError):
            finetune(data, odd, **FAST)


def test_a_sidecar_of_other_weights_is_refused(straight, tmp_path) -> None:
    (tmp_path / "other.ckpt").write_bytes(straight.checkpoint.read_bytes())
    side = json.loads(straight.checkpoint.with_suffix(".json").read_text())
    for change, message in (
        ({"colors": ["red"]}, "states 1 colours, but the checkpoint has 10"),
        ({"size": "big"}, "cannot be read"),
        ({"format": 9}, "format is 9"),
    ):
        (tmp_path / "other.json").write_text(json.dumps(side | change))
        with pytest.raises(CheckpointError, match=message):
            create_network(weights=tmp_path / "other.ckpt")


def test_finetune_publish_and_load_are_a_circle(straight, server, tmp_path, capsys) -> None:
    url = server.serve("/v1/best.ckpt", straight.checkpoint.read_bytes())
    server.serve("/v1/best.json", straight.checkpoint.with_suffix(".json").read_bytes())
    folder = url.rpartition("/")[0]
    command = ["card", str(straight.output), "--url", folder, "--version", "2.0"]
    assert main(command) == 0
    assert url in capsys.readouterr().out
    assert main([*command, "--network", "MultiTaskNet", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["publish"] == [url, f"{folder}/best.json"]
    assert Path(said["card"]).is_file()
    network = create_network(
        card=straight.output / "multitasknet_veri.md", cache_dir=tmp_path, progress=False
    )
    assert network.spec == create_network(weights=straight.checkpoint).spec
    assert network.spec.input_size == (32, 32)
    assert network.load_report.source == tmp_path / "mindspore" / "2.0" / "best.ckpt"
    assert_same_weights(straight.checkpoint, network.load_report.source)
    card = write_card(straight.output, url=folder)
    assert card.metrics["map"] == pytest.approx(straight.best.metrics["mAP"], abs=0.01)


def test_a_card_needs_trained_weights_and_plain_fields(straight, tmp_path, capsys) -> None:
    assert main(["card", str(tmp_path), "--url", "http://127.0.0.1/x"]) == 2
    assert "give the output folder" in capsys.readouterr().err
    arguments = ["card", str(straight.output), "--url", "http://127.0.0.1/x"]
    assert main([*arguments, "--author", "A: B"]) == 2
    assert "author is 'A: B'; expected one line without a colon" in capsys.readouterr().err


def test_a_cards_fields_survive_and_a_bad_one_does_not_replace_it(straight) -> None:
    card = write_card(
        straight.output, url="http://127.0.0.1/x", name=">", summary="Fleet #2, tuned"
    )
    assert (card.name, card.summary) == (">", "Fleet #2, tuned")
    before = card.path.read_bytes()
    with pytest.raises(CardError, match="asset-link"):
        write_card(straight.output, url="foo")
    assert card.path.read_bytes() == before


@pytest.mark.slow
def test_the_whole_network_resumes_bit_for_bit(data, tmp_path) -> None:
    settings = FAST | {"freeze": "stages", "epochs": 2, "lr": 1e-4, "workers": 2}
    whole = finetune(data, tmp_path / "run", on_epoch=snapshot_after(1, tmp_path), **settings)
    resumed = finetune(data, tmp_path / "killed", resume=True, progress=False, workers=1)
    assert losses(resumed.history) == losses(whole.history)
    assert_same_weights(tmp_path / "run" / "last.ckpt", tmp_path / "killed" / "last.ckpt")
    statistics = read_weights(tmp_path / "run" / "last.ckpt").arrays
    moved = {
        name.removesuffix(".moving_mean")
        for name, values in statistics.items()
        if name.endswith(".moving_mean") and values.any()
    }
    assert {"base.norm5", "base.denseblock3.cell_list.0.norm1"} <= moved
    assert not any(name.startswith(FROZEN["stages"]) for name in moved)


def test_a_network_that_takes_no_pose_trains(data, tmp_path) -> None:
    spec = MultiTaskNetSpec(Variant.RGB, keypoint_aware=False, num_ids=6)
    mindspore.save_checkpoint(MultiTaskNet(spec), str(tmp_path / "first.ckpt"))
    settings = FAST | {"weights": str(tmp_path / "first.ckpt"), "epochs": 1}
    result = finetune(data, tmp_path / "run", **settings)
    assert not create_network(weights=result.checkpoint).spec.keypoint_aware
    again = finetune(data, tmp_path / "run", resume=True, progress=False)
    assert losses(again.history) == losses(result.history)


def test_a_resume_without_its_state_is_refused(straight, data, tmp_path) -> None:
    run = shutil.copytree(straight.output, tmp_path / "run")
    (run / "last.ckpt").unlink()
    before = (run / "history.json").read_bytes()
    with pytest.raises(FinetuneError, match=r"last\.ckpt: there is no such file"):
        finetune(data, run, resume=True)
    assert (run / "history.json").read_bytes() == before


@pytest.mark.parametrize("written", [0, 1])
def test_a_run_that_died_before_its_first_state_starts_afresh(
    straight, data, output, written
) -> None:
    history = json.loads((straight.output / "history.json").read_text())
    history["epochs"] = history["epochs"][:written]
    (output / "history.json").write_text(json.dumps(history))
    if written:
        shutil.copy(straight.checkpoint, output)
    resumed = finetune(data, output, resume=True, progress=False)
    assert losses(resumed.history) == losses(straight.history)
    assert_same_weights(straight.output / "last.ckpt", output / "last.ckpt")
    assert_same_weights(straight.checkpoint, resumed.checkpoint)


@pytest.mark.parametrize("damage", ["empty", "cut", "other labels"])
def test_features_that_are_damaged_or_of_other_labels_are_computed_again(
    data, output, tmp_path, damage, caplog
) -> None:
    folder = tmp_path / "again"
    folder.mkdir()
    root = shutil.copytree(data, tmp_path / "data")
    # The features that the fixture's folder has are of these very pictures and labels.
    kept = (output / "features_train.npz").read_bytes()
    (folder / "features_train.npz").write_bytes(
        {"empty": b"", "cut": kept[:500], "other labels": kept}[damage]
    )
    if damage == "other labels":
        table = root / "label_train.csv"
        first, *others = table.read_text().splitlines()
        name, vehicle, _, *rest = first.split(",")
        table.write_text("\n".join([",".join([name, vehicle, "10", *rest]), *others]) + "\n")
    finetune(root, folder, **FAST | {"epochs": 1})
    assert (folder / "features_train.npz").read_bytes() != kept
    assert ("is damaged" in caplog.text) is (damage != "other labels")
