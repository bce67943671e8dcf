"""The script that trains MultiTaskNet's shipped weights."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mindspore
import numpy as np
import pytest

from multitasknet import (
    MultiTaskNetSpec,
    PoseEstimator,
    create_network,
    read_dataset,
    read_weights,
)
from multitasknet.data.samples import batch_inputs, load_sample
from multitasknet.weights.sidecar import sidecar_path
from vehiclesynth import synthesize

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent
SIZE = 32


@pytest.fixture(scope="module")
def script() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        return import_module("train_multitasknet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vehicles") / "data"
    synthesize(root, vehicles=10, test_vehicles=4, images=4, cameras=4, pixels=64)
    return root


def pictures_of(script: ModuleType, root: Path) -> list:
    return script.read_pictures(script.training_records([root]))


def test_it_trains_and_writes_what_the_package_reads(
    script: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That it goes on, and that its figures are the package's, VehicleReID's test shows."""
    output = tmp_path / "identity.pth"
    for name, value in import_module("torch_training").ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = ["--batch-size=8", "--workers=0", "--stages", "32:1", f"--output={output}"]
    monkeypatch.setattr("sys.argv", ["x", "--data", str(data), "--validate", str(data), *options])
    script.main()
    stated, weights = json.loads(sidecar_path(output).read_text()), read_weights(output)
    assert (stated["size"], stated["origin"]["steps"]) == ([SIZE, SIZE], 1)
    assert stated["metrics"].keys() == {"mAP", "Rank-1", "color", "type"}
    assert weights.spec.input_size == (SIZE, SIZE)
    assert create_network(weights=output, num_ids=3).load_report.fresh == (
        "classifier_vid.weight",
        "classifier_vid.bias",
    )


def test_poses_are_those_that_a_pose_network_finds(script: ModuleType, data: Path) -> None:
    records = list(read_dataset(data, ("query",)).query.records[:2])
    weights = ROOT / "assets" / "vehiclepose_synthetic.ckpt"
    found = script.with_poses(str(weights), records)
    estimator = PoseEstimator(weights, flip_test=False)
    for record, one in zip(records, found, strict=True):
        assert one.vehicle_id == record.vehicle_id
        (pose,) = estimator.estimate([record.image])
        assert np.allclose(one.keypoints, pose.keypoints, atol=1e-3)
    assert script.with_poses("labels", records) == records


def test_it_starts_from_trained_weights(script: ModuleType) -> None:
    shipped = ROOT / "assets" / "multitasknet_synthetic.ckpt"
    network = script.MultiTaskNet(3)
    network.start_from(shipped)

    weights = read_weights(shipped)
    wanted = weights.network.to_torch(weights.arrays)
    found = network.published()
    assert found.keys() == wanted.keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert network.classifier_vid.weight.shape == (3, 1024)


def test_it_trains_on_the_inputs_that_the_package_makes(script: ModuleType, data: Path) -> None:
    records, spec = read_dataset(data, ("train",)).train.records[:8], MultiTaskNetSpec()
    x, p = batch_inputs([load_sample(one, spec) for one in records], spec, (64, 64))
    (batch,) = script.unchanged(pictures_of(script, data)[:8], 64, script.as_it_is)
    ours, pose = (one.numpy() for one in script.MultiTaskNet.inputs_of(batch))
    np.testing.assert_allclose(pose, p, atol=1e-6)
    np.testing.assert_allclose(ours[:, :3], x[:, :3], atol=1e-5)
    # It draws segments into the squeezed picture, the package into the whole one.
    assert np.abs(ours[:, 3:] - x[:, 3:]).mean() < 0.02 * np.abs(x[:, 3:]).mean()


def test_the_network_gives_what_the_package_makes_of_its_weights(
    script: ModuleType, data: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    network = script.MultiTaskNet(3)
    pictures = pictures_of(script, data)
    script.estimate_statistics(network, script.unchanged(pictures, SIZE, script.as_it_is))
    network.eval()
    torch.save({"state_dict": network.published()}, tmp_path / "identity.pth")
    x, p = network.inputs_of(next(script.unchanged(pictures[:4], SIZE, script.as_it_is)))
    with torch.no_grad():
        embedding, color, kind = network(x, p)
    same = create_network(weights=tmp_path / "identity.pth")
    same.set_train(False)
    found = same(*(mindspore.Tensor(one.contiguous().numpy()) for one in (x, p)))
    for ours, theirs in zip(found, (color, kind, embedding), strict=True):
        np.testing.assert_allclose(ours.asnumpy(), theirs.numpy(), rtol=1e-3, atol=1e-3)


def test_the_last_block_alone_can_be_trained(
    script: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies before it stays, and training starts where the weights are."""
    shipped = ROOT / "assets" / "multitasknet_synthetic.ckpt"
    for name, value in import_module("torch_training").ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    options = [
        "--batch-size=8",
        "--workers=0",
        "--stages",
        "32:2",
        f"--output={tmp_path / 'a.pth'}",
    ]
    last = ["--weights", str(shipped), "--last-block", "--learning-rate=1e-3"]
    monkeypatch.setattr("sys.argv", ["x", "--data", str(data), *options, *last])
    script.main()
    before, after = script.MultiTaskNet(3), script.MultiTaskNet(3)
    before.start_from(shipped)
    after.start_from(tmp_path / "a.pth")
    same = {
        name
        for name, value in before.published().items()
        if torch.equal(value, after.published()[name])
    }
    lower = {name for name in before.published() if name.startswith("base.")}
    lower -= {name for name in lower if "denseblock4" in name or "norm5" in name}
    assert lower <= same
    assert not [name for name in same - lower if name.endswith("conv2.weight")]

    rows = np.load(tmp_path / "a.views.npy")
    x, p, embedding = script.split_rows(torch.from_numpy(rows), side=1)
    assert len(rows) == 2 * len(read_dataset(data, ("train",)).train)
    with torch.no_grad():
        found = before.eval().last_block(x, p)[0]
    assert torch.cosine_similarity(found, embedding).min() > 0.999
    monkeypatch.setattr("sys.argv", ["x", "--data", str(data), *options, *last, "--views=3"])
    with pytest.raises(SystemExit, match="of other pictures"):
        script.main()
