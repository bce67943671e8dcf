"""Reading and converting weights, as far as it needs no PyTorch."""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import replace

import mindspore
import numpy as np
import pytest
from safetensors.numpy import save_file

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
from multitasknet.vehicle.attributes import ClassMaps
from multitasknet.weights.read import WeightsFile
from multitasknet.weights.sidecar import Sidecar, write_sidecar

pytestmark = pytest.mark.usefixtures("small")


def sidecar_of(spec: MultiTaskNetSpec, color: str) -> Sidecar:
    named = replace(spec, color_names=tuple(f"{color} {n}" for n in range(spec.num_colors)))
    counts = (spec.num_ids, spec.num_colors, spec.num_types)
    return Sidecar(named, ClassMaps(*(tuple(range(count)) for count in counts)))


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
    header = {
        "narrow": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]},
        "wide": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    text, path = json.dumps(header).encode(), tmp_path / "half.safetensors"
    halves = (narrow.view(np.uint32) >> 16).astype(np.uint16)
    path.write_bytes(len(text).to_bytes(8, "little") + text + halves.tobytes() + wide.tobytes())
    read = read_weights(path).arrays
    np.testing.assert_array_equal(read["narrow"], narrow)
    np.testing.assert_array_equal(read["wide"], wide)


def test_hash_and_values_are_of_the_same_bytes(tmp_path, small_arrays) -> None:
    """A training that writes meanwhile changes neither what was read nor its hash."""
    path = tmp_path / "model.safetensors"
    save_file(small_arrays, path)
    write_sidecar(path, sidecar_of(read_weights(path).spec, "shade"))
    file = WeightsFile(path)
    sha256, sidecar_sha256 = file.hashes
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    save_file({name: array + 1 for name, array in small_arrays.items()}, path)
    write_sidecar(path, sidecar_of(read_weights(path).spec, "tint"))
    weights = file.read()
    assert weights.file.hashes == (weights.sha256, sidecar_sha256) == (sha256, sidecar_sha256)
    np.testing.assert_array_equal(weights.arrays["fc_vid.bias"], small_arrays["fc_vid.bias"])
    assert weights.spec.color_names[0] == "shade 0"
    with pytest.raises(CheckpointError, match=f"expected sha256 {sha256}, found"):
        WeightsFile(path, sha256).read()


def test_the_command_converts_and_prints_what_it_wrote(tmp_path, small_arrays, capsys) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "model.ckpt"
    save_file(small_arrays, source)
    command = ["convert", str(source)]
    assert main([*command, str(target), "--float16", "--without", "classifier_vid"]) == 0
    printed = capsys.readouterr().out
    for fact in ("segment (16 input channels)", "padded as in MindSpore", "no identities"):
        assert fact in printed
    assert stat.S_IMODE(target.stat().st_mode) & stat.S_IWUSR
    for name, array in read_weights(target).arrays.items():
        assert array.dtype == (np.float32 if array.ndim < 2 else np.float16)
        np.testing.assert_array_equal(array, small_arrays[name].astype(array.dtype))
    for bad in (tmp_path / "model.zip", source / "model.ckpt"):
        assert main([*command, str(bad)]) == 2
        assert str(bad) in capsys.readouterr().err


@pytest.mark.parametrize(
    "spoilt",
    [
        np.full(64, np.nan, np.float32),
        np.full(64, np.inf, np.float16),
        np.full(64, 1e300),
        np.ones(64, np.int8),
        np.ones(64, bool),
    ],
    ids=["nan", "inf", "1e300", "int", "bool"],
)
def test_values_that_are_no_weights_are_named(tmp_path, small_arrays, spoilt) -> None:
    path = tmp_path / "model.safetensors"
    save_file(small_arrays | {"base.norm0.beta": spoilt}, path)
    with pytest.raises(CheckpointError, match=r"1 with .*: base\.norm0\.beta"):
        convert(path, tmp_path / "target.ckpt")
    assert not (tmp_path / "target.ckpt").exists()


def test_any_network_is_saved_with_its_sidecar_as_ckpt_alone(tmp_path) -> None:
    for name in NETWORKS:
        network = create_network(name, weights=None)
        saved = read_weights(save_weights(network, tmp_path / f"{name}.ckpt"))
        assert (saved.network.name, saved.spec) == (name, network.spec)
    with pytest.raises(OutputError, match=r"m\.safetensors: expected a \.ckpt file"):
        save_weights(network, tmp_path / "m.safetensors")
    assert not list(tmp_path.glob("m.*"))
    with pytest.raises(CheckpointError, match="no entry is of vehiclereid"):
        load_weights(network, tmp_path / "vehiclepose.ckpt", strict=False)


def test_convert_takes_the_sidecar_along_and_no_strangers(tmp_path, small_arrays) -> None:
    source = tmp_path / "model.safetensors"
    save_file(small_arrays, source)
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
    assert read_weights(convert(source, tmp_path / "other.ckpt")).spec == sidecar.spec


def test_convert_leaves_out_only_what_a_network_can_do_without_and_never_overflows(
    tmp_path, small_arrays
) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "target.ckpt"
    small_arrays["fc_vid.weight"][0] = 1e5
    save_file(small_arrays, source)
    for how, reason in (
        ({"without": ["base"]}, "'base' cannot be left out of multitasknet"),
        ({"without": ["classifier_vcolor"]}, "2 missing: classifier_vcolor"),
        ({"float16": True}, "fc_vid.weight has values beyond float16's range"),
    ):
        with pytest.raises(CheckpointError, match=reason):
            convert(source, target, **how)
        assert not target.exists()
