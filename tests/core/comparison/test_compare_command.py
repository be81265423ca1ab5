from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.cli import main
from core.comparison.runs import names_of
from core.evaluation.statistics import mcnemar, newcombe_paired
from tests.core.report.conftest import VALUES

Make = Callable[..., Path]


def line(
    number: int, right: float | None, *, prompt: str = "Question {}?", place: str = "test.jsonl"
) -> dict[str, Any]:
    scores = {"accuracy": right, "f1": None if right is None else right / 2 + number / 100}
    answer = {"text": f"answer {right}", "tokens": 3, "stopped": True, "scores": scores}
    return {
        "index": number,
        "place": f"{place}:{number + 1}",
        "prompt": prompt.format(number),
        "references": [f"reference {number % 5}"],
        "answers": {"base": answer, "tuned": answer},
    }


@pytest.fixture
def run(tmp_path: Path) -> Make:
    """run(name, scores) -> the folder of a finished run with these right/wrong scores."""

    def make(name: str, scores: list[float], recipe: dict[str, Any] | None = None, **options: Any) -> Path:
        values = copy.deepcopy(VALUES)
        mean = sum(scores) / len(scores)
        metric = {"value": mean, "interval": [0.1, 0.9], "n": len(scores), "summary": {}}
        values["evaluation"] = {column: {"accuracy": metric, "f1": metric} for column in ("base", "tuned")}
        values["metrics"] = {name: {"unit": "share", "higher_is_better": True} for name in ("accuracy", "f1")}
        metrics = {"evaluation": {"metrics": [{"type": "accuracy"}, {"type": "f1"}]}}
        values["recipe"] = {"path": "r.yml", "values": {"seed": 1, **metrics, **(recipe or {})}, "defaults": {}}
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text(json.dumps(values))
        lines = options.pop("lines", None) or [line(n, score, **options) for n, score in enumerate(scores)]
        (folder / "predictions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        return folder

    return make


FIRST, SECOND = [1.0] * 10 + [0.0] * 30, [1.0] * 8 + [0.0] * 2 + [1.0] * 20 + [0.0] * 10


def test_runs_on_the_same_items_are_compared_in_pairs(run: Make, tmp_path: Path, capsys: Any) -> None:
    a, b = run("a", FIRST), run("b", SECOND, {"seed": 2, "learning_rate": 0.1})
    files = ["--json", str(tmp_path / "c.json"), "--html", str(tmp_path / "c.html")]
    assert main(["compare", str(a), str(b), *files]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "b against a, accuracy: better, +45.0 points" in said
    assert "20 items better, 2 worse, of 40" in said
    values = json.loads((tmp_path / "c.json").read_text())
    found = values["comparisons"][0]
    assert found["difference"] == pytest.approx(0.45)
    assert found["interval"] == pytest.approx(newcombe_paired(8, 20, 2, 10))
    assert found["p_value"] == pytest.approx(mcnemar(20, 2))
    assert found["p_value_holm"] >= found["p_value"]
    assert [one["metric"] for one in values["comparisons"]] == ["accuracy", "f1"]
    assert values["recipes"] == {"seed": [1, 2], "learning_rate": [None, 0.1]}
    assert len(values["changed"]) == 22
    page = (tmp_path / "c.html").read_text()
    assert "b against a, accuracy: better" in page
    assert page.count("<details>") == 22
    assert "http" not in page


def labelled(folder: Path, answers: list[str], metric: dict[str, Any], value: float) -> None:
    """Make a run into one of a metric that is no mean: labels as answers, and its figure."""
    path = folder / "run.json"
    values = json.loads(path.read_text())
    about = {"value": value, "interval": None, "n": len(answers), "summary": {}}
    values["evaluation"] = {"tuned": {metric["type"]: about}}
    values["metrics"] = {metric["type"]: {"unit": "share", "higher_is_better": True}}
    values["recipe"]["values"]["evaluation"] = {"metrics": [metric]}
    path.write_text(json.dumps(values))
    lines = []
    for number, answer in enumerate(answers):
        one, reference = line(number, None), "ab"[number % 4 == 0]
        score = {metric["type"]: float(answer == reference)}
        one["references"], one["answers"] = [reference], {"tuned": {"text": answer, "scores": score}}
        lines.append(json.dumps(one))
    (folder / "predictions.jsonl").write_text("\n".join(lines) + "\n")


def test_a_figure_that_is_no_mean_is_compared_as_what_it_is(run: Make, tmp_path: Path) -> None:
    a, b = run("a", FIRST), run("b", FIRST)
    # always the frequent label: 75 % right, and a macro F1 of 0.43
    labelled(a, ["a"] * 40, {"type": "classification"}, 3 / 7)
    labelled(b, ["ab"[number % 4 == 0] for number in range(40)], {"type": "classification"}, 1.0)
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "c.json")]) == 0
    (found,) = json.loads((tmp_path / "c.json").read_text())["comparisons"]
    assert found["difference"] == pytest.approx(4 / 7)
    assert found["interval"][0] < 4 / 7 < found["interval"][1] <= 1
    assert (found["outcome"], found["fixed"]) == ("better", 10)


def test_what_a_model_thinks_is_no_part_of_what_is_compared(run: Make, tmp_path: Path) -> None:
    a, b = run("a", FIRST), run("b", FIRST)
    right = ["ab"[number % 4 == 0] for number in range(40)]
    for folder, answers, value in ((a, ["a"] * 40, 3 / 7), (b, right, 1.0)):
        labelled(folder, answers, {"type": "classification"}, value)
        path = folder / "predictions.jsonl"
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        for one in lines:
            answer = one["answers"]["tuned"]
            answer["text"] = f"<think>a or b?</think>\n\n{answer['text']}"
            one["thinking_ends"] = "</think>"
        path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "c.json")]) == 0
    (found,) = json.loads((tmp_path / "c.json").read_text())["comparisons"]
    assert found["difference"] == pytest.approx(4 / 7)
    assert (found["outcome"], found["fixed"]) == ("better", 10)


def test_a_figure_whose_parts_are_not_kept_is_shown_and_not_tested(run: Make, tmp_path: Path, capsys: Any) -> None:
    a, b = run("a", FIRST), run("b", FIRST)
    for folder in (a, b):
        labelled(folder, ["a"] * 40, {"type": "perplexity"}, 12.5)
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "c.json")]) == 0
    values = json.loads((tmp_path / "c.json").read_text())
    assert values["comparisons"] == []
    assert values["runs"][1]["figures"]["perplexity"]["value"] == 12.5
    assert "Perplexity is shown and not tested" in " ".join(capsys.readouterr().out.split())


def test_every_run_is_held_against_the_first(run: Make, tmp_path: Path) -> None:
    folders = [run("a", FIRST), run("b", SECOND), run("c", FIRST)]
    assert main(["compare", *map(str, folders), "--json", str(tmp_path / "c.json")]) == 0
    values = json.loads((tmp_path / "c.json").read_text())
    assert [(one["run"], one["against"]) for one in values["comparisons"][:2]] == [("b", "a"), ("c", "a")]
    assert [one["outcome"] for one in values["comparisons"][:2]] == ["better", "not_shown"]
    raw, corrected = ([one[key] for one in values["comparisons"]] for key in ("p_value", "p_value_holm"))
    assert corrected[0] == pytest.approx(min(1.0, 4 * raw[0])), "four comparisons in all"


def test_what_does_not_stand_after_correction_is_not_shown_in_words_and_figures_alike(
    run: Make, tmp_path: Path, capsys: Any
) -> None:
    # 7 items better and 1 worse on the first metric: p = 0.070 by itself; 8 better: p = 0.0078, times the comparisons
    wins = [1.0] * 10 + [0.0] * 22 + [1.0] * 8
    folders = [run("a", FIRST), run("b", wins), *(run(f"c{number}", FIRST) for number in range(6))]
    assert main(["compare", *map(str, folders[:2]), "--json", str(tmp_path / "two.json")]) == 0
    assert json.loads((tmp_path / "two.json").read_text())["comparisons"][0]["outcome"] == "better"
    capsys.readouterr()
    assert main(["compare", *map(str, folders), "--json", str(tmp_path / "all.json")]) == 0
    found = json.loads((tmp_path / "all.json").read_text())["comparisons"]
    assert (found[0]["run"], found[0]["metric"], len(found)) == ("b", "accuracy", 14)
    assert found[0]["interval"][0] > 0
    assert found[0]["p_value"] < 0.05 <= found[0]["p_value_holm"]
    assert found[0]["outcome"] == "not_shown"
    said = " ".join(capsys.readouterr().out.split())
    assert "b against a, accuracy: no difference shown among 14 comparisons, +20.0 points" in said
    assert "accuracy: better" not in said


def test_of_a_run_with_repeats_the_first_training_is_said_to_be_compared(run: Make, capsys: Any) -> None:
    a, b = run("a", FIRST), run("b", SECOND)
    values = json.loads((b / "run.json").read_text())
    (b / "run.json").write_text(json.dumps({**values, "repeats": {"seeds": [1, 2, 3], "metrics": {}}}))
    assert main(["compare", str(a), str(b)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Of a run with repeats its first training is compared" in said
    assert "Each run is one training" not in said


def test_many_figures_stand_in_rows_and_none_is_cut(run: Make, capsys: Any) -> None:
    folders = [run("a", FIRST), run("b", SECOND)]
    names = ["accuracy", "a_metric_of_long_name", "classification", "format_compliance", "perplexity", "f1"]
    for folder in folders:
        values = json.loads((folder / "run.json").read_text())
        figure = values["evaluation"]["tuned"]["accuracy"]
        values["evaluation"] = {"tuned": {name: {**figure, "interval": [0.123, 0.987]} for name in names}}
        values["metrics"] = {name: {"unit": "share", "higher_is_better": True} for name in names}
        values["recipe"]["values"]["evaluation"] = {"metrics": [{"type": name} for name in names]}
        (folder / "run.json").write_text(json.dumps(values))
    assert main(["compare", *map(str, folders)]) == 0
    said = capsys.readouterr().out
    assert "…" not in said
    assert said.count("(12.3–98.7)") == 2 * len(names)
    assert [line.split()[0] for line in said.splitlines()[:3]] == ["a", "accuracy", "a"]


def test_recipes_that_name_the_same_files_by_other_paths_do_not_differ(
    run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train.jsonl", "other.jsonl", "answer.schema.json"):
        (tmp_path / "data" / name).write_text("{}")

    def recipe(start: str, train: str = "train.jsonl", **written: Any) -> dict[str, Any]:
        metrics = [
            {"type": "accuracy", **written},
            {"type": "format_compliance", "name": "f1", "json_schema": f"{start}answer.schema.json"},
        ]
        return {"datasets": [{"path": start + train, "type": "alpaca"}], "evaluation": {"metrics": metrics}}

    one = run("a", FIRST, recipe("data/"))
    locked = run("b", SECOND, recipe("../data/", json=False))
    other = run("c", SECOND, recipe("../data/", "other.jsonl"))
    for folder, path in ((one, "r.yml"), (locked, "b/recipe.lock.yml"), (other, "c/recipe.lock.yml")):
        values = json.loads((folder / "run.json").read_text())
        values["recipe"]["path"] = path
        (folder / "run.json").write_text(json.dumps(values))
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "a", "b", "--json", "ab.json"]) == 0
    values = json.loads((tmp_path / "ab.json").read_text())
    assert list(values["recipes"]) == ["evaluation.metrics.0.json"]
    assert list(values["metrics"]) == ["accuracy", "f1"], "a default that is written out changes nothing"
    assert main(["compare", "a", "c", "--json", "ac.json"]) == 0
    found = json.loads((tmp_path / "ac.json").read_text())["recipes"]
    assert found == {"datasets.0.path": ["data/train.jsonl", "../data/other.jsonl"]}


def test_other_prompts_for_the_same_rows_are_the_same_items(run: Make, capsys: Any) -> None:
    a, b = run("a", FIRST), run("b", SECOND, prompt="<chat>{}</chat>", place="moved/test.jsonl")
    assert main(["compare", str(a), str(b)]) == 0
    assert "better" in capsys.readouterr().out


def test_other_items_are_refused_with_what_differs(run: Make, tmp_path: Path, capsys: Any) -> None:
    a, b = run("a", FIRST), run("b", SECOND[:30])
    assert main(["compare", str(a), str(b)]) == 2
    said = capsys.readouterr().err
    assert "not scored on the same items: 30 are shared" in said
    assert "a alone has 10 of its 40 (test.jsonl:31, test.jsonl:32, test.jsonl:33 ...)" in said
    assert "--common" in said
    assert main(["compare", str(a), str(b), "--common", "--json", str(tmp_path / "c.json")]) == 0
    values = json.loads((tmp_path / "c.json").read_text())
    assert values["items"] == values["comparisons"][0]["n"] == 30
    figures = values["runs"][0]["figures"]["accuracy"]
    assert figures["value"] == pytest.approx(10 / 30), "over the shared items"
    assert figures["n"] == 30
    assert "compared on the 30 items that all runs share; they have 40, 30" in values["notes"]

    c = run("c", FIRST, place="elsewhere.jsonl", prompt="Another {}?")
    assert main(["compare", str(a), str(c), "--common"]) == 2
    assert "share no held-out item" in capsys.readouterr().err


def test_metrics_that_mean_something_else_are_not_compared(run: Make, tmp_path: Path) -> None:
    other = {"evaluation": {"metrics": [{"type": "accuracy", "normalise": True}, {"type": "f1"}]}}
    a, b = run("a", FIRST), run("b", SECOND, other)
    assert main(["compare", str(a), str(b), "--json", str(tmp_path / "c.json")]) == 0
    values = json.loads((tmp_path / "c.json").read_text())
    assert list(values["metrics"]) == ["f1"]
    assert "accuracy is not compared: the runs measured it with different options" in values["notes"]


def test_what_cannot_be_compared_is_named(run: Make, tmp_path: Path, capsys: Any) -> None:
    a = run("a", FIRST)
    cases = {
        (str(a),): "one run alone",
        (str(a), str(a)): "the same run is named twice",
        (str(a), str(tmp_path / "no")): "is no folder",
        (str(a), str(run("b", SECOND)), "--column", "tunde"): "has no column 'tunde'",
        (str(a), str(tmp_path / "b"), "--html", "no/where.html"): "there is no folder 'no'",
        (str(a), str(tmp_path / "b"), "--json", str(a / "run.json")): "would overwrite what this command reads",
    }
    for arguments, message in cases.items():
        assert main(["compare", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["compare", str(a), str(tmp_path / "b"), "--column", "base"]) == 0


def test_runs_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    assert names_of([str(tmp_path / "a"), str(tmp_path / "b")]) == ["a", "b"]
    assert names_of([str(tmp_path / "a" / "evaluations" / "1"), str(tmp_path / "b" / "evaluations" / "1")]) == [
        "a/evaluations/1",
        "b/evaluations/1",
    ]
