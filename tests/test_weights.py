"""Reading and converting weights, as far as it needs no PyTorch."""

from __future__ import annotations

import hashlib
import itertools
import json
import stat
from dataclasses import replace

import mindspore
import numpy as np
import pytest
from conftest import save
from safetensors.numpy import save_file
from small import small_networks

from multitasknet import (
    CheckpointError,
    MultiTaskNetSpec,
    VehiclePoseSpec,
    convert,
    create_network,
    load_weights,
    read_weights,
    save_weights,
)
from multitasknet.cli import main
from multitasknet.errors import OutputError
from multitasknet.models import NETWORKS
from multitasknet.models.multitasknet.definition import NETWORK
from multitasknet.models.multitasknet.spec import Variant
from multitasknet.vehicle.attributes import COLORS, TYPES, ClassMaps
from multitasknet.weights.load import parameter_shapes
from multitasknet.weights.read import WeightsFile
from multitasknet.weights.sidecar import Sidecar, write_sidecar

HEADS = list(itertools.product((True, False), repeat=3))


@pytest.mark.parametrize(("multi_task", "keypoint_aware", "include_top"), HEADS)
def test_a_networks_parameters_tell_its_architecture(
    multi_task, keypoint_aware, include_top
) -> None:
    spec = MultiTaskNetSpec(
        Variant.RGB,
        keypoint_aware,
        multi_task,
        3 if include_top else 0,
        # Without classifiers nothing states how many there are.
        (("color 0", "color 1") if include_top else COLORS) if multi_task else (),
        TYPES if multi_task else (),
        include_top=include_top,
        stem_pool="symmetric",
    )
    assert NETWORK.spec_from_shapes(parameter_shapes(NETWORK, spec), "here") == spec


@pytest.mark.parametrize("crc_check", [False, True])
def test_the_light_reader_agrees_with_mindspores(tmp_path, crc_check) -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b": rng.normal(size=5).astype(np.float16),
        "c": np.arange(4, dtype=np.int64),
        "d": np.float32(2.5),
        "e": np.array([True, False]),
    }
    wide = mindspore.Tensor(rng.normal(size=50).astype(np.float32))
    values = {name: mindspore.Tensor(array) for name, array in arrays.items()}
    values["half"] = wide.astype(mindspore.bfloat16)
    path = str(tmp_path / "kinds.ckpt")
    named = [{"name": name, "data": value} for name, value in values.items()]
    mindspore.save_checkpoint(named, path, crc_check=crc_check)
    read = dict(read_weights(path).arrays)
    np.testing.assert_allclose(read.pop("half"), wide.asnumpy(), rtol=2**-8)
    theirs = mindspore.load_checkpoint(path, crc_check=crc_check)
    assert read.keys() == arrays.keys()
    for name, array in read.items():
        np.testing.assert_array_equal(array, theirs[name].asnumpy())
        assert array.dtype == arrays[name].dtype


def test_bfloat16_beside_float32_in_safetensors(tmp_path) -> None:
    narrow, wide = np.array([[1.5, -2.0]], np.float32), np.float32([0.1])
    content = (narrow.view(np.uint32) >> 16).astype(np.uint16).tobytes() + wide.tobytes()
    path = tmp_path / "half.safetensors"

    def write(kind: str, shape: list[int]) -> None:
        header = json.dumps(
            {
                "narrow": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]},
                "wide": {"dtype": kind, "shape": shape, "data_offsets": [4, 8]},
            }
        ).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + content)

    write("F32", [1])
    read = read_weights(path).arrays
    np.testing.assert_array_equal(read["narrow"], narrow)
    np.testing.assert_array_equal(read["wide"], wide)
    write("F8_E4M3", [4])
    with pytest.raises(CheckpointError, match="an entry has the type 'F8_E4M3'"):
        read_weights(path)


def test_hash_and_values_are_of_the_same_bytes(tmp_path, arrays) -> None:
    """A training that writes meanwhile changes neither what was read nor its hash."""
    path = tmp_path / "model.safetensors"
    save_file(arrays, path)
    write_sidecar(path, sidecar_of(read_weights(path).spec, "shade"))
    file = WeightsFile(path)
    sha256, sidecar_sha256 = file.hashes
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    save_file({name: array + 1 for name, array in arrays.items()}, path)
    write_sidecar(path, sidecar_of(read_weights(path).spec, "tint"))
    weights = file.read()
    assert weights.file.hashes == (weights.sha256, sidecar_sha256) == (sha256, sidecar_sha256)
    np.testing.assert_array_equal(weights.arrays["fc_vid.bias"], arrays["fc_vid.bias"])
    assert weights.spec.color_names[0] == "shade 0"
    with pytest.raises(CheckpointError, match=f"expected sha256 {sha256}, found"):
        WeightsFile(path, sha256).read()


def sidecar_of(spec: MultiTaskNetSpec, color: str) -> Sidecar:
    named = replace(spec, color_names=tuple(f"{color} {n}" for n in range(spec.num_colors)))
    counts = (spec.num_ids, spec.num_colors, spec.num_types)
    return Sidecar(named, ClassMaps(*(tuple(range(count)) for count in counts)))


def test_the_command_converts_and_prints_what_it_wrote(tmp_path, arrays, capsys) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "model.ckpt"
    save_file(arrays, source)
    assert main(["convert", str(source), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "segment (16 input channels)" in printed and "padded as in MindSpore" in printed
    assert str(target) in printed
    assert stat.S_IMODE(target.stat().st_mode) & stat.S_IWUSR
    read = read_weights(target).arrays
    assert all(np.array_equal(read[name], arrays[name]) for name in arrays)
    for bad in (str(tmp_path / "model.zip"), str(source / "model.ckpt")):
        assert main(["convert", str(source), bad]) == 2
        assert bad in capsys.readouterr().err


@pytest.mark.parametrize(
    ("suffix", "spoilt", "named"),
    [
        (".ckpt", np.full(64, np.nan, np.float32), "with NaN, infinity"),
        (".safetensors", np.full(64, np.inf, np.float16), "with NaN, infinity"),
        (".ckpt", np.full(64, 1e300), "or more than float32 holds"),
        (".ckpt", np.ones(64, np.int8), "of integers or bools"),
        (".safetensors", np.ones(64, bool), "of integers or bools"),
    ],
)
def test_values_that_are_no_weights_are_named(tmp_path, arrays, suffix, spoilt, named) -> None:
    path, entries = tmp_path / f"model{suffix}", arrays | {"base.norm0.beta": spoilt}
    save_file(entries, path) if suffix == ".safetensors" else save(path, entries)
    with pytest.raises(CheckpointError, match=rf"1 .*{named}.*: base\.norm0\.beta"):
        convert(path, tmp_path / "target.ckpt")
    assert not (tmp_path / "target.ckpt").exists()


def test_an_entry_that_comes_twice_is_named(tmp_path) -> None:
    path = save(tmp_path / "model.ckpt", {"base.norm0.beta": np.ones(3, np.float32)})
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(CheckpointError, match=r"'base\.norm0\.beta' has 6 values for \[3\]"):
        read_weights(path)


def test_any_network_is_saved_with_its_sidecar_as_ckpt_alone(tmp_path) -> None:
    with small_networks():
        for name in NETWORKS:
            network = create_network(name, weights=None)
            saved = read_weights(save_weights(network, tmp_path / f"{name}.ckpt"))
            assert (saved.network.name, saved.spec) == (name, network.spec)
    with pytest.raises(OutputError, match=r"m\.safetensors: expected a \.ckpt file"):
        save_weights(network, tmp_path / "m.safetensors")
    assert not list(tmp_path.glob("m.*"))
    with pytest.raises(CheckpointError, match="none of its entries is of this network"):
        load_weights(network, tmp_path / "vehiclepose.ckpt", strict=False)


def test_convert_takes_the_sidecar_along_and_no_strangers(tmp_path, arrays) -> None:
    source = tmp_path / "model.safetensors"
    save_file(arrays, source)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(OutputError, match=r"other\.json: would be read as the sidecar"):
        convert(source, tmp_path / "other.ckpt")
    assert not (tmp_path / "other.ckpt").exists()
    spec = read_weights(source).spec
    write_sidecar(source, Sidecar(VehiclePoseSpec(), ClassMaps((), (), ())))
    with pytest.raises(CheckpointError, match="it is of 'vehiclepose', not of multitasknet"):
        convert(source, tmp_path / "other.ckpt")
    sidecar = sidecar_of(spec, "shade")
    write_sidecar(source, sidecar)
    converted = convert(source, tmp_path / "other.ckpt")
    assert read_weights(converted).spec == sidecar.spec
