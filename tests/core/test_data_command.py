"""`tunesmith data` from the command line, on a recipe and on a bare file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.host import load_host
from core.testing.recipes import ALPACA_ROWS, write_tiny_recipe

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def data(*arguments: object) -> int:
    return main(["data", *map(str, arguments)])


def test_a_recipe(here: Path, tiny_model: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_tiny_recipe(here, tiny_model)
    load_host()  # plugins that are imported later would keep what is patched here
    monkeypatch.setattr("core.models.load_base", lambda plan: pytest.fail("the model was loaded"))
    assert data(recipe, "--row", "2", "--dump", "out.jsonl", "--html", "out.html") == 0
    out = capsys.readouterr().out
    assert "train train.jsonl" in out
    assert "warning: too_few: only 12 examples to train on" in out
    assert "── train.jsonl:2 (row 2): " in out
    assert out.count("⟦no<|im_end|>⟧") == 1
    assert len((here / "out.jsonl").read_text(encoding="utf-8").splitlines()) == 12
    assert "train.jsonl:12 (row 12): " in (here / "out.html").read_text(encoding="utf-8")
    assert not (here / "out").exists()


def test_what_stops_a_run_is_said_last(here: Path, tiny_model: Path, capsys: Captured) -> None:
    values = {"evaluation": {"datasets": [{"path": "test.jsonl", "type": "alpaca"}]}}
    recipe = write_tiny_recipe(here, tiny_model, values, held_out=ALPACA_ROWS[:2])
    assert data(recipe, "--grep", "IS 4 EVEN") == 2
    captured = capsys.readouterr()
    assert "Is 4 even?" in captured.out
    assert captured.err.startswith("error: 2 of 2 evaluation items are in the training data too")
    assert "set data_checks: {leakage: warn}" in captured.err
    assert data(recipe, "--set", "data_checks.leakage=warn", "--samples", "0") == 0
    assert "warning: leakage: 2 of 2 evaluation items" in capsys.readouterr().out


def test_the_evaluation_set_can_be_looked_at(here: Path, tiny_model: Path, capsys: Captured) -> None:
    values = {"evaluation": {"datasets": [{"path": "test.jsonl", "type": "alpaca"}]}}
    held_out = [{"instruction": f"Is {n} odd?", "input": "", "output": "no"} for n in (100, 102)]
    recipe = write_tiny_recipe(here, tiny_model, values, held_out=held_out)
    assert data(recipe, "--part", "evaluation", "--grep", "102", "--dump", "out.jsonl") == 0
    out = capsys.readouterr().out
    assert "evaluation; trained text is in ⟦brackets⟧" in out
    assert "── test.jsonl:2 (row 2): " in out
    records = [json.loads(line) for line in (here / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["place"] for record in records] == ["test.jsonl:1", "test.jsonl:2"]
    assert data(recipe, "--part", "validation") == 2
    error = capsys.readouterr().err
    assert "the recipe names no data for validation; it has: train, evaluation" in error
    assert "help: val_set_size is split off when a run starts" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--row", "99"], "there is no row '99'"),
        (["--row", "0"], "'0' is neither a number from 1 nor a place such as train.jsonl:12"),
        (["--row", "last"], "'last' is neither a number from 1 nor a place"),
        (["--html", "no/such/out.html"], "there is no folder 'no/such'"),
        (["--set", "data_checks.leakge=warn"], "did you mean 'leakage'"),
        (["--samples", "-1"], "'-1' is not a number from 0"),
        (["--set", "sequence_len=8"], "nothing left to train on: of 12 examples 12 are longer than sequence_len 8"),
        (["--set", "val_set_size=12"], "val_set_size 12 takes 12 of 12 examples: none would be left to train on"),
    ],
)
def test_mistakes(here: Path, tiny_model: Path, capsys: Captured, arguments: list[str], said: str) -> None:
    assert data(write_tiny_recipe(here, tiny_model), *arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--row", "99"], "there is no row '99'"),
        (["--row", "other.jsonl:1"], "there is no row 'other.jsonl:1'"),
        (["--grep", "zzz"], "no example holds 'zzz'"),
        (["--part", "validation"], "the recipe names no data for validation; it has: train"),
        (["--part", "evaluation", "--samples", "0"], "the recipe names no data for evaluation; it has: train"),
    ],
)
def test_what_is_not_there_is_told_without_the_audit(
    here: Path,
    tiny_model: Path,
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
) -> None:
    recipe = write_tiny_recipe(here, tiny_model)
    if "--part" in arguments:
        monkeypatch.setattr("core.models.load_tokenizer", lambda plan: pytest.fail("something was read"))
    assert data(recipe, *arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {said}")
    assert "train.jsonl" not in captured.out


def test_a_data_file_that_is_not_there_is_no_recipe(here: Path, capsys: Captured) -> None:
    assert data("nope.jsonl") == 2
    assert capsys.readouterr().err.startswith("error: no such file: 'nope.jsonl'\nhelp: ")


def test_a_bare_file(here: Path, capsys: Captured) -> None:
    (here / "rows.csv").write_text("question,answer\nIs it?,yes\n", encoding="utf-8")
    assert data("rows.csv") == 0
    assert "    type: alpaca\n    field_instruction: question\n    field_output: answer\n" in capsys.readouterr().out


def with_bad_rows(here: Path, tiny_model: Path, bad: int, **values: Any) -> Path:
    recipe = write_tiny_recipe(here, tiny_model, values)
    lines = [json.dumps(dict(ALPACA_ROWS[0], input=f"Is {n} even?")) for n in range(40)]
    (here / "train.jsonl").write_text("".join(f"{line}\n" for line in ["{broken"] * bad + lines), encoding="utf-8")
    return recipe


def test_bad_rows_are_skipped_on_request(here: Path, tiny_model: Path, capsys: Captured) -> None:
    recipe = with_bad_rows(here, tiny_model, 2, on_bad_row="skip")
    assert data(recipe, "--row", "3", "--dump", "out.jsonl") == 0
    out = capsys.readouterr().out
    assert (
        "warning: train.jsonl: skipped 2 of 42 rows (4.8%) that cannot be used\n  train.jsonl:1: not valid JSON" in out
    )
    assert "── train.jsonl:3 (row 3)" in out
    assert json.loads((here / "out.jsonl").read_text(encoding="utf-8").splitlines()[0])["row"] == 3
    assert data(recipe, "--set", "on_bad_row=raise") == 2
    assert "2 of 42 rows of train.jsonl cannot be used" in capsys.readouterr().err


def test_too_many_bad_rows_are_refused(here: Path, tiny_model: Path, capsys: Captured) -> None:
    assert data(with_bad_rows(here, tiny_model, 3, on_bad_row="skip")) == 2
    assert "max_bad_rows lets 5% be skipped, these are 7.0%" in capsys.readouterr().err
    assert data(with_bad_rows(here, tiny_model, 3, on_bad_row="skip", max_bad_rows=0.1)) == 0


@pytest.mark.parametrize("flag", ["--dump", "--html"])
def test_a_file_that_cannot_be_written_is_no_bug(flag: str, here: Path, tiny_model: Path, capsys: Captured) -> None:
    recipe = write_tiny_recipe(here, tiny_model)
    (here / "taken").mkdir()
    assert data(recipe, "--samples", "0", flag, "taken") == 2
    assert "error: 'taken' cannot be written: is a directory" in capsys.readouterr().err
    assert not list(here.glob(".partial-*"))


@pytest.mark.parametrize("flag", ["--dump", "--html"])
def test_what_is_read_is_not_overwritten(flag: str, here: Path, tiny_model: Path, capsys: Captured) -> None:
    values = {"evaluation": {"datasets": [{"path": "held", "type": "alpaca"}]}}
    recipe = write_tiny_recipe(here, tiny_model, values)
    (here / "held").mkdir()
    (here / "held" / "rows.jsonl").write_bytes((here / "train.jsonl").read_bytes())
    refused = {
        "train.jsonl": "data of the recipe",
        "held/rows.jsonl": "data of the recipe",
        recipe.name: "what this command reads",
    }
    for read, what in refused.items():
        before = (here / read).read_bytes()
        assert data(recipe, "--samples", "0", flag, read) == 2
        assert f"error: {flag} {read!r} would overwrite {what}\nhelp: name another file" in capsys.readouterr().err
        assert (here / read).read_bytes() == before


def test_what_is_parted_for_validation_is_in_the_table(here: Path, tiny_model: Path, capsys: Captured) -> None:
    recipe = write_tiny_recipe(here, tiny_model, {"val_set_size": 4})
    assert data(recipe, "--set", "datasets.0.weight=2", "--samples", "0") == 0
    out = capsys.readouterr().out
    assert "of these, val_set_size 4" in out
    assert "weight 2: 16 examples in one pass over the data, of 8 different ones" in out


def test_streamed_data_are_shown_by_their_first_rows(here: Path, tiny_model: Path, capsys: Captured) -> None:
    values = {"streaming": True, "max_steps": 2, "streaming_multipack_buffer_size": 5}
    recipe = write_tiny_recipe(here, tiny_model, values)
    assert data(recipe, "--samples", "0", "--html", "out.html", "--dump", "out.jsonl") == 0
    said = "it is read while training; counts and audit are of its first 5 rows"
    out = capsys.readouterr().out
    assert said in out
    assert "wrote 5 examples to out.jsonl, the first rows alone" in out
    assert said in (here / "out.html").read_text(encoding="utf-8")


def test_rows_that_may_be_private_are_not_among_the_samples(here: Path, tiny_model: Path, capsys: Captured) -> None:
    recipe = write_tiny_recipe(here, tiny_model)
    with (here / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"instruction": "Write to jane.roe@uni-koeln.de", "output": "yes"}) + "\n")
    assert data(recipe, "--samples", "50", "--html", "out.html") == 0
    out = capsys.readouterr().out
    assert "private_data: what looks like personal data or secrets in 1 example (e-mail 1) (train.jsonl:13)" in out
    assert "examples that may hold personal data are shown with --row or --grep alone" in out
    assert "jane.roe" not in out + (here / "out.html").read_text(encoding="utf-8")
    assert data(recipe, "--row", "13") == 0
    assert "jane.roe" in capsys.readouterr().out


def test_a_proposal_says_what_is_no_text(here: Path, capsys: Captured) -> None:
    (here / "rows.jsonl").write_text('{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n', encoding="utf-8")
    assert data("rows.jsonl") == 0
    assert "1 of 2 rows hold no text in 'label' but the number 1: write it as text first" in capsys.readouterr().out
