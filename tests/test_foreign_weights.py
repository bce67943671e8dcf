"""Weights of PyTorch beside networks in PyTorch, and files with bad intent."""

from __future__ import annotations

import itertools
import pickle
import re
from importlib import import_module
from pathlib import Path

import mindspore
import numpy as np
import pytest

from multitasknet import (
    CheckpointError,
    MultiTaskNetSpec,
    PoseEstNetSpec,
    VehiclePoseSpec,
    VehicleReIDSpec,
    convert,
    create_network,
    export,
    read_weights,
)
from multitasknet.inference.engines import EngineOptions, open_engine
from multitasknet.models.multitasknet.definition import NETWORK
from multitasknet.models.multitasknet.spec import SYMMETRIC_POOL, Variant

torch = pytest.importorskip("torch", reason="pip install '.[torch]'")
from torch_networks import PoseHighResolutionNet, TorchNet, backbone, randomized  # noqa: E402

ANY = torch.ones(128, 64, 1, 1)
NVLABS = [
    MultiTaskNetSpec(
        variant,
        keypoint_aware,
        multi_task,
        7,
        MultiTaskNetSpec.color_names if multi_task else (),
        MultiTaskNetSpec.type_names if multi_task else (),
        stem_pool="symmetric",
    )
    for variant, (multi_task, keypoint_aware) in zip(
        Variant, itertools.product((True, False), repeat=2), strict=True
    )
]
LIGHT = [PoseEstNetSpec(final_bias=True), VehiclePoseSpec(), VehicleReIDSpec()]


@pytest.fixture
def _fewer_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """PoseEstNet has two blocks or modules for four, here and in PyTorch: the same operators."""
    for module in ("multitasknet.models.poseestnet.network", "torch_networks"):
        monkeypatch.setattr(f"{module}.BLOCKS", 2)
        monkeypatch.setattr(f"{module}.MODULES", {2: 1, 3: 1, 4: 2})


def twin_of(spec) -> torch.nn.Module:
    if isinstance(spec, MultiTaskNetSpec):
        return randomized(TorchNet(spec))
    if isinstance(spec, PoseEstNetSpec):
        return randomized(PoseHighResolutionNet())
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).resolve().parents[1] / "examples")
        script = import_module(f"train_{spec.network}")
    if spec.network == "vehiclepose":
        return randomized(script.VehiclePose())
    twin = randomized(script.VehicleReID(3))
    for part in (twin.stem, twin.blocks[3].expand, twin.blocks[3].depthwise, twin.head):
        part.norm.weight.data.mul_(8)  # so that the activations' limit of 6 is met
    return twin


def inputs(spec, size: tuple[int, int] = (64, 96)) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    shapes = spec.input_shapes(size).values()
    return [rng.normal(0, 0.5, (2, *shape)).astype(np.float32) for shape in shapes]


def expected(twin: torch.nn.Module, spec) -> list[np.ndarray]:
    with torch.no_grad():
        found = twin(*map(torch.from_numpy, inputs(spec)))
    outputs = [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]
    # VehicleReID's training has the embedding first.
    return outputs[1:] + outputs[:1] if spec.network == "vehiclereid" else outputs


def assert_same(outputs, wanted: list[np.ndarray]) -> None:
    for output, one in zip(outputs, wanted, strict=True):
        assert np.abs(np.asarray(output) - one).max() <= 1e-4 * np.abs(one).max()


def outputs_of(cell) -> list[np.ndarray]:
    outputs = cell(*map(mindspore.Tensor, inputs(cell.spec)))
    return [one.asnumpy() for one in (outputs if isinstance(outputs, tuple) else (outputs,))]


@pytest.mark.usefixtures("_fewer_layers")
@pytest.mark.parametrize("spec", [*NVLABS, *LIGHT], ids=lambda one: one.network)
def test_weights_of_pytorch_give_the_same_outputs_and_go_back(tmp_path, spec) -> None:
    twin = twin_of(spec)
    state = twin.published() if spec.network == "vehiclereid" else twin.state_dict()
    # As NVlabs saves it: from DataParallel, in a training checkpoint, with a NumPy accuracy.
    stored = {"state_dict": {f"module.{name}": value for name, value in state.items()}}
    path = tmp_path / "model_best.pth.tar"
    stored |= {"rank1": np.float32(0.9), "epoch": 60}
    torch.save(stored, path, _use_new_zipfile_serialization=False)
    weights = read_weights(path)
    assert (weights.network.name, weights.spec) == (spec.network, spec)
    assert all(name.endswith("num_batches_tracked") for name in weights.left_out)
    ours = convert(path, tmp_path / "ours.ckpt")
    cell = create_network(spec.network, weights=convert(ours, tmp_path / "ours.safetensors"))
    assert (cell.spec, cell.load_report.fresh) == (spec, ())
    wanted = expected(twin, spec)
    assert_same(outputs_of(cell), wanted)
    back = torch.load(convert(ours, tmp_path / "back.pth"), weights_only=True)["state_dict"]
    assert set(back) == set(state)
    assert all(torch.equal(back[name], state[name]) for name in state)
    if spec in LIGHT:
        file = export(tmp_path / "ours.onnx", network=cell, size=(64, 64)).path
        for backend in ("onnx", "openvino"):
            engine = open_engine(file, EngineOptions(backend=backend))
            assert_same(engine.run(*inputs(spec)), wanted)


def test_a_file_of_mindspore_pads_its_stem_pool_after_and_cannot_go_to_pytorch(
    tmp_path, checkpoint
) -> None:
    network = create_network(weights=checkpoint)
    twin = randomized(TorchNet(network.spec))
    stem = torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.MaxPool2d(3, 2)
    twin.base.pool0 = torch.nn.Sequential(*stem)
    arrays = {SYMMETRIC_POOL: np.ones(1, np.float32), **read_weights(checkpoint).arrays}
    state = {name: torch.tensor(a) for name, a in NETWORK.to_torch(arrays).items()}
    twin.load_state_dict(state)
    assert_same(outputs_of(network), expected(twin, network.spec))
    with pytest.raises(ValueError, match="pads its max pool on the other side"):
        convert(checkpoint, tmp_path / "published.pth")
    assert not (tmp_path / "published.pth").exists()


def test_a_converted_file_is_loaded_by_the_hub_client_and_keeps_its_origin(tmp_path) -> None:
    spec = MultiTaskNetSpec(num_ids=7, stem_pool="symmetric")
    torch.save(TorchNet(spec).state_dict(), tmp_path / "model.pth")
    converted = convert(tmp_path / "model.pth", tmp_path / "model.ckpt")
    values = mindspore.load_checkpoint(str(converted))
    network = create_network(weights=None, num_ids=7)
    loaded = mindspore.load_param_into_net(network, values)
    assert loaded in (([], []), ([], ["base.pool0.symmetric"]))
    mindspore.save_checkpoint(create_network(weights=converted), str(tmp_path / "again.ckpt"))
    assert read_weights(tmp_path / "again.ckpt").spec == spec


def test_a_densenet_of_imagenet_is_a_backbone_with_a_fresh_head_or_the_features(tmp_path) -> None:
    path, plain = tmp_path / "densenet121.pth", randomized(backbone(3))
    state = {f"features.{name}": value for name, value in plain.state_dict().items()}
    state["classifier.weight"] = torch.zeros(1000, 1024)
    # torchvision's older files have other names.
    older = {re.sub(r"(\.denselayer.*\.)(norm|conv)([12])", r"\1\2.\3", k): state[k] for k in state}
    for names in (older, state):
        torch.save(names, path)
        network = create_network(weights=path, variant="heatmap", num_ids=9)
        assert network.spec == MultiTaskNetSpec(Variant.HEATMAP, num_ids=9, stem_pool="symmetric")
        report = network.load_report
        assert {name.partition(".")[0] for name in report.loaded} == {"base"}
        assert not any(name.startswith("base") for name in report.fresh)
        assert "classifier.weight" in report.left_out
    stem = network.base.conv0.weight.asnumpy()
    np.testing.assert_array_equal(stem[:, :3], state["features.conv0.weight"].numpy())
    assert abs(stem[:, 3:].std() - 0.02) < 1e-3
    assert abs(stem[:, 3:].mean()) < 1e-3
    bare = create_network(weights=path, include_top=False)
    assert (bare.spec.variant, bare.load_report.fresh) == (Variant.RGB, ())
    with torch.no_grad():
        wanted = plain(torch.from_numpy(inputs(bare.spec)[0])).mean((2, 3)).numpy()
    assert_same(outputs_of(bare), [wanted])


@pytest.mark.usefixtures("_fewer_layers")
def test_an_hrnet_of_imagenet_is_a_backbone(tmp_path) -> None:
    """With a classifier that two collections name in their own ways, and further exchanges."""
    state = PoseHighResolutionNet().state_dict()
    more = ("stage4.2.fuse_layers.3.0.0.0.weight", "final_layer.0.weight", "final_layer.1.bias")
    timm = ("incre_modules.0.0.conv1.weight", "downsamp_modules.2.1.weight", "classifier.bias")
    nested = ("head.0.0.0.conv1.weight", "head.1.2.1.weight", "fc.weight")
    for names in ((*more, *timm), (*more, *nested)):
        values = {name: one for name, one in state.items() if not name.startswith("final_layer.")}
        torch.save(values | {name: torch.ones(1) for name in names}, tmp_path / "hrnet.pth")
        network = create_network("poseestnet", weights=tmp_path / "hrnet.pth")
        assert network.load_report.fresh == ("final_layer.weight",)
        assert set(names) < set(network.load_report.left_out)
    headless = create_network("poseestnet", weights=tmp_path / "hrnet.pth", include_top=False)
    assert outputs_of(headless)[0].shape == (2, 32, 16, 24)


class Hostile:
    """A pickle that writes a file when it is loaded by ``pickle.load``."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("container", ["zip", "legacy", "pickle"])
def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path, container) -> None:
    path, witness = tmp_path / "model_best.pth.tar", tmp_path / "witness"
    content = {"state_dict": {"base.conv0.weight": torch.zeros(1)}, "epoch": Hostile(witness)}
    if container == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=container == "zip")
    with pytest.raises(CheckpointError, match=r"refused|no file of torch") as refused:
        create_network(weights=path)
    assert str(path) in str(refused.value)
    assert not witness.exists()
    if container != "pickle":
        torch.load(path, weights_only=False)
        assert witness.exists(), "the file must be one that would have run"


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("note", "hello", "its entry 'note' is a str"),
        (
            "base.denseblock3.denselayer25.norm1.weight",
            torch.ones(9),
            "1 unexpected: base.denseblock3.cell_list.24.norm1.weight",
        ),
        (
            "base.denseblock1.denselayer1.conv.1.weight",
            ANY,
            "two of its entries are 'base.denseblock1.cell_list.0.conv1.weight'",
        ),
        ("base.conv0.weight", None, "of NVlabs' PAMTRI and of torchvision's DenseNet-121"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, name, value, named) -> None:
    state = dict(TorchNet(MultiTaskNetSpec(Variant.RGB, num_ids=2)).state_dict()) | {name: value}
    torch.save({name: one for name, one in state.items() if one is not None}, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=re.escape(named)):
        convert(tmp_path / "odd.pth", tmp_path / "odd.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"odd.pth"}
