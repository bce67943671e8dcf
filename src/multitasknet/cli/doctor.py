"""``doctor``: whether this machine computes what it should, as a table to paste into an issue."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from .options import add_command, add_options, print_json

_WIDTH = 20


def add_parsers(commands: Any) -> None:
    doctor = add_command(commands, "doctor", _doctor, "check that this machine computes rightly")
    doctor.add_argument("--short", action="store_true", help="leave out what takes minutes")
    add_options(doctor, "--device", "--json")


def _doctor(options: argparse.Namespace) -> None:
    from ..doctor.checks import DoctorError, examine

    failed = 0
    for finding in examine(options.device, short=options.short):
        failed += finding.status == "failed"
        if options.json:
            print_json([asdict(finding)])
            continue
        print(f"{finding.name:{_WIDTH}} {finding.status:8} {finding.found}", flush=True)
        if finding.remedy:
            print(f"{'':{_WIDTH}} {'remedy':8} {finding.remedy}", flush=True)
    if failed:
        raise DoctorError(f"{failed} of the checks failed; the table says what to do")
