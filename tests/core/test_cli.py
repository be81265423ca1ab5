from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core import cli, interrupts
from core.cli import COMMANDS, command_parser, main
from core.errors import DataError, PluginError, Position, Problem, RecipeError, UserError
from core.testing.recipes import write_tiny_recipe

LAUNCHED = {"ACCELERATE_DYNAMO_BACKEND": "NO", "ACCELERATE_MIXED_PRECISION": "no"}


@pytest.fixture(autouse=True)
def not_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "TUNESMITH_LAUNCH_FOLDER", *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "LINGER_SECONDS", 0.0)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `tunesmith report` raise what the test gives it."""

    def fail_with(error: BaseException) -> None:
        def execute(args: object) -> int:
            raise error

        monkeypatch.setattr(import_module("core.commands.report"), "execute", execute)

    return fail_with


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_alone_it_shows_what_it_can_do(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in shown
        assert import_module(f"core.commands.{name}").HELP in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    import core

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"tunesmith {core.__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_that_parses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = import_module(f"core.commands.{name}")
    assert main([name, "--help"]) == 0
    assert f"example:\n  {module.EXAMPLE}" in capsys.readouterr().out
    program, command, *arguments = module.EXAMPLE.split(">")[0].split()
    assert (program, command) == ("tunesmith", name)
    _, rest = command_parser(name).parse_known_args(arguments)
    assert rest == [] or name == "launch"
    root = Path(__file__).parents[2]
    recipes = [argument for argument in arguments if argument.endswith(".yml") and not argument.startswith("-")]
    assert [recipe for recipe in recipes if not (root / recipe).is_file()] == []


@pytest.mark.parametrize("arguments", [("--help",), ("plugins",), ("run", "--help"), ("launch", "--help")])
def test_help_and_lists_need_no_torch(arguments: tuple[str, ...]) -> None:
    program = (
        "import sys\nfrom core.cli import main\n"
        f"code = main({list(arguments)!r})\n"
        "heavy = {'torch', 'transformers', 'accelerate', 'peft', 'datasets', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = python("-c", program)
    assert done.returncode == 0, done.stderr


def executed(monkeypatch: pytest.MonkeyPatch, name: str = "run") -> list[Any]:
    """The arguments that the command's `execute` is called with, from now on."""
    calls: list[Any] = []
    monkeypatch.setattr(import_module(f"core.commands.{name}"), "execute", lambda args: calls.append(args) or 0)
    return calls


@pytest.mark.parametrize(
    "arguments",
    [
        ["recipe.yml"],
        ["run", "recipe.yml"],
        ["recipe.yml", "--set", "a.0.b=1", "--set", "c=d"],
        ["--overwrite", "r.yaml"],
    ],
)
def test_a_recipe_is_short_for_run(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = executed(monkeypatch)
    assert main(arguments) == 0
    (args,) = calls
    assert args.recipe.suffix in (".yml", ".yaml")
    assert args.overrides == (["a.0.b=1", "c=d"] if "--set" in arguments else [])
    assert args.overwrite == ("--overwrite" in arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [([], None), (["--resume"], "latest"), (["--resume", "out/checkpoint-3"], "out/checkpoint-3")],
)
def test_resume_takes_a_checkpoint_or_the_latest(
    arguments: list[str], expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = executed(monkeypatch)
    assert main(["recipe.yml", *arguments]) == 0
    assert calls[0].resume == expected


def test_python_m_core_is_the_same_program() -> None:
    done = python("-m", "core", "plugins", "--jso")
    assert done.returncode == 2
    assert done.stderr == "error: unknown argument '--jso'\nhelp: did you mean '--json'? see tunesmith plugins --help\n"


@pytest.mark.parametrize(
    ("arguments", "message", "help"),
    [
        (["chekc", "recipe.yml"], "unknown command 'chekc'", "did you mean 'check'?"),
        (["frobnicate"], "unknown command 'frobnicate'", "run, launch, eval"),
        (["run"], "RECIPE is missing", "see tunesmith run --help"),
        (["recipe.yml", "--overwrit"], "unknown argument '--overwrit'", "did you mean '--overwrite'?"),
        (["recipe.yml", "--sett=a=b"], "unknown argument '--sett'", "did you mean '--set'?"),
        (["report", "nowhere"], "'nowhere' is not a folder", "output_dir"),
    ],
)
def test_mistakes_in_the_command_line(
    arguments: list[str], message: str, help: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    first, second = error.splitlines()
    assert out == ""
    assert first == f"error: {message}"
    assert second.startswith("help: ")
    assert help in second


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (UserError("no such thing"), "error: no such thing\n"),
        (DataError("a.jsonl:3: not JSON", help="mend the row"), "error: a.jsonl:3: not JSON\nhelp: mend the row\n"),
        (PluginError("two plugins offer it", help="remove one"), "error: two plugins offer it\nhelp: remove one\n"),
    ],
)
def test_a_user_error_is_a_message_and_code_2(
    error: UserError, shown: str, failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(error)
    assert main(["report", "x"]) == 2
    assert capsys.readouterr().err == shown


def test_problems_in_a_recipe_are_shown_with_their_lines(
    tmp_path: Path, failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yml"
    path.write_text("base_model: x\nadaptor: lora\n")
    place = Position(str(path), 2, 1)
    failing(RecipeError([Problem("unknown key 'adaptor'", help="did you mean 'adapter'?", position=place)]))
    assert main(["report", "x"]) == 2
    shown = capsys.readouterr().err
    assert f"{path}:2:1: error: unknown key 'adaptor'" in shown
    assert "adaptor: lora" in shown
    assert "help: did you mean 'adapter'?" in shown


def test_a_bug_keeps_its_traceback(failing: Any) -> None:
    failing(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        main(["report", "x"])


@pytest.mark.parametrize(
    ("interrupt", "shown"),
    [
        (KeyboardInterrupt(), "interrupted\n"),
        (
            KeyboardInterrupt("saved checkpoint-3; go on with --resume"),
            "interrupted: saved checkpoint-3; go on with --resume\n",
        ),
    ],
)
def test_an_interrupt_is_130(
    interrupt: KeyboardInterrupt, shown: str, failing: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(interrupt)
    assert main(["report", "x"]) == 130
    assert capsys.readouterr().err == shown


@pytest.fixture
def own_handler() -> Iterator[None]:
    """Python's own handler of interrupts, whatever runs these tests has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_that_an_import_turned_into_another_error_is_130(
    own_handler: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: list[str]) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    assert main(["report", "x"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_long_after_an_interrupt_is_a_bug(own_handler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> int:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(cli, "_dispatch", interrupted)
    monkeypatch.setattr(interrupts, "LATELY_SECONDS", 0.0)
    with pytest.raises(ZeroDivisionError):
        main(["report", "x"])


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    command = f"{sys.executable} -m core plugins --json | head -c 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


@pytest.mark.parametrize(("rank", "prefix"), [("0", "error: "), ("1", "[rank 1] error: ")])
def test_another_rank_says_which_it_is(
    rank: str, prefix: str, failing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    failing(UserError("disk full"))
    assert main(["report", "x"]) == 2
    assert capsys.readouterr().err.startswith(f"{prefix}disk full")


def test_another_rank_waits_for_the_first_to_speak(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(cli, "LINGER_SECONDS", 7.0)
    monkeypatch.setattr("core.cli.time.sleep", waits.append)
    failing(UserError("disk full"))
    assert main(["report", "x"]) == 2
    assert waits == []
    monkeypatch.setenv("RANK", "1")
    assert main(["report", "x"]) == 2
    failing(KeyboardInterrupt())
    assert main(["report", "x"]) == 130
    assert waits == [7.0, 7.0]


def test_under_a_bare_launcher_the_traceback_to_come_is_explained(
    failing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    failing(UserError("no such thing"))
    assert main(["report", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: no such thing"
    assert lines[1] == "note: the launcher's traceback below is not the cause"
    assert "tunesmith launch" in lines[2]
    assert "tunesmith check" in lines[2]


def test_under_our_launcher_the_code_is_left_in_its_folder_and_no_note_is_shown(
    tmp_path: Path, failing: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**LAUNCHED, "TUNESMITH_LAUNCH_FOLDER": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    failing(UserError("no such thing"))
    assert main(["report", "x"]) == 2
    assert capsys.readouterr().err == "error: no such thing\n"
    assert (tmp_path / "0.exit").read_text() == "2"


def test_every_problem_of_a_recipe_is_shown_and_nothing_is_written(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"lora_rank": 3, "max_steps": "many"})
    before = sorted(tmp_path.iterdir())
    assert main([str(recipe), "--set", "adapter=lorra"]) == 2
    shown = capsys.readouterr().err
    for key in ("lora_rank", "max_steps", "lorra"):
        assert key in shown
    assert "Traceback" not in shown
    assert sorted(tmp_path.iterdir()) == before


def test_a_run_ends_with_the_code_of_its_report(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.results import RunReport
    from core.types import Plan

    plans: list[Plan] = []

    def run(plan: Plan) -> RunReport:
        plans.append(plan)
        return RunReport({}, plan.output_dir, exit_code=3)

    story = ModuleType("core.run")
    story.run = run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "core.run", story)
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    assert main([str(recipe), "--set", "max_steps=2", "--trust-remote-code"]) == 3
    (plan,) = plans
    assert plan.recipe["max_steps"] == 2
    assert plan.trust_remote_code


def test_warnings_are_said_once(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from core.results import RunReport

    story = ModuleType("core.run")
    story.run = lambda plan: RunReport({}, plan.output_dir)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "core.run", story)
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"lora_r": 4, "adapter": None})
    assert main([str(recipe)]) == 0
    assert capsys.readouterr().err.count("warning: ") == 1


def test_drift_is_allowed_of_a_lock_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yml").write_text("base_model: x\n")
    assert main(["run", str(tmp_path / "r.yml"), "--allow-drift", "recipe"]) == 2
    assert capsys.readouterr().err.startswith("error: --allow-drift has no effect without --locked\nhelp: ")
