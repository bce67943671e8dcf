"""``doctor``: what it decides by, that it finds what is wrong, and that a CPU passes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from multitasknet.cli import main
from multitasknet.doctor import checks, probe, reference
from multitasknet.doctor.checks import cann_version, version_faults

FINE = {"python": "3.11.7", "mindspore": "2.10.0", "numpy": "1.26.4", "protobuf": "7.36.2"}


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        ({}, ""),
        ({"mindspore": "2.7.0rc1"}, ""),
        ({"mindspore": "2.6.0"}, "take 2.7 to 2.10"),
        ({"mindspore": "2.11.0"}, "take 2.7 to 2.10"),
        ({"numpy": "2.1.0"}, "numpy<2"),
        ({"CANN": "8.5.0", "protobuf": "3.20.3"}, ""),
        ({"CANN": "8.5.0"}, "protobuf>=3.20,<3.21"),
        ({"CANN": "8.5.0", "protobuf": "3.20.0", "python": "3.12.1"}, ""),
        ({"CANN": "8.3.RC1", "protobuf": "3.20.0", "python": "3.12.1"}, "take Python 3.10"),
        ({"python": "3.12.1", "mindspore": "2.9.0"}, ""),
    ],
)
def test_versions_that_do_not_fit_are_named_with_the_remedy(found, fault) -> None:
    faults = version_faults(FINE | found)
    assert len(faults) == bool(fault)
    assert fault in "".join(faults)


def test_canns_version_is_that_of_the_sourced_environment(tmp_path: Path) -> None:
    assert cann_version({}) == ""
    assert cann_version({"ASCEND_HOME_PATH": str(tmp_path)}) == ""
    (tmp_path / "compiler").mkdir()
    (tmp_path / "compiler" / "version.info").write_text("Version=8.5.0\nversion_dir=8.5\n")
    assert cann_version({"ASCEND_TOOLKIT_HOME": str(tmp_path)}) == "8.5.0"


def test_a_short_form_passes_on_a_cpu(capsys) -> None:
    assert main(["doctor", "--short", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["name"] for row in rows] == [check.name for check in checks.CHECKS]
    skipped = {row["name"] for row in rows if row["status"] == "skipped"}
    assert skipped == {check.name for check in checks.CHECKS if not check.is_short} | {
        "forward, no HF32"
    }
    assert not any(row["remedy"] for row in rows)


def test_what_is_wrong_fails_with_a_remedy_and_the_rest_goes_on(capsys, monkeypatch) -> None:
    def broken() -> tuple[checks.Status, str, str]:
        raise RuntimeError("no such operator\nand more")

    wrong = {"outputs": reference.read_reference()["outputs"] + 1}
    monkeypatch.setattr(reference, "read_reference", lambda: wrong)
    monkeypatch.setattr(
        checks,
        "CHECKS",
        (
            checks.Check("broken", broken),
            checks.Check("forward", checks._forward),
            checks.Check("device", checks._device),
        ),
    )
    assert main(["doctor"]) == 2
    captured = capsys.readouterr()
    first, remedy, second, *_ = captured.out.splitlines()
    assert first.split(maxsplit=2) == ["broken", "failed", "RuntimeError: no such operator"]
    assert remedy.split(maxsplit=1) == ["remedy", "report it with this table"]
    assert second.split()[:2] == ["forward", "failed"]
    assert captured.out.splitlines()[-1].split() == ["device", "ok", "CPU"]
    assert "2 of the checks failed" in captured.err


def test_the_stored_outputs_are_small_and_what_the_script_writes(tmp_path, monkeypatch) -> None:
    assert reference.FILE.stat().st_size < 200_000
    stored = reference.read_reference()
    monkeypatch.setattr(reference, "FILE", tmp_path / "reference.json")
    monkeypatch.setattr(probe, "STEPS", 2)
    reference.write_reference()
    written = reference.read_reference()
    assert written.keys() == stored.keys()
    assert written["outputs"].shape == (8, 87)
    np.testing.assert_allclose(written["outputs"], stored["outputs"], atol=1e-4)
    for precision in ("float32", "mixed"):
        np.testing.assert_allclose(written[precision], stored[precision][:2], rtol=1e-3)
        assert stored[precision][-1] < stored[precision][0]


@pytest.mark.slow
def test_two_processes_have_the_gradients_of_one() -> None:
    status, found, _ = checks._two_devices()
    assert status == "ok", found
