"""What a lock holds, and that it can be run as it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import RecipeError
from core.host import Host
from core.lock import Lock, load_lock, locked_recipe
from core.lock.inputs import hub_commit
from core.lock.text import lock_text
from core.plan import make_plan
from core.testing.recipes import write_tiny_recipe
from core.types import Plan
from core.yaml_nodes import read_tree

PlanOf = Callable[..., Plan]
LockOf = Callable[[Plan], Lock]

TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters="\n\t"), max_size=40)
SCALARS = st.one_of(
    st.integers(-(2**53), 2**53), st.booleans(), st.floats(allow_nan=False, allow_infinity=False), TEXTS
)
KEYS = TEXTS.filter(lambda text: text != "<<")  # the merge key: no map that was read has it
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_lock_is_read_back_to_the_same_values(values: dict[str, Any]) -> None:
    tree = read_tree(lock_text(values, "recipe.lock.yml"), "recipe.lock.yml")
    assert (tree.value or {}) == values


@pytest.mark.parametrize(
    "text",
    [
        *("2e-5", "1_000", "no", "On", "null", "~", "", "0x1F", "1.5", "2024-01-01", " x ", "# no comment", "a: b"),
        *("|", "- x", "<<", "&a", "*a", "!!int 3", "line\n  indented\n", "\nfirst empty", "trailing \nspace", "\u2028"),
    ],
)
def test_texts_that_look_like_something_else_stay_texts(text: str) -> None:
    values = {"key": text, "list": [text], "map": {} if text == "<<" else {text: 1}}
    assert read_tree(lock_text(values, "l.yml"), "l.yml").value == values


def test_it_names_all_that_went_in(tiny_model: Path, tmp_path: Path, plan_of: PlanOf, lock_of: LockOf) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    evaluation = {
        "datasets": [{"path": "test.jsonl", "type": "alpaca"}],
        "metrics": [{"type": "format_compliance", "json_schema": "schema.json"}],
    }
    recipe = write_tiny_recipe(tmp_path, tiny_model, {"evaluation": evaluation}, held_out=[{"instruction": "x"}])
    values = lock_of(plan_of(recipe)).values

    def sha256(path: Path) -> str:
        return hashlib.sha256(path.read_bytes()).hexdigest()

    assert values["base_model"]["files"]["model.safetensors"] == sha256(tiny_model / "model.safetensors")
    assert "README.md" not in values["base_model"]["files"]
    assert values["data"] == {
        "datasets.0": {"sha256": sha256(tmp_path / "train.jsonl")},
        "evaluation.datasets.0": {"sha256": sha256(tmp_path / "test.jsonl")},
    }
    assert values["files"] == {"evaluation.metrics.0.json_schema": sha256(tmp_path / "schema.json")}
    template = (tiny_model / "chat_template.jinja").read_text()
    assert values["chat_template"] == hashlib.sha256(template.encode()).hexdigest()
    assert len(values["tokenizer"]["sha256"]) == 64
    assert values["seed"] == 42
    assert values["hardware"]["world_size"] == 1
    assert {"torch", "transformers", "pyyaml", "tokenizers"} <= set(values["packages"])
    assert "tunesmith" not in values["packages"]
    assert values["tunesmith"]["version"]
    assert "learning_rate" in values["recipe"]
    assert "learning_rate" not in values["defaults"]
    assert values["defaults"]["weight_decay"] == 0.0
    assert "lora_r" not in values["defaults"], "only the keys of what takes part"


def test_the_tokenizer_as_it_is_used_counts(tiny_model: Path, tmp_path: Path, plan_of: PlanOf, lock_of: LockOf) -> None:
    recipe = write_tiny_recipe(tmp_path, tiny_model)
    plain = lock_of(plan_of(recipe)).values
    more = lock_of(plan_of(recipe, "tokens=[<new>]", "chat_template=phi_3")).values
    assert plain["tokenizer"]["sha256"] != more["tokenizer"]["sha256"]
    assert plain["chat_template"] != more["chat_template"]
    assert plain["base_model"] == more["base_model"]


def test_paths_mean_the_same_from_the_lock(
    tiny_model: Path, tmp_path: Path, plan_of: PlanOf, lock_of: LockOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    team, mine, elsewhere = (tmp_path / name for name in ("team", "mine", "elsewhere"))
    for folder in (team, mine, elsewhere):
        folder.mkdir()
    row = json.dumps({"instruction": "Say yes.", "output": "yes"}) + "\n"
    (team / "test.jsonl").write_text(row)
    (mine / "train.jsonl").write_text(row * 4)
    (elsewhere / "more.jsonl").write_text(row * 3)
    (team / "base.yml").write_text(
        "learning_rate: 3e-4\nevaluation:\n  datasets:\n  - {path: test.jsonl, type: alpaca}\n"
    )
    (mine / "recipe.yml").write_text(
        f"extends: ../team/base.yml\nbase_model: {tiny_model}\noutput_dir: {tmp_path / 'out'}\n"
        "datasets:\n- {path: train.jsonl, type: alpaca}\n- {path: '${MORE}/more.jsonl', type: alpaca}\n"
        "- {path: x.jsonl, type: alpaca}\n"
    )
    monkeypatch.setenv("MORE", "../elsewhere")
    monkeypatch.chdir(elsewhere)
    plan = plan_of(mine / "recipe.yml", "datasets.2.path=more.jsonl")
    lock = lock_of(plan)
    assert lock.values["recipe"]["learning_rate"] == 3e-4
    assert "extends" not in lock.values["recipe"]
    paths = [entry["path"] for entry in lock.values["recipe"]["datasets"]]
    assert paths == ["../mine/train.jsonl", "../mine/${MORE}/more.jsonl", "../elsewhere/more.jsonl"]
    assert lock.values["extends"] == {"../team/base.yml": hashlib.sha256((team / "base.yml").read_bytes()).hexdigest()}

    monkeypatch.chdir(tmp_path)
    again = make_plan(locked_recipe(lock, ["output_dir=out2"]), plan.host)  # type: ignore[arg-type]
    files = [os.path.realpath(dataset.path) for dataset in (*again.datasets, *again.evaluation.datasets)]
    assert files == [
        str(path)
        for path in (mine / "train.jsonl", elsewhere / "more.jsonl", elsewhere / "more.jsonl", team / "test.jsonl")
    ]


def test_the_recipe_means_the_same_from_the_lock(
    tiny_model: Path, tmp_path: Path, plan_of: PlanOf, lock_of: LockOf, host: Host
) -> None:
    """Texts that look like numbers, formats written out, styles in a type's name, older keys."""
    written_out = {"field_instruction": "instruction", "field_output": "output", "format": "Q: {instruction}\nA:\n"}
    values = {
        "adapter": "lora",
        "lora_r": 4,
        "batch_size": 4,
        "save_strategy": False,
        "special_tokens": {"pad_token": "<pad>"},
        "gradient_accumulation_steps": None,
        "datasets": [
            {"path": "train.jsonl", "type": "alpaca"},
            {"path": "train.jsonl", "type": written_out},
            {"path": "train.jsonl", "type": "alpaca_chat.load_qa", "split": "train[:50%]"},
        ],
    }
    plan = plan_of(write_tiny_recipe(tmp_path, tiny_model, values), "revision_of_model=1e3")
    again = make_plan(locked_recipe(lock_of(plan)), host, overwrite=True)
    assert {key: again.recipe[key] for key in plan.recipe.values if key != "datasets"} == {
        key: plan.recipe[key] for key in plan.recipe.values if key != "datasets"
    }
    assert again.recipe.defaults == plan.recipe.defaults
    assert [dict(d.options) | {"path": ""} for d in again.datasets] == [
        dict(d.options) | {"path": ""} for d in plan.datasets
    ]
    assert again.recipe["revision_of_model"] == "1e3"


def test_secrets_are_masked_and_asked_for(
    tiny_model: Path, tmp_path: Path, plan_of: PlanOf, lock_of: LockOf, host: Host
) -> None:
    plan = plan_of(write_tiny_recipe(tmp_path, tiny_model, {"special_tokens": {"eos_token": "<|im_end|>"}}))
    assert lock_of(plan).values["recipe"]["special_tokens"] == {"eos_token": "<|im_end|>"}, "no secret"
    lock = lock_of(plan)
    text = lock.source.text.replace("recipe:\n", "recipe:\n  hub_token: '***'\n", 1)
    path = tmp_path / "masked.lock.yml"
    path.write_text(text)
    with pytest.raises(RecipeError) as raised:
        locked_recipe(load_lock(path))
    (problem,) = raised.value.problems
    assert "'hub_token' is a secret" in problem.message
    assert problem.position is not None
    assert problem.position.line == 1 + text[: text.index("hub_token")].count("\n")
    assert locked_recipe(load_lock(path), ["hub_token=mine"]).values["hub_token"] == "mine"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base_model: x\n", "this is no lock file"),
        ("", "this is no lock file"),
        ("- 1\n", "this is no lock file"),
        ("lock_version: 99\n", "the lock is of version 99, this tunesmith reads 1"),
        ("lock_version: 1\nrecipe: 3\n", "the section 'recipe' of the lock is missing or damaged"),
        ("lock_version: 1\nlock_version: 1\n", "duplicate key 'lock_version'"),
        ("lock_version: [", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_lock_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.lock.yml"
    path.write_text(text)
    with pytest.raises(RecipeError) as raised:
        load_lock(path)
    assert any(message in problem.message for problem in raised.value.problems)
    with pytest.raises(RecipeError, match="no such recipe"):
        load_lock(tmp_path / "other.yml")


def test_a_hub_model_is_locked_at_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    refs = tmp_path / "models--org--model" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub_commit("org/model", None, "model") == commit
    assert hub_commit("org/model", commit.upper().lower(), "model") == commit
    assert hub_commit("org/data", None, "dataset") is None


def test_the_whole_is_ordinary_yaml(tiny_model: Path, tmp_path: Path, plan_of: PlanOf, lock_of: LockOf) -> None:
    lock = lock_of(plan_of(write_tiny_recipe(tmp_path, tiny_model)))
    assert yaml.safe_load(lock.source.text) == lock.values


def test_a_key_that_is_set_to_null_is_unset(tmp_path: Path) -> None:
    recipe = {"base_model": "org/model", "seed": 3, "evaluation": {"limit": 5, "batch_size": 2}}
    sections = ("defaults", "base_model", "data", "files", "tokenizer", "tunesmith", "plugins", "packages", "hardware")
    values = {"lock_version": 1, "recipe": recipe, **{name: {} for name in sections}}
    (tmp_path / "recipe.lock.yml").write_text(yaml.safe_dump(values))
    found = locked_recipe(load_lock(tmp_path / "recipe.lock.yml"), ["evaluation.limit=null", "seed=null"])
    assert found.values == {"base_model": "org/model", "evaluation": {"batch_size": 2}}
