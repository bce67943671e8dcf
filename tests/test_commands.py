"""What all commands share: options, help, exit codes, and nothing heavy too early."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import PHOTO

from multitasknet import __version__
from multitasknet.cli import _COMMANDS, _parse, _parser, main
from multitasknet.cli.options import source_of
from multitasknet.errors import TrainingError
from multitasknet.training.settings import (
    MultiTaskNetSettings,
    PoseSettings,
    check_settings,
    read_config,
)


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


def help_of(command: str, capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


def options_of(command: str) -> dict[str, argparse.Action]:
    return {name: action for action in COMMANDS[command]._actions for name in action.option_strings}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained_in_words(command: str) -> None:
    for action in COMMANDS[command]._actions:
        if isinstance(action, argparse._SubParsersAction):
            continue
        words = re.sub(r"\(.*?\)", "", action.help or "")
        assert re.search("[a-z]{2} ", f"{words} "), action.dest


def test_every_command_shows_a_line_that_works() -> None:
    without = {name for name, parser in COMMANDS.items() if not parser.epilog}
    assert without == {"gallery"}, "which has commands of its own"
    for name, parser in COMMANDS.items():
        words = shlex.split(parser.epilog.split("multitasknet ", 1)[1]) if parser.epilog else []
        assert not words or _parse(words).run, name


def test_a_mistyped_command_is_answered_with_the_nearest(capsys) -> None:
    for words, answer in (
        (["predct"], "there is no command 'predct'; did you mean 'predict'?"),
        (["-v", "synthesise"], "did you mean 'synthesize'?"),
        (["xyzzy"], "'multitasknet --help' lists them"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(words)
        assert answer in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_without_a_value_is_a_usage_error(command: str, capsys) -> None:
    valued = [name for name, one in options_of(command).items() if one.nargs is None]
    for word in [f"{name}=--" for name in valued if name.startswith("--")] + [""]:
        with pytest.raises(SystemExit, match="2"):
            main([*command.split(), word])
        assert "is empty; give it a value" in capsys.readouterr().err


def test_a_shell_completes_commands_options_and_files(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    assert "predict" in script and "--weights" in script
    assert "predict___weights_COMPGEN=_shtab_compgen_files" in script


def test_the_weights_are_the_shipped_ones_unless_something_else_is_said(monkeypatch) -> None:
    def chosen(*words: str) -> object:
        return source_of(_parse(["predict", "a.jpg", *words])).weights

    assert chosen() == "card", "in tests nothing is shipped"
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", PHOTO.parents[1])
    assert chosen() == chosen("--weights", "synthetic") == "multitasknet"
    assert chosen("--weights", "some.md") == "card"
    monkeypatch.setenv("MULTITASKNET_WEIGHTS", "mine.ckpt")
    assert (chosen(), chosen("--weights", "none")) == ("mine.ckpt", None)


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
    "type_weight": "abc",
    "variant": "foo",
    "seed": 2**32,
    "epochs": 1.5,
    "instances": True,
    "freeze_statistics": 1,
    "lr": float("nan"),
}


@pytest.mark.parametrize("name", BAD_SETTINGS)
def test_a_setting_is_checked_wherever_it_comes_from(name, tmp_path, capsys) -> None:
    value = BAD_SETTINGS[name]
    with pytest.raises(TrainingError, match=f"{name} is .*; expected "):
        check_settings({name: value}, "python")
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({name: value}))
    with pytest.raises(TrainingError, match=rf"config\.yaml: {name} is "):
        read_config(config)
    arguments = ["finetune", "--data", "x", "--output", str(tmp_path / "run")]
    assert main([*arguments, "--config", str(config)]) == 2
    assert f"{name} is " in capsys.readouterr().err
    assert main([*arguments, "--epochs", "many"]) == 2
    assert "options: epochs is 'many'; expected a valid integer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "weights"),
    [
        ([], None),  # finetune's own default, also of what is resumed
        (["--config", "{config}"], None),
        (["--weights", "own.md"], "card"),
        (["--config", "{config}", "--weights", "own.ckpt"], "own.ckpt"),
    ],
)
def test_finetune_passes_on_the_weights_that_are_named(
    options, weights, tmp_path, monkeypatch
) -> None:
    asked = {}

    def finetune(data, output, **settings) -> None:
        asked.update(settings)
        raise KeyboardInterrupt

    config = tmp_path / "pose.yaml"
    config.write_text("network: poseestnet\nresolution: 0.2\n")
    monkeypatch.setattr("multitasknet.hub.card.PACKAGE", PHOTO.parents[1])
    monkeypatch.setattr("multitasknet.training.finetune.finetune", finetune)
    named = [one.format(config=config) for one in options]
    assert main(["finetune", "--data", "x", "--output", "y", *named]) == 130
    assert asked.get("weights") == weights
    assert ("resolution" in asked) == ("--config" in options)


def test_the_help_names_every_setting_and_the_options_defaults(capsys) -> None:
    text = help_of("finetune", capsys)
    for kind in (MultiTaskNetSettings, PoseSettings):
        for name in kind.model_fields:
            assert name in text or f"--{name.replace('_', '-')}" in text
    for name in ("lr", "epochs"):
        assert f"({MultiTaskNetSettings.model_fields[name].default})" in text
