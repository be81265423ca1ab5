from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import DataCheck, DataError, Finding, PluginError
from core.audit import CheckPlan, DataFacts, audit, audit_lines, planned_checks, refuse_errors
from core.audit.report import some_places
from core.check import check_recipe
from core.host import Host, load_host
from core.plan import make_plan
from core.recipe import Recipe, load_recipe
from core.testing.recipes import write_tiny_recipe


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


def facts(places: int = 0) -> Any:
    return DataFacts([object()] * places, [], [], None, 10)  # type: ignore[list-item, arg-type]


def found(*findings: Finding, name: str = "one", level: Any = "warn") -> CheckPlan:
    return CheckPlan(DataCheck(name, lambda facts, options: list(findings)), level)


RECIPE = Recipe(Path("r.yml"), "", {})
PLACES = [f"train.jsonl:{line}" for line in range(1, 9)]


def test_a_warning_is_one_line_with_count_places_and_next_step() -> None:
    report = audit([found(Finding("8 rows are odd", PLACES, help="look at them"))], facts(20))
    line, done = audit_lines(report)
    assert line == "warning: one: 8 rows are odd (train.jsonl:1, 2, 3 and 5 more); look at them"
    assert done.startswith("audit: 1 check of 20 examples (")
    assert done.endswith("): 1 warning")
    refuse_errors(report, RECIPE)


def test_all_errors_are_refused_together_with_the_way_out() -> None:
    first = Finding("8 rows are odd", PLACES, help="look at them")
    second = Finding("2 rows leak", PLACES[:2], help="move them", details=[f"{place} is also x" for place in PLACES])
    report = audit([found(first, level="error"), found(second, name="two", level="error")], facts())
    with pytest.raises(DataError) as error:
        refuse_errors(report, RECIPE)
    assert error.value.message.splitlines() == [
        "8 rows are odd: train.jsonl:1, 2, 3, 4, 5 and 3 more",
        "2 rows leak",
        *[f"  train.jsonl:{line} is also x" for line in range(1, 6)],
        "  ... and 3 more",
    ]
    assert error.value.help == "look at them; move them; where it is meant, set data_checks: {one: warn, two: warn}"


def test_a_place_that_a_variable_brought_in_is_not_shown(tmp_path: Path) -> None:
    values = {"datasets": [{"path": f"{tmp_path}/ward-seven/a.jsonl"}]}
    recipe = Recipe(tmp_path / "r.yml", "", values, written={("datasets", 0, "path"): "${WARD}/a.jsonl"})
    finding = Finding("1 row is odd", [f"{tmp_path}/ward-seven/a.jsonl:1"], help="look at it")
    report = audit([found(finding, level="error")], facts())
    with pytest.raises(DataError, match=r"\$\{WARD\}/a.jsonl:1") as error:
        refuse_errors(report, recipe)
    assert "ward-seven" not in error.value.message


def test_all_well_is_one_line_and_no_check_none() -> None:
    assert [line.rsplit(": ", 1)[1] for line in audit_lines(audit([found()], facts()))] == ["nothing to remark"]
    assert audit_lines(audit([], facts())) == []


def test_places_of_several_files() -> None:
    assert some_places(["a:1", "a:1", "a:2", "b:3"]) == "a:1, 2, b:3"
    assert some_places(["a.parquet row 1", "a.parquet row 2"]) == "a.parquet row 1, a.parquet row 2"


def test_a_check_that_returns_something_else_is_named() -> None:
    plan = CheckPlan(DataCheck("odd", lambda facts, options: None), "warn")  # type: ignore[arg-type, return-value]
    with pytest.raises(PluginError, match="data check 'odd' returned None, not a list of Finding"):
        audit([plan], facts())


def test_the_report_is_json() -> None:
    report = json.loads(json.dumps(audit([found(Finding("odd", PLACES * 9))], facts(3)).as_json()))
    (finding,) = report["findings"]
    assert (finding["check"], finding["level"], finding["count"]) == ("one", "warn", 72)
    assert len(finding["places"]) == 20
    assert (report["examples"], report["checks"]) == (3, {"one": "warn"})


def test_levels_and_options_of_a_recipe(host: Host) -> None:
    wanted = {"leakage": "off", "duplicates": "error", "near_duplicates": {"similarity": 0.7}, "too_few": {"least": 5}}
    plans = {plan.check.name: plan for plan in planned_checks(wanted, host.data_checks)}
    assert "leakage" not in plans
    assert plans["duplicates"].level == "error"
    assert (plans["near_duplicates"].level, plans["near_duplicates"].options) == ("warn", {"similarity": 0.7})
    errors = {plan.check.name for plan in planned_checks({}, host.data_checks) if plan.level == "error"}
    assert errors == {"nothing_to_train", "end_of_turn", "leakage"}


def recipe_problems(folder: Path, host: Host, checks: Any) -> list[str]:
    path = write_tiny_recipe(folder, folder / "model", {"data_checks": checks})
    problems = check_recipe(load_recipe(path), host, files=False)
    return [f"{problem.message}; {problem.help}" for problem in problems if problem.key[:1] == ("data_checks",)]


def test_the_key_is_checked(tmp_path: Path, host: Host) -> None:
    assert recipe_problems(tmp_path, host, {"duplicates": "error", "near_duplicates": {"level": "off"}}) == []
    (unknown,) = recipe_problems(tmp_path, host, {"duplicate": "warn"})
    assert "'duplicate' in 'data_checks'" in unknown
    assert "did you mean 'duplicates'" in unknown
    (level,) = recipe_problems(tmp_path, host, {"duplicates": "fatal"})
    assert "error, warn, off" in level
    (option,) = recipe_problems(tmp_path, host, {"too_few": {"lest": 3}})
    assert "least" in option


def test_off_is_off_though_yaml_reads_false(tmp_path: Path, host: Host, tiny_model: Path) -> None:
    path = write_tiny_recipe(tmp_path, tiny_model)
    path.write_text(
        path.read_text(encoding="utf-8") + "data_checks: {too_few: off, duplicates: {level: off}}\n", encoding="utf-8"
    )
    planned = {plan.check.name for plan in make_plan(load_recipe(path), host).checks}
    assert len(planned) > 10
    assert not planned & {"too_few", "duplicates"}
