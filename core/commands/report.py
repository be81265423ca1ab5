"""`tunesmith report`: write a finished run's report anew from its `run.json`."""

from __future__ import annotations

import argparse
from pathlib import Path

from core.errors import UserError

HELP = "write a finished run's report and table anew from its run.json"
EXAMPLE = "tunesmith report outputs/quickstart"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One argument: the run's folder."""
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="the output_dir of a finished run")


def execute(args: argparse.Namespace) -> int:
    """Render `report.html` and the table again; nothing is measured anew."""
    folder: Path = args.run_dir
    if not (folder / "run.json").is_file():
        found = "has no run.json" if folder.is_dir() else "is not a folder"
        raise UserError(f"{str(folder)!r} {found}", help="name the output_dir of a run that has finished")

    from core.report import rerender

    rerender(folder)
    return 0
