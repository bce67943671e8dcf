"""What all commands share: options, help, exit codes, and nothing heavy too early."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from unittest.mock import Mock

import pytest

from multitasknet.cli import _COMMANDS, _parse, _parser, main
from multitasknet.training.settings import MultiTaskNetSettings, PoseSettings


def below(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    actions = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return {name: one for action in actions for name, one in action.choices.items()}


def all_commands() -> dict[str, argparse.ArgumentParser]:
    """By name, those of ``gallery`` as well."""
    found = below(_parser())
    for name, parser in list(found.items()):
        found |= {f"{name} {one}": parser for one, parser in below(parser).items()}
    return found


COMMANDS = all_commands()


def test_a_command_is_in_the_module_that_the_table_names() -> None:
    for names in _COMMANDS.values():
        for name in names:
            assert tuple(below(_parser(name))) == names


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_explains_every_option_and_shows_a_line_that_works(command: str) -> None:
    parser = COMMANDS[command]
    for action in parser._actions:
        words = re.sub(r"\(.*?\)", "", action.help or "")
        is_group = isinstance(action, argparse._SubParsersAction)
        assert is_group or re.search("[a-z]{2} ", f"{words} "), action.dest
    if command != "gallery":  # which has commands of its own
        assert _parse(shlex.split(parser.epilog.split("multitasknet ", 1)[1])).run


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["predct"], "there is no command 'predct'; did you mean 'predict'?"),
        (["-v", "synthesise"], "did you mean 'synthesize'?"),
        (["xyzzy"], "invalid choice: 'xyzzy' (choose from"),
        (["predict", "--size=--", "a.jpg"], "--size is empty; give it a value"),
        (["predict", ""], "an argument is empty; give it a value"),
        (["search", "--top", "0"], "expected 1 to 999,999,999, got '0'"),
    ],
)
def test_a_command_or_value_that_cannot_be_meant_is_a_usage_error(words, said, capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert said in capsys.readouterr().err


def test_a_shell_completes_commands_options_and_files(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert "predict" in script and "--weights" in script
    assert "predict___weights_COMPGEN=_shtab_compgen_files" in script


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "commands:"),
        (["predict", "a.jpg"], 2, "a.jpg does not exist"),
        (["quantize", "a.jpg", "--output", "b.onnx"], 2, "a.jpg does not exist"),
    ],
)
def test_help_and_a_missing_image_come_before_anything_heavy(words, code, said) -> None:
    script = (
        "import atexit, sys; from multitasknet.cli import main\n"
        "atexit.register(lambda: print({'mindspore', 'onnxruntime'} & set(sys.modules)))\n"
        f"sys.exit(main({words!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == code and said in done.stdout + done.stderr
    assert done.stdout.endswith("set()\n")


# Settings


def test_a_setting_is_checked_wherever_it_comes_from(tmp_path, capsys) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("warmup: -1")
    arguments = ["finetune", "--data", "x", "--output", str(tmp_path / "run")]
    assert main([*arguments, "--config", str(config)]) == 2
    assert "config.yaml: warmup is -1" in capsys.readouterr().err
    assert main([*arguments, "--epochs", "many"]) == 2
    assert "options: epochs is 'many'; expected a valid integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ([], None),  # finetune's own default, also of what is resumed
        (["--weights", "own.md"], "card"),
        (["--weights", "own.ckpt"], "own.ckpt"),
    ],
)
def test_finetune_passes_on_the_weights_that_are_named(
    options, weights, tmp_path, monkeypatch
) -> None:
    config = tmp_path / "pose.yaml"
    config.write_text("network: poseestnet\nresolution: 0.2\n")
    finetune = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr("multitasknet.training.finetune.finetune", finetune)
    arguments = ["finetune", "--data", "x", "--output", "y", "--config", str(config)]
    assert main([*arguments, *options]) == 130
    asked = finetune.call_args.kwargs
    assert (asked.get("weights"), asked["resolution"]) == (weights, 0.2)


def test_the_help_names_every_setting_and_the_options_defaults() -> None:
    text = COMMANDS["finetune"].format_help()
    for kind in (MultiTaskNetSettings, PoseSettings):
        for name in kind.model_fields:
            assert name in text or f"--{name.replace('_', '-')}" in text
    for name in ("lr", "epochs"):
        assert f"({MultiTaskNetSettings.model_fields[name].default})" in text
