"""`${NAME}`: where it is replaced, where it is refused, and that no output of a run tells what it held."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.check import check_recipe, resolve_defaults
from core.cli import main
from core.errors import Problem
from core.host import Host, load_host
from core.recipe import Recipe, load_recipe
from core.sharing.variables import hide
from core.testing.recipes import write_tiny_recipe

VALID = "base_model: org/model\ndatasets: [{path: org/data, type: alpaca}]\n"


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UNSET_HERE", raising=False)
    monkeypatch.setenv("EMPTY_HERE", "")
    monkeypatch.setenv("TEAM", "clinic-seven")
    return tmp_path


def read(text: str, *overrides: str) -> Recipe:
    Path("recipe.yml").write_text(text, encoding="utf-8")
    return load_recipe(Path("recipe.yml"), overrides)


def found(text: str, host: Host, *overrides: str) -> list[Problem]:
    return check_recipe(read(text, *overrides), host)


def errors(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if problem.severity == "error"]


def test_a_variable_is_replaced_where_the_schema_allows_it(host: Host) -> None:
    text = "base_model: ${TEAM}/model\ndatasets: [{path: 'org/${TEAM}-data', type: alpaca}]\nwandb_project: ${TEAM}\n"
    recipe = resolve_defaults(read(text, "wandb_name=run of ${TEAM}"), host)
    assert recipe["base_model"] == "clinic-seven/model"
    assert recipe["datasets"][0]["path"] == "org/clinic-seven-data"
    assert recipe["wandb_name"] == "run of clinic-seven"
    written = recipe.written_values()
    assert written["base_model"] == "${TEAM}/model"
    assert written["datasets"][0]["path"] == "org/${TEAM}-data"
    assert written["wandb_name"] == "run of ${TEAM}"
    assert errors(check_recipe(recipe, host)) == []


def test_what_a_variable_holds_is_not_looked_at_again(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTER", "${TEAM}")
    recipe = resolve_defaults(resolve_defaults(read(VALID + "wandb_project: ${OUTER}\n"), host), host)
    assert recipe["wandb_project"] == "${TEAM}"
    assert errors(check_recipe(recipe, host)) == []


@pytest.mark.parametrize(
    ("line", "message", "column"),
    [
        ("wandb_project: ${UNSET_HERE}", "the environment variable UNSET_HERE is not set", 16),
        ("wandb_project: a-${EMPTY_HERE}", "the environment variable EMPTY_HERE is empty", 16),
        ("adapter: ${TEAM}", "${TEAM} is not allowed in 'adapter'", 10),
        ("special_tokens: {pad_token: '${TEAM}'}", "${TEAM} is not allowed in 'special_tokens.pad_token'", 29),
        ("eot_tokens: ['${TEAM}']", "${TEAM} is not allowed in 'eot_tokens.0'", 14),
        ("wandb_project: ${TEAM:-x}", "'${TEAM:-x}' holds '${' that begins no variable", 16),
        ("wandb_project: ${TEAM", "'${TEAM' holds '${' that begins no variable", 16),
        (
            "mlflow_tracking_uri: https://host/${WANDB_API_KEY}",
            "the variable WANDB_API_KEY is named like a secret, 'mlflow_tracking_uri' is not kept secret",
            22,
        ),
    ],
)
def test_a_variable_that_cannot_be_replaced(line: str, message: str, column: int, host: Host) -> None:
    (problem,) = errors(found(f"{VALID}{line}\n", host))
    assert problem.message == message
    assert problem.position is not None
    assert (problem.position.line, problem.position.column) == (3, column)
    assert problem.help


def test_texts_for_people_may_hold_the_mark(host: Host) -> None:
    texts = "default_system_message: say ${NAME}\nchat_template: jinja\nchat_template_jinja: '{{ x }} ${y}'\n"
    text = VALID + texts
    assert found(text, host) == []


def test_a_file_behind_a_variable_that_is_missing_is_told_by_the_variable(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("ward-nine").mkdir()
    Path("ward-nine/train.json").write_text("[]")
    monkeypatch.setenv("DATA", str(Path("ward-nine").absolute()))
    text = "base_model: org/model\ndatasets: [{path: '${DATA}/train.jsonl', type: alpaca}]\n"
    (problem,) = found(text, host)
    assert problem.message == "no such file: '${DATA}/train.jsonl'"
    assert problem.help == "did you mean '${DATA}/train.json'?"


def test_paths_are_hidden_in_every_form(host: Host, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", str(folder / "ward"))
    text = "base_model: org/model\ndatasets: [{path: '${DATA}/train.jsonl', type: alpaca}]\n"
    recipe = resolve_defaults(read(text), host)
    told = {"rows": 3, "path": f"{folder}/ward/train.jsonl", "places": ["ward/train.jsonl:7", "backward/train.jsonl:7"]}
    assert hide(told, recipe) == {
        "rows": 3,
        "path": "${DATA}/train.jsonl",
        "places": ["${DATA}/train.jsonl:7", "backward/train.jsonl:7"],
    }


def test_show_and_diff_print_what_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yml").write_text(VALID + "wandb_project: ${TEAM}\n")
    Path("b.yml").write_text(VALID + "wandb_project: clinic-seven\n")
    Path("c.yml").write_text(VALID + "wandb_project: ${TEAM}-two\n")
    assert main(["show", "a.yml"]) == 0
    assert main(["diff", "a.yml", "b.yml"]) == 0
    assert main(["diff", "a.yml", "c.yml"]) == 1
    shown = capsys.readouterr().out
    assert "wandb_project: ${TEAM}  " in shown
    assert "clinic" not in shown


@pytest.mark.slow
def test_no_output_of_a_run_tells_what_a_variable_held(
    folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    secret = folder / "ward-nine-data"
    secret.mkdir()
    path = write_tiny_recipe(secret, tiny_model, {"max_steps": 1})
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for entry in (*values["datasets"], *values.get("evaluation", {}).get("datasets", ())):
        entry["path"] = "${DATA}/" + Path(entry["path"]).name
    values |= {"base_model": "${MODEL}", "output_dir": "out"}
    Path("recipe.yml").write_text(yaml.safe_dump(values), encoding="utf-8")
    linked = folder / "ward-nine-model"
    linked.symlink_to(tiny_model)
    monkeypatch.setenv("DATA", str(secret))
    monkeypatch.setenv("MODEL", str(linked))
    assert main(["run", "recipe.yml"]) == 0
    told = [
        file.name
        for file in sorted(Path("out").rglob("*"))
        if file.is_file() and "ward-nine" in file.read_text(encoding="utf-8", errors="replace")
    ]
    # the adapter's own configuration names its base, as those who load it need it
    assert [name for name in told if name != "adapter_config.json"] == []
    report = Path("out/run.json").read_text(encoding="utf-8")
    assert '"base_model": "${MODEL}"' in report
    assert "${DATA}/" in report
