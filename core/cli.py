"""The command line: picks the subcommand, and turns what went wrong into a message and an exit code.

Exit codes: 0 done, 1 a bug (with its traceback), 2 something the user can put right, 3 a gate that failed (or runs that
differ, where that was the question), 130 interrupted.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn, TextIO

from core import __version__
from core.errors import RecipeError, UserError
from core.interrupts import noted_interrupts
from core.launched import leave_exit_code, note_start, rank_of, under_bare_launcher
from core.sharing.packages import looks_packaged

if TYPE_CHECKING:
    from core.recipe import Recipe

COMMANDS = (
    "run",
    "launch",
    "eval",
    "compare",
    "check",
    "plan",
    "data",
    "cache",
    "show",
    "diff",
    "recipes",
    "plugins",
    "schema",
    "report",
    "reproduce",
    "new",
)
USER_ERROR = 2
INTERRUPTED = 130
BROKEN_PIPE = 141

# How long a rank other than the first waits before it fails: the first rank shows the message, and its end makes the
# launcher stop the others. Only an error that the first rank does not have is shown by another. On a busy machine the
# first rank takes seconds to speak and to end.
LINGER_SECONDS = 30.0

LAUNCHER_NOTE = (
    "note: the launcher's traceback below is not the cause\n"
    "help: `tunesmith launch RECIPE` leaves it out, and `tunesmith check RECIPE` finds a recipe's mistakes without it"
)


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UserError`s with a suggestion."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError`; suggests the nearest option for an unknown one."""
        help = f"see {self.prog} --help"
        if message.startswith("unrecognized arguments: "):
            unknown = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            message = f"unknown argument {unknown!r}"
            near = difflib.get_close_matches(unknown, self._option_string_actions, n=1)
            help = f"did you mean {near[0]!r}? {help}" if near else help
        elif message.startswith("the following arguments are required: "):
            message = f"{message.removeprefix('the following arguments are required: ')} is missing"
        raise UserError(message, help=help)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return the exit code; a bug's exception flies."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    rank, launcher_follows = rank_of(), under_bare_launcher()
    note_start()
    code = 1
    try:
        code = _run_and_explain(arguments, rank)
        if code not in (0, BROKEN_PIPE) and launcher_follows and rank == 0:
            _print(LAUNCHER_NOTE, sys.stderr)
    finally:
        if code not in (0, USER_ERROR):
            _linger(rank)
        leave_exit_code(code)  # last: it tells the launcher that what failed has been said
    return code


def command_parser(name: str) -> Parser:
    """The parser of the subcommand `name`, with its help and example."""
    module = _command(name)
    parser = Parser(
        prog=f"tunesmith {name}",
        description=f"{module.HELP}.",
        epilog=f"example:\n  {module.EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


def _run_and_explain(arguments: list[str], rank: int) -> int:
    with noted_interrupts() as interrupted:
        try:
            return _explained(arguments, rank)
        except Exception:
            if not interrupted():
                raise
    if rank == 0:
        _print("interrupted", sys.stderr)
    return INTERRUPTED


def _explained(arguments: list[str], rank: int) -> int:
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as end:
        # argparse leaves this way after --help
        return end.code if isinstance(end.code, int) else 0
    except UserError as error:
        _linger(rank)
        _print(_explain(error, "" if rank == 0 else f"[rank {rank}] "), sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as interrupt:
        if rank == 0:
            _print(f"interrupted{f': {interrupt}' if str(interrupt) else ''}", sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # the reader went away; without this the interpreter complains once more when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _linger(rank: int) -> None:
    if rank != 0:
        with suppress(KeyboardInterrupt):
            time.sleep(LINGER_SECONDS)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if arguments[0] == "--version":
        print(f"tunesmith {__version__}")
        return 0
    name = arguments[0]
    if name in COMMANDS:
        arguments = arguments[1:]
    elif _may_be_recipe(name):
        name = "run"
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        everything = f"the commands are {', '.join(COMMANDS)}; a recipe's name ends in .yml"
        raise UserError(f"unknown command {name!r}", help=f"did you mean {near[0]!r}?" if near else everything)
    parser = command_parser(name)
    known, rest = parser.parse_known_args(arguments)
    takes_rest: bool = getattr(_command(name), "TAKES_OTHER_FLAGS", False)
    if rest and not takes_rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if takes_rest:
        known.other_flags = rest
    code: int = _command(name).execute(known)
    return code


def _may_be_recipe(argument: str) -> bool:
    """Whether a first argument that is no command stands for a recipe (or an option of `run` before it)."""
    named = argument.endswith((".yml", ".yaml")) or looks_packaged(argument)
    return argument.startswith("-") or named or Path(argument).is_file()


def _command(name: str) -> ModuleType:
    return import_module(f"core.commands.{name}")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {_command(name).HELP}" for name in COMMANDS]
    return "\n".join(
        [
            "tunesmith: turn a YAML recipe into a fine-tuned language model and the proof that it was worth it",
            "",
            "usage: tunesmith COMMAND ...   (`tunesmith RECIPE.yml` is short for `tunesmith run RECIPE.yml`)",
            "",
            *lines,
            "",
            "`tunesmith COMMAND --help` shows a command's options and an example.",
        ]
    )


def _explain(error: UserError, prefix: str) -> str:
    if isinstance(error, RecipeError):
        from core.diagnostics import render_problems

        problems: str = render_problems(error.problems, error.recipe or _unread_recipe(error))
        return prefix + problems
    text = f"{prefix}error: {error.message}"
    return f"{text}\nhelp: {error.help}" if error.help else text


def _unread_recipe(error: RecipeError) -> Recipe:
    """The text around problems found before there were values: enough to show their lines."""
    from core.recipe import Recipe

    path = next((Path(problem.position.file) for problem in error.problems if problem.position), Path("recipe"))
    return Recipe(path, path.read_text(encoding="utf-8", errors="replace") if path.is_file() else "", {})


def _print(text: str, stream: TextIO) -> None:
    print(text, file=stream, flush=True)
