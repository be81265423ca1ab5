"""The checker with plugins of every kind: what is found, what is filled in, and what takes part."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from core import Adapter, DatasetFormat, Evaluator, Problem, RecipeError, Trainer, hookimpl
from core.check import check_recipe, compose_schema, item_options, resolve_defaults
from core.check.export import export_schema, schema_text
from core.check.names import distance, suggest
from core.check.paths import looks_local, resolve_input_path
from core.host import Host, load_host
from core.recipe import Recipe, load_recipe
from core.schema_files import load_fragment

ROOT = Path(__file__).parents[2]
START = "base_model: org/model\ndatasets:\n  - {path: org/data, type: alpaca}\n"


def plugin(name: str, **hooks: Any) -> ModuleType:
    """A plugin module whose hooks return the given values; a callable is the hook itself."""
    module = ModuleType(name)
    for hook, value in hooks.items():
        function = value if callable(value) else _returning(value)
        function.__name__ = hook
        setattr(module, hook, hookimpl(function))
    return module


def _returning(value: Any) -> Any:
    def hook() -> Any:
        return value

    return hook


@pytest.fixture(scope="module")
def host() -> Host:
    return load_host()


@pytest.fixture
def recipe(tmp_path: Path) -> Any:
    def make(text: str, *overrides: str) -> Recipe:
        path = tmp_path / "recipe.yml"
        path.write_text(text, encoding="utf-8")
        return load_recipe(path, overrides)

    return make


def messages(problems: list[Problem], severity: str = "error") -> list[str]:
    return [problem.message for problem in problems if problem.severity == severity]


def test_a_clean_recipe_has_no_problems(host: Host, recipe: Any) -> None:
    assert check_recipe(recipe(START), host) == []


def test_every_problem_has_a_place_and_they_are_sorted(host: Host, recipe: Any) -> None:
    problems = check_recipe(recipe(START + "zzz: 1\nlearning_rate: x\nseed: -1\nadapter: lorra\n", "yyy=1"), host)
    assert len(problems) == 5
    places = [(problem.position.file == "--set", problem.position.line) for problem in problems if problem.position]
    assert places == [(False, 4), (False, 5), (False, 6), (False, 7), (True, 1)]


def test_the_flat_schema_holds_each_key_once_and_no_other(host: Host) -> None:
    schema = compose_schema(host)
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == set(host.recipe_keys)
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("name", ["recipe", "training", "evaluation"])
def test_each_key_is_described_and_each_default_is_valid(name: str) -> None:
    fragment = load_fragment(name)
    assert fragment
    for key, schema in fragment.items():
        Draft202012Validator.check_schema(schema)
        assert schema["description"].endswith((".", ".}")), key
        for inner in [schema, *schema.get("properties", {}).values()]:
            if "default" in inner:
                assert Draft202012Validator(inner).is_valid(inner["default"]), key


def test_optimizers_and_schedulers_are_those_of_transformers() -> None:
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    training = load_fragment("training")
    assert set(training["optimizer"]["enum"]) == {name.value for name in OptimizerNames} | {"muon"}
    assert set(training["lr_scheduler"]["enum"]) == {name.value for name in SchedulerType}


def test_a_plugins_own_key_is_checked_and_has_its_default(recipe: Any) -> None:
    keys = {"norm_match": {"type": "string", "default": "norm", "description": "Which parameters train."}}
    host = load_host(extra=[plugin("norms", recipe_keys=keys, adapters=[Adapter("norms", build=lambda plan: plan)])])
    chosen = recipe(START + "adapter: norms\n")
    assert check_recipe(chosen, host) == []
    assert resolve_defaults(chosen, host)["norm_match"] == "norm"
    assert messages(check_recipe(recipe(START + "adapter: norms\nnorm_match: 3\n"), host)) == [
        "'norm_match' is 3, expected text"
    ]
    unused = check_recipe(recipe(START + "norm_match: x\n"), host)
    assert messages(unused, "warning") == ["'norm_match' has no effect in this run: it belongs to adapter norms"]
    assert resolve_defaults(recipe(START), host)["norm_match"] is None


def test_an_adapter_that_uses_keys_of_another_gets_them(recipe: Any) -> None:
    adapter = Adapter("mylora", build=lambda plan: plan, uses=("lora_r",))
    host = load_host(extra=[plugin("mine", adapters=[adapter])])
    chosen = recipe(START + "adapter: mylora\nlora_alpha: 4\n")
    assert resolve_defaults(chosen, host)["lora_r"] == 8
    assert messages(check_recipe(chosen, host), "warning") == [
        "'lora_alpha' has no effect in this run: it belongs to adapter lora or qlora"
    ]


def test_what_an_uninstalled_plugin_offered_is_named(host: Host, recipe: Any) -> None:
    (problem,) = check_recipe(recipe(START + "adapter: norms\n"), host)
    assert problem.message == "unknown adapter 'norms'"
    assert "install the plugin that offers 'norms'" in str(problem.help)
    (problem,) = check_recipe(recipe(START + "norm_match: x\n"), host)
    assert problem.help == "remove it, or install the plugin that owns it"


def test_the_options_of_an_item_are_those_of_its_type(recipe: Any) -> None:
    options = {
        "column": {"type": "string", "x-required": True, "description": "Which column."},
        "shout": {"type": "boolean", "default": False, "description": "In capitals."},
        "train_on_inputs": {"type": "boolean", "x-inherit": True, "description": "Prompts too."},
    }
    found = DatasetFormat("mine", render=lambda row, options, tokenizer: [], options_schema=options)
    host = load_host(extra=[plugin("formats", dataset_formats=[found])])
    start = "base_model: m\ntrain_on_inputs: true\ndatasets:\n  - path: org/data\n    type: mine\n"
    fine = recipe(start + "    column: a\n")
    assert check_recipe(fine, host) == []
    resolved = resolve_defaults(fine, host)
    taken = item_options(options, resolved.values["datasets"][0], resolved)
    assert taken == {"path": "org/data", "type": "mine", "column": "a", "shout": False, "train_on_inputs": True}
    assert item_options(options, {"train_on_inputs": False}, resolved)["train_on_inputs"] is False
    assert messages(check_recipe(recipe(start + "    shout: 1\n"), host)) == [
        "'column' is missing in 'datasets.0'",
        "'datasets.0.shout' is 1, expected true or false",
    ]
    assert messages(check_recipe(recipe(start + "    column: a\n    colunm:\n"), host)) == [
        "unknown key 'colunm' in 'datasets.0'"
    ]


def test_a_format_of_another_kind_than_the_trainer_is_a_mismatch(recipe: Any) -> None:
    found = DatasetFormat("pairs", render=lambda row, options, tokenizer: [], kind="preference")
    other = Trainer("dpo", prepare=lambda plan, model, tokenizer, data: data, kind="preference")
    host = load_host(extra=[plugin("pairs", dataset_formats=[found], trainers=[other])])
    text = "base_model: m\ndatasets: [{path: d, type: pairs}]\n"
    assert messages(check_recipe(recipe(text), host)) == [
        "format 'pairs' makes 'preference' examples, trainer 'sft' takes 'sft'"
    ]
    assert check_recipe(recipe(text + "trainer: dpo\n"), host) == []


def test_an_evaluators_options_are_checked(recipe: Any) -> None:
    options = {"field": {"type": "string", "description": "Which field."}}
    metric = Evaluator("mine", score=lambda prediction, item, options: {}, options_schema=options)
    host = load_host(extra=[plugin("metrics", evaluators=[metric])])
    text = START + "evaluation:\n  datasets: [{path: t, type: alpaca}]\n  metrics:\n    - {type: mine, feild: x}\n"
    (problem,) = check_recipe(recipe(text), host)
    assert problem.message == "unknown key 'feild' in 'evaluation.metrics.0'"
    assert problem.help == "did you mean 'field'?"


def test_rules_across_keys_see_typed_values_and_defaults(recipe: Any) -> None:
    seen: list[Any] = []

    def check(recipe: Recipe) -> list[Problem]:
        seen.append((recipe["output_dir"], recipe["num_epochs"], recipe["eval_strategy"]))
        return [Problem("seven is unlucky", key=("seed",), at="value")]

    host = load_host(extra=[plugin("rules", check_recipe=check)])
    problems = check_recipe(recipe(START + "seed: 7\neval_strategy: no\n", "output_dir=12"), host)
    assert seen == [("12", 3, "no")]
    assert problems[0].position is not None
    assert (problems[0].position.line, problems[0].position.column) == (4, 7)
    check_recipe(recipe(START + "seed: x\n"), host)
    assert len(seen) == 1


def test_an_override_is_typed_by_the_schema(host: Host, recipe: Any) -> None:
    made = recipe(START, "output_dir=123", "adapter=on", "seed=7.0", "wandb_name=null", "save_strategy=no", "bf16=true")
    values = resolve_defaults(made, host).values
    assert values["output_dir"] == "123"
    assert values["adapter"] == "on"
    assert values["seed"] == 7
    assert isinstance(values["seed"], int)
    assert values["save_strategy"] == "no"
    assert values["bf16"] is True
    assert "wandb_name" not in values


def test_an_override_repairs_what_the_file_says(host: Host, recipe: Any) -> None:
    assert check_recipe(recipe(START + "seed: x\nlora_rank: 3\n", "seed=1", "lora_rank=null"), host) == []
    assert messages(check_recipe(recipe(START, "frob=null"), host)) == ["unknown key 'frob'"]


def test_defaults_of_the_common_starting_point(host: Host, recipe: Any) -> None:
    resolved = resolve_defaults(recipe(START + "adapter: lora\nevaluation:\n  limit: 3\n"), host)
    expected = {
        "num_epochs": 3,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "learning_rate": 2e-4,
        "warmup_steps": 100,
        "logging_steps": 10,
        "save_steps": 500,
        "lora_r": 8,
        "lora_dropout": 0.05,
        "lora_target_modules": ["q_proj", "v_proj"],
    }
    assert {key: resolved[key] for key in expected} == expected
    assert resolved["evaluation"]["limit"] == 3
    assert resolved["evaluation"]["max_new_tokens"] == 256
    assert resolve_defaults(recipe(START), host)["lora_r"] is None


def test_one_key_can_stand_for_another(host: Host, recipe: Any) -> None:
    assert (
        resolve_defaults(recipe(START + "batch_size: 8\nmicro_batch_size: 2\n"), host)["gradient_accumulation_steps"]
        == 4
    )
    # the micro batch that is taken where none is set
    assert resolve_defaults(recipe(START + "batch_size: 16\n"), host)["gradient_accumulation_steps"] == 4
    flagged = resolve_defaults(recipe(START + "flash_attention: true\n"), host)
    assert flagged["attn_implementation"] == "flash_attention_2"
    assert resolve_defaults(recipe(START + "flash_attention: false\n"), host)["attn_implementation"] is None


def test_older_names_of_message_properties_act(host: Host, recipe: Any) -> None:
    item = "{path: d, type: chat_template, message_field_role: from, message_field_content: value}"
    made = recipe(f"base_model: m\ndatasets:\n  - {item}\n")
    assert check_recipe(made, host) == []
    assert resolve_defaults(made, host).values["datasets"][0]["message_property_mappings"] == {
        "role": "from",
        "content": "value",
    }


def test_switched_off_keys_of_axolotl_are_quiet(host: Host, recipe: Any) -> None:
    off = "relora: false\ngptq:\nlora_mlp_kernel: false\nrl:\ncosine_constant_lr_ratio: 0\nplugins: []\n"
    assert check_recipe(recipe(START + off), host) == []


def test_only_a_recipe_that_wants_it_on_is_another_job(host: Host, recipe: Any) -> None:
    (problem,) = check_recipe(recipe(START + "zzz: 1\nrl: kto\n"), host)
    assert problem.message.startswith("'rl' asks for")
    assert check_recipe(recipe(START + "reward_model: false\n"), host) == []


def test_the_table_of_foreign_keys_is_sound(host: Host) -> None:
    table = load_fragment("axolotl-keys")
    assert len(table) > 200
    assert not set(table) & set(host.recipe_keys)
    for key, entry in table.items():
        assert entry["effect"] in ("acts", "none", "dead", "unsupported", "job"), key
        for text in (entry["note"], entry.get("use", "")):
            assert not text.endswith("."), key


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("lora_rank", "lora_r"),
        ("learnin_rate", "learning_rate"),
        ("lr", "learning_rate"),
        ("epochs", "num_epochs"),
        ("Output-Dir", "output_dir"),
        ("ouptut_dir", "output_dir"),
        ("seeed", "seed"),
        ("sample_paking", "sample_packing"),
        ("zzzz", None),
        ("", None),
        ("x", None),
    ],
)
def test_the_nearest_key_is_proposed(host: Host, word: str, expected: str | None) -> None:
    assert suggest(word, host.recipe_keys) == expected


def test_distance_counts_a_swap_as_one() -> None:
    assert [distance("abcd", "abdc"), distance("abc", "abc"), distance("", "ab"), distance("kitten", "sitting")] == [
        1,
        0,
        2,
        3,
    ]


def test_paths_are_looked_up_beside_the_recipe_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "recipes", tmp_path / "work"
    for folder in (home, work):
        folder.mkdir()
        (folder / "both.jsonl").touch()
    (work / "here.jsonl").touch()
    (home / "folder").mkdir()
    monkeypatch.chdir(work)
    assert resolve_input_path("both.jsonl", home) == str(home / "both.jsonl")
    assert resolve_input_path("here.jsonl", home) == str(work / "here.jsonl")
    assert resolve_input_path("./gone.jsonl", home) == str(home / "gone.jsonl")
    assert resolve_input_path("folder", home) == str(home / "folder")
    assert resolve_input_path("org/data", home) == "org/data"
    assert resolve_input_path("https://x/y.json", home) == "https://x/y.json"
    assert resolve_input_path("a\0b" * 2000, home) == "a\0b" * 2000
    assert resolve_input_path("~no-such-user/x.json", home) == str(home / "~no-such-user" / "x.json")


def test_what_looks_like_a_file() -> None:
    assert all(map(looks_local, ["./x", "/x", "~/x", "a.jsonl", "a/b.json.gz", "x.PARQUET"]))
    assert not any(map(looks_local, ["org/data", "data", "hf://org/data.json", "org/data-v1.5"]))


def test_a_missing_file_of_a_metric_is_found(host: Host, recipe: Any) -> None:
    text = START + "evaluation:\n  datasets: [{path: t, type: alpaca}]\n  metrics:\n"
    found = check_recipe(recipe(text + "    - {type: format_compliance, json_schema: gone.json}\n"), host)
    assert messages(found) == ["no such file: 'gone.json'"]


@pytest.mark.parametrize("name", ["~no-such-user/model", "é" * 300, "a\\0b.gguf", "package://x"])
def test_a_model_name_that_no_file_system_takes_is_missing(host: Host, recipe: Any, name: str) -> None:
    (problem,) = check_recipe(recipe(START.replace("org/model", f'"{name}"')), host)
    assert problem.key == ("base_model",)


def test_the_exported_schema_knows_each_types_keys(host: Host) -> None:
    schema = export_schema(host)
    Draft202012Validator.check_schema(schema)
    assert "x-inherit" not in json.dumps(schema)
    validator = Draft202012Validator(schema)

    def valid(item: dict[str, Any], **keys: Any) -> bool:
        return validator.is_valid({"base_model": "m", "datasets": [item], **keys})

    chat = {"path": "d", "type": "chat_template", "field_messages": "conversations"}
    assert valid(chat)
    assert valid(chat, learning_rate=None, adapter="lora", lora_r=4)
    assert not valid({**chat, "type": "alpaca"})
    assert not valid({**chat, "field_mesages": "x"})
    assert not valid({"path": "d"})
    assert not valid(chat, adapter="lorra")
    assert not valid(chat, lora_rank=4)


def test_the_committed_schema_is_the_composed_one() -> None:
    builtins = load_host()
    if any(info.distribution != "tunesmith" for info in builtins.plugins):
        pytest.skip("other plugins are installed, which add keys of their own")
    committed = (ROOT / "schemas" / "recipe.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(builtins), "run: tunesmith schema > schemas/recipe.schema.json"


def test_the_shipped_recipes_are_sound(host: Host) -> None:
    shipped = sorted((ROOT / "recipes").glob("*.yml"))
    assert len(shipped) >= 4
    for path in shipped:
        found = messages(check_recipe(load_recipe(path), host))
        assert all(
            text.startswith(("no such file: './my_domain", "base_model 'package://", "package")) for text in found
        ), found


def run_check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "core", "check", *arguments], capture_output=True, text=True, cwd=ROOT)


def test_the_command_says_what_is_wrong_and_ends_with_2(recipe: Any) -> None:
    path = str(recipe(START + "lern_rate: 1\n").path)
    done = run_check(path)
    assert done.returncode == 2
    assert f"{path}:4:1: error: unknown key 'lern_rate'" in done.stderr
    assert done.stderr.rstrip().endswith("1 error")
    done = run_check(path, "--set", "lern_rate=null", "--set", "learning_rate=1e-4")
    assert (done.returncode, done.stdout) == (0, f"{path}: ok (3 keys, 0 warnings)\n")


def test_checking_imports_nothing_heavy(recipe: Any) -> None:
    path = str(recipe(START).path)
    code = (
        "import sys; from core.cli import main; code = main(['check', sys.argv[1]]); "
        "heavy = {'torch', 'transformers', 'datasets', 'numpy', 'peft', 'accelerate', 'pandas'} & set(sys.modules); "
        "sys.exit(code or (f'imported {heavy}' if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_load_errors_reach_the_command_line_with_their_line(recipe: Any, tmp_path: Path) -> None:
    path = tmp_path / "broken.yml"
    path.write_text("base_model: a: b\n", encoding="utf-8")
    with pytest.raises(RecipeError):
        load_recipe(path)
    done = run_check(str(path))
    assert done.returncode == 2
    assert "broken.yml:1:14: error: not valid YAML" in done.stderr
    assert "    base_model: a: b\n" in done.stderr
