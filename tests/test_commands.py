"""What all commands share: options, old spellings, exit codes, and nothing heavy too early."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from multitasknet import __version__
from multitasknet.cli import main
from multitasknet.training.settings import (
    FinetuneError,
    IdentitySettings,
    Settings,
    read_config,
)

PHOTO = Path(__file__).resolve().parents[1] / "assets" / "example.jpg"


def help_of(command: str, capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "commands"),
    [
        (
            "--weights",
            ["predict", "evaluate", "search", "threshold", "export", "quantize", "finetune"],
        ),
        ("--card", ["predict", "evaluate", "search", "export", "quantize", "finetune", "info"]),
        ("--cache-dir", ["predict", "evaluate", "export", "quantize", "finetune", "download"]),
        (
            "--offline",
            ["predict", "evaluate", "search", "export", "finetune", "download", "hub-install"],
        ),
        ("--size", ["predict", "evaluate", "search", "threshold", "export", "finetune", "adapt"]),
        ("--batch-size", ["predict", "evaluate", "search", "quantize", "finetune"]),
        ("--backend", ["predict", "evaluate", "search", "threshold", "adapt"]),
        ("--precision", ["predict", "evaluate", "search", "threshold", "pose", "evaluate-pose"]),
        ("--hint", ["predict", "precision", "evaluate", "search", "threshold", "pose"]),
        (
            "--device",
            ["predict", "evaluate", "search", "threshold", "pose", "evaluate-pose", "export"],
        ),
        ("--device", ["finetune", "adapt"]),
        ("--threads", ["predict", "evaluate", "search", "threshold", "quantize"]),
        (
            "--json",
            ["predict", "evaluate", "search", "threshold", "quantize"],
        ),
        (
            "--json",
            ["data", "info", "card", "convert", "export", "adapt"],
        ),
        (
            "--network",
            ["info", "download", "card", "convert", "export", "hub-install", "quantize"],
        ),
    ],
)
def test_an_option_is_called_the_same_everywhere(option, commands, capsys) -> None:
    for command in commands:
        text = help_of(command, capsys)
        assert re.search(rf"{option}\b", text), command
        # The first release's spellings are accepted, not shown.
        assert not re.search(r"--batch(?!-size)\b|--trunk-rate", text), command


def test_old_spellings_are_accepted_with_a_warning(capsys) -> None:
    weights = ["--weights", "none", "--variant", "rgb", "--size", "32"]
    assert main(["predict", str(PHOTO), *weights, "--batch", "2", "--json"]) == 0
    captured = capsys.readouterr()
    assert "--batch is called --batch-size now" in captured.err
    assert json.loads(captured.out)["image"] == str(PHOTO)


def test_the_version_is_printed(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"multitasknet {__version__}\n"


@pytest.mark.parametrize(
    "command", [["predict", "a.jpg"], ["quantize", "a.jpg", "--output", "b.onnx"]]
)
def test_a_missing_image_is_named_before_anything_heavy_is_imported(command) -> None:
    code = (
        "import sys; from multitasknet.cli import main\n"
        f"code = main({command!r})\n"
        "sys.exit(code if not {'mindspore', 'onnxruntime'} & set(sys.modules) else 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "a.jpg does not exist" in done.stderr


def test_help_imports_neither_mindspore_nor_opencv() -> None:
    code = (
        "import sys; from multitasknet.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print({'mindspore', 'cv2', 'onnxruntime'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


BAD_SETTINGS = {
    "warmup": -1,
    "milestones": [-1],
    "backbone_rate": -1,
    "smoothing": 2,
    "margin": -1,
    "triplet_weight": -1,
    "color_weight": -0.1,
    "type_weight": "abc",
    "crop": 7,
    "erase": -1,
    "jitter": 50,
    "weight_decay": -1,
    "card": 5,
    "weights": 5,
    "variant": "foo",
    "seed": 2**32,
    "epochs": 1.5,
    "freeze_statistics": 1,
    "lr": float("nan"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_setting_is_checked_wherever_it_comes_from(name, tmp_path, capsys) -> None:
    value = BAD_SETTINGS[name]
    with pytest.raises(FinetuneError, match=f"{name} is .*; expected "):
        Settings.of({name: value}, "python")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({name: value}))
    with pytest.raises(FinetuneError, match=rf"config\.yaml: {name} is "):
        read_config(config)
    arguments = ["finetune", "--data", "x", "--output", str(tmp_path / "run")]
    assert main([*arguments, "--config", str(config)]) == 2
    assert f"{name} is " in capsys.readouterr().err


def test_every_setting_is_an_option_with_its_default(capsys) -> None:
    text = help_of("finetune", capsys)
    for name, rule in IdentitySettings.rules().items():
        option = f"--{name.replace('_', '-')}"
        assert option in text
        if rule.kind is float and rule.least == 0 and name != "milestones":
            assert f"({getattr(IdentitySettings, name)})" in text


@pytest.mark.parametrize(
    "options", [["--margin", "0.5", "--soft-margin"], ["--soft-margin", "--margin", "0.5"]]
)
def test_a_margin_and_the_soft_margin_together_are_refused(options, tmp_path, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", "--data", "x", "--output", str(tmp_path / "run"), *options])
    assert stopped.value.code == 2
    assert "margin: not allowed with argument --" in capsys.readouterr().err


def test_the_first_releases_words_for_settings_hold_with_a_warning(caplog) -> None:
    old = Settings.of({"batch": 16, "trunk_rate": 0.5, "freeze": "trunk"}, "old.yaml")
    assert (old.batch_size, old.backbone_rate, old.freeze) == (16, 0.5, "backbone")
    for words in ("batch is called batch_size", "trunk_rate is called", "trunk is called backbone"):
        assert words in caplog.text
