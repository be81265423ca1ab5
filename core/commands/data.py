"""`tunesmith data`: audit a recipe's data and look at it; or propose the recipe lines for a bare data file."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from core.commands.arguments import add_overrides, add_trust_remote_code
from core.commands.files import check_target, writing
from core.errors import DataError, RecipeError, UserError

if TYPE_CHECKING:
    from core.audit import AuditReport, CheckedExample, DataFacts
    from core.types import Plan, Tokenizer

HELP = "audit a recipe's data and show how it is tokenised; on a data file, propose the recipe lines"
EXAMPLE = "tunesmith data recipes/quickstart.yml --longest --html data.html"
RECIPE_SUFFIXES = (".yml", ".yaml")
DATA_SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz", ".zst")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look at, and where to write it."""
    parser.add_argument(
        "target", metavar="RECIPE", type=_target, help="a recipe, or a data file, folder or address without one"
    )
    add_overrides(parser)
    parser.add_argument(
        "--part",
        choices=("train", "validation", "evaluation"),
        default="train",
        help="the part of the data that the options below look at (default train)",
    )
    parser.add_argument(
        "--row", metavar="N", type=_row, help="show row N (from 1), or the row at a place such as train.jsonl:12"
    )
    parser.add_argument("--grep", metavar="TEXT", help="show examples that hold TEXT, in upper or lower case")
    parser.add_argument("--longest", action="store_true", help="show the longest examples")
    parser.add_argument("--samples", metavar="N", type=_count, help="show up to N examples (default 3; 0 for none)")
    parser.add_argument("--dump", metavar="FILE", type=Path, help="write ids and labels of every example as JSON lines")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write a page to look at in a browser")
    add_trust_remote_code(parser)


def _target(text: str) -> Path | str:
    return text if "://" in text else Path(text)


def _row(text: str) -> str:
    # a place ends with the number of a line or of a row
    if not text[-1:].isdecimal() or (text.isdecimal() and int(text) == 0):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 nor a place such as train.jsonl:12")
    return text


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return int(text)


def execute(args: argparse.Namespace) -> int:
    """Say what the audit found, show the examples asked for, write the files asked for; no model weights are loaded.

    Raises `UserError` last for what would stop a run, so that it can be looked at first.
    """
    for flag, path in (("--dump", args.dump), ("--html", args.html)):
        if path is not None:
            check_target(flag, path, spare=[Path(args.target)])
    if isinstance(args.target, str):
        from core.preview.propose import propose_recipe

        print("\n".join(propose_recipe(args.target)))
        return 0
    if args.target.suffix.lower() in DATA_SUFFIXES and not args.target.exists():
        raise UserError(f"no such file: {str(args.target)!r}", help="name a recipe, or a data file or folder")
    if args.target.suffix.lower() not in RECIPE_SUFFIXES and args.target.exists():
        from core.preview.propose import propose_recipe

        print("\n".join(propose_recipe(args.target)))
        return 0
    plan = _plan_of(args)
    _spare_what_is_read(args, plan)

    from core.preview.choose import private_places, refuse_part

    refuse_part(plan, args.part)

    from core.audit import Audit, audit_lines, refuse_errors
    from core.data.chat_templates import adopt_chat_template
    from core.data.prepare import divide, gather, limits_of, refuse_nothing, stats_of
    from core.data.summary import lines_about, remarks_about
    from core.models import load_tokenizer
    from core.sharing.variables import hide

    try:
        tokenizer = load_tokenizer(plan)
    except RecipeError as error:
        error.recipe = error.recipe or plan.recipe
        raise
    adopt_chat_template(plan, tokenizer)
    with tempfile.TemporaryDirectory(prefix="tunesmith-data-") as folder:
        checks = Audit(plan.checks, tokenizer, limits_of(plan).sequence_len)
        gathered = gather(plan, tokenizer, Path(folder), checks.see)
        facts = gathered.facts(tokenizer)
        named = args.row is not None or args.grep is not None
        shown = _chosen(args, facts) if named else []  # a row that is not there is told before all the rest
        report = checks.report(facts)
        said, stats = hide(audit_lines(report), plan.recipe), stats_of(gathered, report)
        refusal = None
        try:
            refuse_nothing(gathered)
            if not report.errors and gathered.streamed is None:
                _, stats = divide(*gathered.rows(), plan, stats)
        except DataError as error:
            refusal = error
        print("\n".join([*lines_about(stats, plan.recipe), *said]))
        private = private_places(report)
        _show(args, shown if named else _chosen(args, facts, private), tokenizer, left_out=bool(private) and not named)
        _write(args, facts, report, plan, tokenizer, remarks_about(stats, plan.recipe))
    refuse_errors(report, plan.recipe)
    if refusal is not None:
        raise refusal
    return 0


def _plan_of(args: argparse.Namespace) -> Plan:
    from core.check import check_recipe
    from core.diagnostics import render_problems
    from core.host import load_host
    from core.plan import make_plan
    from core.recipe import load_recipe

    recipe, host = load_recipe(args.target, args.overrides), load_host()
    try:
        problems = check_recipe(recipe, host)
        if any(problem.severity == "error" for problem in problems):
            raise RecipeError(problems)
        plan = make_plan(recipe, host, trust_remote_code=args.trust_remote_code)
    except RecipeError as error:
        error.recipe = error.recipe or recipe
        raise
    if problems:
        print(render_problems(problems, recipe), file=sys.stderr, flush=True)
    return plan


def _spare_what_is_read(args: argparse.Namespace, plan: Plan) -> None:
    """Raises `UserError` where a file to write is one that the recipe's data are read from."""
    data = [Path(one.path).resolve() for one in (*plan.datasets, *plan.validation, *plan.evaluation.datasets)]
    for flag, path in (("--dump", args.dump), ("--html", args.html)):
        if path is None or not path.is_file():
            continue
        # of a folder, its files of rows alone are read
        near = [path.resolve(), *(path.resolve().parents if path.suffix.lower() in DATA_SUFFIXES else ())]
        if any(read in near for read in data):
            raise UserError(f"{flag} {str(path)!r} would overwrite data of the recipe", help="name another file")


def _chosen(args: argparse.Namespace, facts: DataFacts, private: Collection[str] = ()) -> list[CheckedExample]:
    """The examples asked for. private: the places of those that are shown only where they are named."""
    from core.preview.choose import choose, part_of

    if args.samples == 0:
        return []
    part = part_of(facts, args.part)
    return choose(part, row=args.row, grep=args.grep, longest=args.longest, samples=args.samples, private=private)


def _show(
    args: argparse.Namespace, examples: Sequence[CheckedExample], tokenizer: Tokenizer, *, left_out: bool
) -> None:
    """left_out: whether examples that may hold personal data are not among these."""
    from core.preview.pieces import pieces_of, special_texts
    from core.preview.terminal import head_of, painted

    if args.samples == 0:
        return
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    special = special_texts(tokenizer)
    of = f"{args.part}; " if args.part != "train" else ""
    print(f"\n{of}trained text is {'green' if colour else 'in ⟦brackets⟧'}:")
    if left_out:
        print("(examples that may hold personal data are shown with --row or --grep alone)")
    for example in examples:
        print(f"\n── {head_of(example)}")
        print(painted(pieces_of(example, tokenizer, special), colour=colour))


def _write(
    args: argparse.Namespace,
    facts: DataFacts,
    report: AuditReport,
    plan: Plan,
    tokenizer: Tokenizer,
    remarks: Sequence[str],
) -> None:
    if args.dump is not None:
        from core.preview.choose import part_of
        from core.preview.dump import write_dump

        with writing(args.dump):
            count = write_dump(args.dump, part_of(facts, args.part))
        first = ", the first rows alone" if plan.recipe["streaming"] else ""
        print(f"\nwrote {count:,} examples to {args.dump}{first}")
    if args.html is not None:
        from core.preview.page import data_page
        from core.sharing.variables import hide
        from core.whole_file import write_whole

        page = hide(data_page(facts, report, str(plan.recipe.path), tokenizer, remarks), plan.recipe)
        with writing(args.html):
            write_whole(args.html, page)
        print(f"\nwrote {args.html}")
