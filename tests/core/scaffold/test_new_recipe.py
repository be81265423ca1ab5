"""`tunesmith new recipe`: fitted to the data, free of mistakes, and nothing overwritten."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import pytest

from core.check import check_recipe
from core.cli import main
from core.errors import UserError
from core.host import Host, load_host
from core.plan import make_plan
from core.recipe import load_recipe
from core.scaffold.files import write_new

ROWS: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "Say yes.", "input": "", "output": "yes"},
    "renamed": {"question": "Is 2 even?", "label": "yes"},
    "chat": {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
    "text": {"body": "Once upon a time."},
    "segments": {"segments": [{"label": True, "text": "a"}]},
}


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("core.commands.new._terminal", lambda: False)
    return tmp_path


def write_rows(path: Path, row: dict[str, Any], count: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for _ in range(count)))
    return path


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("alpaca", {"type": "alpaca"}),
        ("renamed", {"type": "alpaca", "field_instruction": "question", "field_output": "label"}),
        ("chat", {"type": "chat_template"}),
        (
            "sharegpt",
            {
                "type": "chat_template",
                "field_messages": "conversations",
                "message_property_mappings": {"role": "from", "content": "value"},
            },
        ),
        ("text", {"type": "completion", "field": "body"}),
        ("segments", {"type": "input_output"}),
    ],
)
def test_the_format_is_proposed_from_the_rows(kind: str, expected: dict[str, Any], here: Path, host: Host) -> None:
    write_rows(here / "rows.jsonl", ROWS[kind])
    assert main(["new", "recipe", "--data", "rows.jsonl", "--yes"]) == 0
    recipe = load_recipe(here / "recipe.yml")
    assert recipe["datasets"] == [{"path": "./rows.jsonl", **expected}]
    assert check_recipe(recipe, host) == []
    assert make_plan(recipe, host).datasets[0].path == str(here / "rows.jsonl")


@pytest.mark.parametrize("adapter", ["lora", "qlora", "full"])
def test_every_adapter_gets_a_recipe_without_mistakes(adapter: str, here: Path, host: Host) -> None:
    assert main(["new", "recipe", "--adapter", adapter, "--yes", "--output", f"{adapter}.yml"]) == 0
    recipe = load_recipe(here / f"{adapter}.yml")
    assert [problem.message for problem in check_recipe(recipe, host) if problem.severity == "error"] == []
    assert recipe["adapter"] == adapter
    assert recipe["output_dir"] == f"./outputs/{adapter}"


def test_with_nothing_at_hand_it_comes_with_rows_to_replace(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "recipe", "--yes"]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert {line.removeprefix("wrote ") for line in shown.out.splitlines() if line.startswith("wrote ")} == {
        entry.name for entry in here.iterdir()
    }
    assert (here / "recipe.yml").read_text().startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    assert json.loads((here / "recipe.schema.json").read_text())["title"] == "Tunesmith recipe"
    assert main(["check", "recipe.yml"]) == 0


def test_data_and_held_out_data_of_the_folder_are_proposed(here: Path, host: Host) -> None:
    write_rows(here / "a-test.jsonl", ROWS["renamed"])
    write_rows(here / "b-train.jsonl", ROWS["renamed"])
    assert main(["new", "recipe", "--yes"]) == 0
    recipe = load_recipe(here / "recipe.yml")
    assert recipe["datasets"][0]["path"] == "./b-train.jsonl"
    assert recipe["evaluation"]["datasets"] == [
        {"path": "./a-test.jsonl", "type": "alpaca", "field_instruction": "question", "field_output": "label"}
    ]
    assert check_recipe(recipe, host) == []


@pytest.mark.parametrize("name", ["a b: c.jsonl", "1e3.jsonl", "#x.jsonl", 'it\'s "q".jsonl', "ä.jsonl", "- x.jsonl"])
def test_awkward_names_survive(name: str, here: Path, host: Host) -> None:
    write_rows(here / "data" / name, ROWS["alpaca"])
    assert main(["new", "recipe", "--data", f"data/{name}", "--yes", "--output", "sub/mine.yml"]) == 0
    assert make_plan(load_recipe(here / "sub" / "mine.yml"), host).datasets[0].path == str(here / "data" / name)


def test_nothing_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "recipe.yml").write_text("mine\n")
    (here / "recipe.schema.json").write_text("mine too\n")
    assert main(["new", "recipe", "--yes"]) == 2
    assert "'recipe.yml' is there already" in capsys.readouterr().err
    assert main(["new", "recipe", "--yes", "--output", "other.yml"]) == 0
    assert (here / "recipe.yml").read_text() == "mine\n"
    assert (here / "recipe.schema.json").read_text() == "mine too\n"


def test_everything_that_is_wrong_is_said_at_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [
        "--base-model",
        "/no/model",
        "--adapter",
        "lorra",
        "--data",
        "no.jsonl",
        "--type",
        "alpac",
        "--output",
        "x",
    ]
    assert main(["new", "recipe", "--yes", *wrong]) == 2
    shown = capsys.readouterr().err
    for part in ("'/no/model'", "'lorra'", "'no.jsonl'", "'alpac'", "'x' does not end in .yml", "did you mean 'lora'?"):
        assert part in shown
    assert list(here.iterdir()) == []


def test_what_rests_on_a_wrong_answer_is_not_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "recipe", "--data", "nope.jsonl", "--yes"]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: no such file: 'nope.jsonl'\nhelp: ")
    assert "--type" not in shown


def test_rows_that_fit_no_format_need_a_type(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(here / "rows.jsonl", {"a": 1, "b": 2})
    assert main(["new", "recipe", "--data", "rows.jsonl", "--yes"]) == 2
    assert "--type is missing" in capsys.readouterr().err
    (here / "bad.jsonl").write_text("not json\n")
    assert main(["new", "recipe", "--data", "bad.jsonl", "--yes"]) == 2
    assert "holds no row that can be read" in capsys.readouterr().err
    assert main(["new", "recipe", "--data", "rows.jsonl", "--type", "completion", "--yes"]) == 0
    assert main(["new", "recipe", "--data", "org/data", "--type", "alpaca", "--yes", "--output", "hub.yml"]) == 0
    assert load_recipe(here / "hub.yml")["datasets"] == [{"path": "org/data", "type": "alpaca"}]


def test_without_a_terminal_nothing_is_guessed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "recipe", "--adapter", "lora"]) == 2
    shown = capsys.readouterr().err
    assert "--base-model, --data, --type, --test-data, --output are not given" in shown
    assert "--yes" in shown


def test_on_a_terminal_it_asks_until_the_answer_will_do(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(here / "train.jsonl", ROWS["renamed"])
    asked: list[str] = []
    answers = iter(["", "lorra", "qlora", "", "", "-", "mine.yml"])

    def ask(question: str) -> str:
        asked.append(question)
        return next(answers)

    monkeypatch.setattr("core.commands.new._terminal", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    assert main(["new", "recipe"]) == 0
    recipe = load_recipe(here / "mine.yml")
    assert (recipe["adapter"], recipe["datasets"][0]["type"]) == ("qlora", "alpaca")
    assert "evaluation" not in recipe
    assert asked[1] == asked[2]
    assert "[alpaca]" in asked[4]
    assert "unknown adapter 'lorra'" in capsys.readouterr().out


def test_a_terminal_that_is_closed_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(question: str) -> str:
        raise EOFError

    monkeypatch.setattr("core.commands.new._terminal", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    assert main(["new", "recipe"]) == 2
    assert capsys.readouterr().err == "\nnothing was written\n"
    assert list(here.iterdir()) == []


def test_it_needs_no_torch(here: Path) -> None:
    import subprocess

    program = (
        "import sys\nfrom core.cli import main\ncode = main(['new', 'recipe', '--yes'])\n"
        "heavy = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    files = {tmp_path / "mine" / "a" / "one.yml": "seed: 1\n", tmp_path / "b" / "c" / "two.yml": "x" * 100_000}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=r"two.yml' cannot be written: File too large"):
            write_new(files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"], "nothing of ours stays, nothing of others goes"
    write_new(files)
    assert all(path.read_text() == text for path, text in files.items())
