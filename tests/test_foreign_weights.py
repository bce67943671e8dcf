"""Weights from elsewhere: PyTorch files against a PyTorch network, and files with bad intent."""

from __future__ import annotations

import itertools
import pickle
import re
from pathlib import Path

import mindspore
import numpy as np
import pytest

from multitasknet import (
    CheckpointError,
    MultiTaskNet,
    MultiTaskNetSpec,
    convert,
    create_network,
    read_weights,
)
from multitasknet.models.multitasknet.definition import NETWORK
from multitasknet.models.multitasknet.spec import SYMMETRIC_POOL, Variant

torch = pytest.importorskip("torch", reason="pip install '.[torch]'")
from torch_network import TorchNet, backbone  # noqa: E402

ANY = torch.ones(128, 64, 1, 1)
HEADS = list(itertools.product((True, False), repeat=2))


def inputs(spec: MultiTaskNetSpec, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(count, spec.channels, 64, 64)).astype(np.float32)
    return x, rng.uniform(-0.5, 0.5, (count, 108)).astype(np.float32)


def expected(network: TorchNet, spec: MultiTaskNetSpec) -> list[np.ndarray]:
    with torch.no_grad():
        return [output.numpy() for output in network(*map(torch.from_numpy, inputs(spec)))]


def assert_same(network: MultiTaskNet, wanted: list[np.ndarray]) -> None:
    outputs = network(*map(mindspore.Tensor, inputs(network.spec)))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for output, one in zip(outputs, wanted, strict=True):
        assert np.abs(output.asnumpy() - one).max() <= 1e-4 * np.abs(one).max()


def as_nvlabs(network: TorchNet) -> dict:
    """A training checkpoint as NVlabs saves it: from DataParallel, with a NumPy accuracy."""
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    return {"state_dict": state, "rank1": np.float32(0.9), "epoch": 60}


def as_old(state: dict) -> dict:
    """The names of torchvision's older files."""
    return {
        re.sub(r"(\.denselayer.*\.)(norm|conv)([12])", r"\1\2.\3", k): v for k, v in state.items()
    }


@pytest.fixture(scope="module")
def imagenet() -> dict:
    """A state dict in torchvision's layout."""
    torch.manual_seed(5)
    state = {f"features.{name}": value for name, value in backbone(3).state_dict().items()}
    return state | {
        "classifier.weight": torch.zeros(1000, 1024),
        "classifier.bias": torch.zeros(1000),
    }


@pytest.mark.parametrize(("variant", "heads"), list(zip(Variant, HEADS, strict=True)))
def test_every_nvlabs_network_gives_the_same_outputs(tmp_path, variant, heads) -> None:
    multi_task, keypoint_aware = heads
    colors = MultiTaskNetSpec.color_names if multi_task else ()
    types = MultiTaskNetSpec.type_names if multi_task else ()
    spec = MultiTaskNetSpec(
        variant, keypoint_aware, multi_task, 7, colors, types, stem_pool="symmetric"
    )
    foreign = TorchNet(spec)
    path = tmp_path / "model_best.pth.tar"
    torch.save(as_nvlabs(foreign), path, _use_new_zipfile_serialization=False)
    network = create_network(weights=path)
    assert network.spec == spec
    assert_same(network, expected(foreign, spec))
    assert all(name.endswith("num_batches_tracked") for name in network.load_report.left_out)


def test_a_file_of_mindspore_pads_its_stem_pool_after_and_not_before(checkpoint) -> None:
    network = create_network(weights=checkpoint)
    twin = TorchNet(network.spec)
    stem = torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.MaxPool2d(3, 2)
    twin.base.pool0 = torch.nn.Sequential(*stem)
    arrays = {SYMMETRIC_POOL: np.ones(1, np.float32), **read_weights(checkpoint).arrays}
    state = {name: torch.tensor(a) for name, a in NETWORK.to_torch(arrays).items()}
    twin.load_state_dict(state)
    assert_same(network, expected(twin, network.spec))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_converted_file_keeps_the_origin_of_its_stem_pool(tmp_path, suffix) -> None:
    spec = MultiTaskNetSpec(num_ids=7, stem_pool="symmetric")
    foreign = TorchNet(spec)
    torch.save(foreign.state_dict(), tmp_path / "model.pth")
    converted = convert(tmp_path / "model.pth", tmp_path / f"model{suffix}")
    network = create_network(weights=converted)
    assert network.spec == spec
    assert len(network.trainable_params()) == 374
    assert_same(network, expected(foreign, spec))
    mindspore.save_checkpoint(network, str(tmp_path / "again.ckpt"))
    assert create_network(weights=tmp_path / "again.ckpt").spec == spec
    if suffix == ".ckpt":  # the Hub client loads so
        values = mindspore.load_checkpoint(str(converted))
        loaded = mindspore.load_param_into_net(create_network(weights=None, num_ids=7), values)
        assert loaded in (([], []), ([], ["base.pool0.symmetric"]))


def test_an_imagenet_backbone_gets_a_fresh_head_and_a_wider_stem_or_is_the_features(
    tmp_path, imagenet
) -> None:
    path = tmp_path / "densenet121.pth"
    for state in (as_old(imagenet), imagenet):
        torch.save(state, path)
        network = create_network(weights=path, variant="heatmap", num_ids=9)
        assert network.spec == MultiTaskNetSpec(Variant.HEATMAP, num_ids=9, stem_pool="symmetric")
        report = network.load_report
        assert {name.partition(".")[0] for name in report.loaded} == {"base"}
        assert not any(name.startswith("base") for name in report.fresh)
        assert {"classifier.weight", "classifier.bias"} <= set(report.left_out)
    stem = network.base.conv0.weight.asnumpy()
    np.testing.assert_array_equal(stem[:, :3], imagenet["features.conv0.weight"].numpy())
    assert abs(stem[:, 3:].std() - 0.02) < 1e-3
    assert abs(stem[:, 3:].mean()) < 1e-3

    bare = create_network(
        weights=convert(path, tmp_path / "backbone.safetensors"), include_top=False
    )
    assert (bare.spec.variant, bare.load_report.fresh) == (Variant.RGB, ())
    features = backbone(3)
    features.load_state_dict(
        {k.removeprefix("features."): v for k, v in imagenet.items() if k.startswith("f")}
    )
    x, _ = inputs(bare.spec)
    with torch.no_grad():
        assert_same(bare, [features.eval()(torch.from_numpy(x)).mean((2, 3)).numpy()])


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
    assert "\n" not in str(refused.value)
    assert not witness.exists()
    if container != "pickle":
        torch.load(path, weights_only=False)
        assert witness.exists(), "the file must be one that would have run"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda state: state.update(note="hello"), "its entry 'note' is a str"),
        (
            lambda state: state.update(
                {"base.denseblock3.denselayer25.norm1.weight": torch.ones(9)}
            ),
            "1 unexpected: base.denseblock3.cell_list.24.norm1.weight",
        ),
        (dict.clear, "expected a state dict"),
        (
            lambda state: state.update({"base.denseblock1.denselayer1.conv.1.weight": ANY}),
            "two of its entries are 'base.denseblock1.cell_list.0.conv1.weight'",
        ),
        (
            lambda state: state.pop("base.conv0.weight"),
            "of NVlabs' PAMTRI and of torchvision's DenseNet-121",
        ),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_written(tmp_path, change, named) -> None:
    state = dict(TorchNet(MultiTaskNetSpec(Variant.RGB, num_ids=2)).state_dict())
    change(state)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=re.escape(named)):
        convert(tmp_path / "odd.pth", tmp_path / "odd.safetensors")
    assert {path.name for path in tmp_path.iterdir()} == {"odd.pth"}


def test_weights_of_pytorch_go_back_to_it_and_those_of_mindspore_are_refused(
    tmp_path, checkpoint
) -> None:
    foreign = TorchNet(MultiTaskNetSpec(num_ids=7, stem_pool="symmetric"))
    torch.save(as_nvlabs(foreign), tmp_path / "model_best.pth.tar")
    ours = convert(tmp_path / "model_best.pth.tar", tmp_path / "ours.ckpt")
    back = torch.load(convert(ours, tmp_path / "back.pth"), weights_only=True)["state_dict"]
    wanted = foreign.state_dict()
    assert set(back) == set(wanted)
    assert all(torch.equal(back[name], wanted[name]) for name in wanted)
    with pytest.raises(ValueError, match="pads its max pool on the other side"):
        convert(checkpoint, tmp_path / "published.pth")
    assert not (tmp_path / "published.pth").exists()
