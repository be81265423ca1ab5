"""`tunesmith new`: a recipe, a package of recipes or a plugin to start from."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

HELP = "start a recipe, a package of recipes, or a plugin"
EXAMPLE = "tunesmith new recipe --data recipes/icd10/train.jsonl --yes"
KINDS = ("format", "adapter", "trainer", "evaluator")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is made, and the answers that are known already."""
    what = parser.add_subparsers(dest="what", metavar="recipe|recipe-package|plugin", required=True)

    def kind(name: str, help: str, example: str) -> argparse.ArgumentParser:
        made: argparse.ArgumentParser = what.add_parser(
            name,
            help=help,
            description=f"{help}.",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.add_argument("--yes", action="store_true", help="ask nothing: take what is proposed for the rest")
        return made

    recipe = kind("recipe", "a recipe, fitted to your data", EXAMPLE)
    recipe.add_argument("--base-model", metavar="MODEL", help="hub id, folder or .gguf file")
    recipe.add_argument("--adapter", help="how the model becomes trainable: lora, qlora, full, or a plugin's")
    recipe.add_argument("--data", metavar="DATA", help="training data: a file, a folder, or a data set of the hub")
    recipe.add_argument("--type", help="the format of its rows; proposed from the first of them")
    recipe.add_argument(
        "--test-data", metavar="DATA", help="held-out rows for the verdict, of the same format; - for none"
    )
    recipe.add_argument("--output", metavar="FILE", help="the recipe's file (recipe.yml)")

    package = kind("recipe-package", "a pip project of recipes, with tests", "tunesmith new recipe-package team-med")
    package.add_argument("name", metavar="NAME", help="what it is called, such as team-med")
    package.add_argument("--output", metavar="DIR", type=Path, help="the project's folder (NAME)")

    plugin = kind("plugin", "a pip project of a plugin, with tests", "tunesmith new plugin medqa --kind format")
    plugin.add_argument("name", metavar="NAME", help="what recipes call the component, such as medqa")
    plugin.add_argument("--kind", choices=KINDS, help="what the plugin offers")
    plugin.add_argument("--output", metavar="DIR", type=Path, help="the project's folder (tunesmith-NAME)")


def execute(args: argparse.Namespace) -> int:
    """Write the files, name them and the next step. Raises `UserError` for missing answers and files that exist."""
    made: dict[str, Callable[[argparse.Namespace], int]] = {
        "recipe": _recipe,
        "recipe-package": _recipe_package,
        "plugin": _plugin,
    }
    try:
        return made[args.what](args)
    except EOFError:  # the terminal was closed in the middle of a question
        print("\nnothing was written", file=sys.stderr)
        return 2


def _recipe(args: argparse.Namespace) -> int:
    from core.check import check_recipe
    from core.diagnostics import render_problems
    from core.host import load_host
    from core.recipe import load_recipe
    from core.scaffold.files import write_new
    from core.scaffold.questions import answer
    from core.scaffold.recipe import questions, recipe_files

    host = load_host()
    asked = questions(host)
    given = {question.name: getattr(args, question.name) for question in asked}
    answers = answer(asked, given, yes=args.yes, ask=input if _terminal() else None)
    files = recipe_files(answers, host)
    write_new(files)
    _say(files)
    recipe = load_recipe(Path(answers["output"]))
    if problems := check_recipe(recipe, host):
        print(render_problems(problems, recipe), file=sys.stderr)
    print(f"see what it trains on:  tunesmith data {answers['output']}")
    print(f"run it:                 tunesmith launch {answers['output']}")
    return 0


def _recipe_package(args: argparse.Namespace) -> int:
    from core.scaffold.files import write_new
    from core.scaffold.projects import default_folder, recipe_package_files

    folder = args.output or default_folder(args.name, None)
    files = recipe_package_files(args.name, folder)
    write_new(files)
    _say(files)
    print(f"next:  pip install -e '{folder}[test]' && pytest {folder}")
    return 0


def _plugin(args: argparse.Namespace) -> int:
    from core.host import load_host
    from core.scaffold.files import write_new
    from core.scaffold.projects import default_folder, plugin_files
    from core.scaffold.questions import Question, answer

    def check(value: str, answers: object) -> None:
        from core.errors import UserError

        if value not in KINDS:
            raise UserError(f"unknown kind {value!r}", help=f"there are: {', '.join(KINDS)}")

    question = Question("--kind", f"what it offers ({', '.join(KINDS)})", lambda answers: "format", check)
    kind = answer([question], {"kind": args.kind}, yes=args.yes, ask=input if _terminal() else None)["kind"]
    folder = args.output or default_folder(args.name, kind)
    files = plugin_files(args.name, kind, folder, load_host())
    write_new(files)
    _say(files)
    print(f"next:  pip install -e '{folder}[test]' && pytest {folder}")
    return 0


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _say(files: dict[Path, str]) -> None:
    for path in files:
        print(f"wrote {path}")
