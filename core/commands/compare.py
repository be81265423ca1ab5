"""`tunesmith compare`: finished runs side by side on the same items."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from core.commands.files import check_target, write_file
from core.errors import UserError

HELP = "lay finished runs side by side: figures, paired differences with intervals and tests"
EXAMPLE = "tunesmith compare outputs/lora outputs/qlora --html comparison.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The runs, which of their columns, and where to write."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="output_dirs of finished runs, or their evaluations; the first is the rival",
    )
    parser.add_argument("--column", metavar="NAME", help="the column to compare (default: tuned)")
    parser.add_argument(
        "--common", action="store_true", help="where the items differ: compare on those that all runs share"
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page to look at in a browser")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every figure as JSON")


def execute(args: argparse.Namespace) -> int:
    """Compare every run with the first. Raises `UserError` where the runs were not scored on the same items."""
    from core.comparison import comparison_page, comparison_text, load_run, shared_items, side_by_side
    from core.comparison.runs import names_of
    from core.host import load_host

    if len(args.runs) < 2:
        raise UserError("one run alone cannot be compared", help="name two or more output_dirs of finished runs")
    of_runs = [file for run in args.runs for file in Path(run).glob("*") if file.is_file()]
    for flag, path in (("--html", args.html), ("--json", args.json)):
        if path is not None:
            check_target(flag, path, spare=of_runs)
    runs = [load_run(text, name, args.column) for text, name in zip(args.runs, names_of(args.runs), strict=True)]
    lines, note = shared_items(runs, common=args.common)
    values = side_by_side(runs, lines, load_host(), note=note)
    print(comparison_text(values))
    if args.html is not None:
        write_file(args.html, comparison_page(values))
        print(f"wrote {args.html}")
    if args.json is not None:
        write_file(args.json, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
        print(f"wrote {args.json}")
    return 0
