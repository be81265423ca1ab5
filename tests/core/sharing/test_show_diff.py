"""`show` prints a recipe that means the same, `diff` what differs in effect; both with origins, without secrets."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from core import host as host_module
from core.check import resolve_defaults
from core.cli import main
from core.commands.show import one_line
from core.errors import RecipeError
from core.hookspecs import hookimpl
from core.host import Host, load_host
from core.recipe import load_recipe
from core.sharing.resolved import in_effect
from core.yaml_nodes import read_tree
from tests.core.sharing.making import write

ROOT = Path(__file__).parents[3]
VALID = "base_model: org/model\ndatasets: [{path: org/data, type: alpaca}]\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def out(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    return code, capsys.readouterr().out


def origins(text: str) -> dict[str, str]:
    """Line without its comment -> comment."""
    parts = (line.partition("  # ") for line in text.splitlines())
    return {line.strip(): comment.strip() for line, _, comment in parts}


def test_each_value_is_shown_with_where_it_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    write(
        team__base="seed: 1\nadapter: lora\nflash_attention: true\nbatch_size: 8\n"
        "micro_batch_size: 2\ntrain_on_inputs: true\n",
        recipe=f"extends: team/base.yml\n{VALID}lora_r:\nevaluation: {{metrics: [{{type: json_field, field: a}}]}}\n",
    )
    code, text = out(capsys, "show", "recipe.yml", "--set", "learning_rate=1e-3")
    assert code == 0
    assert text.splitlines()[0] == "# recipe.yml over team/base.yml"
    shown = origins(text)
    assert shown["seed: 1"] == "team/base.yml:1"
    assert shown["base_model: org/model"] == "recipe.yml:2"
    assert shown["learning_rate: 0.001"] == "--set"
    assert shown["lora_r: 8"] == "default of plugins.adapters.lora"
    assert shown["sequence_len: 2048"] == "default of core.keys"
    assert shown["attn_implementation: flash_attention_2"] == "flash_attention, team/base.yml:3"
    assert shown["gradient_accumulation_steps: 4"] == "batch_size, team/base.yml:4"
    assert shown["field_instruction: instruction"] == "default of plugins.formats.alpaca"
    assert shown["casefold: false"] == "default of plugins.evaluators.json_field"
    assert shown["max_new_tokens: 256"] == "default of core.keys"
    # an option of the format that the recipe sets for all data sets
    lines = [line for line in text.splitlines() if line.strip().startswith("train_on_inputs: true")]
    assert len(lines) == 2
    assert all(line.endswith("# team/base.yml:6") for line in lines)


def test_comments_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    write(recipe=VALID)
    _, text = out(capsys, "show", "recipe.yml")
    assert len({line.index("  # ") for line in text.splitlines() if "  # " in line}) == 1


@pytest.mark.parametrize("name", ["quickstart", "llama-full", "llama-lora", "llama-qlora"])
def test_what_is_shown_is_a_recipe_that_means_the_same(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    host = load_host()
    path = ROOT / "recipes" / f"{name}.yml"
    code, text = out(capsys, "show", str(path))
    assert code == 0
    Path("again.yml").write_text(text, encoding="utf-8")
    first, second = (in_effect(load_recipe(one), host) for one in (path, Path("again.yml")))
    assert {key: leaf.shown for key, leaf in first.items()} == {key: leaf.shown for key, leaf in second.items()}
    again = resolve_defaults(load_recipe(Path("again.yml")), host)
    assert all(
        again[key] == value
        for key, value in resolve_defaults(load_recipe(path), host).values.items()
        if key not in ("datasets", "test_datasets", "evaluation")
    )


@pytest.mark.parametrize(
    "value",
    [
        *(
            "no",
            "2e-5",
            "1_000",
            "a: b",
            "- x",
            "# x",
            "",
            " x ",
            "a\tb",
            "ä",
            "\x1b[0m",
            "x" * 300,
            "'q'",
            '"q"',
            "null",
        ),
        *("a\nb", "[x]", "{x}", "*x", "&x", "!x", "%x", "@x", "0o7", ".inf", "1:30", "=", "<<", "\u2028", "~"),
        *(1, 1.0, 2e-5, 1e300, True, False, None, float("inf"), [], {}),
    ],
)
def test_every_scalar_reads_back_the_same_on_one_line(value: Any) -> None:
    text = one_line(value)
    assert "\n" not in text
    again = read_tree(f"key: {text}  # a comment\n", "x").value["key"]
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("text", ["a\nb", "a\n\nb\n", " a\nb", "a\nb\n\n", "a\n  b: # x\n- c", "a\tb\n\x07c\n", "\na"])
def test_texts_of_several_lines_read_back_the_same(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    write(recipe=f"{VALID}default_system_message: {json.dumps(text)}\n")
    Path("again.yml").write_text(out(capsys, "show", "recipe.yml")[1], encoding="utf-8")
    assert load_recipe(Path("again.yml")).values["default_system_message"] == text


@pytest.fixture
def secretive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that owns keys with secrets in them."""
    plugin = ModuleType("secretive")
    text = {"type": "string", "description": "Secret.", "x-env": True}

    @hookimpl
    def recipe_keys() -> dict[str, Any]:
        return {"demo_token": text, "demo_secrets": {"type": "array", "items": text, "description": "Secrets."}}

    plugin.recipe_keys = recipe_keys  # type: ignore[attr-defined]
    loaded = load_host(extra=[plugin])
    monkeypatch.setattr(host_module, "load_host", lambda: loaded)


@pytest.mark.usefixtures("secretive")
def test_secrets_are_masked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_TOKEN", "hf_held")
    write(
        a=f"{VALID}demo_token: hf_one\ndemo_secrets: [first, second]\n",
        b=f"{VALID}demo_token: hf_two\ndemo_secrets: [first, third]\n",
        c=f"{VALID}demo_token: ${{DEMO_TOKEN}}\n",
    )
    code, text = out(capsys, "show", "a.yml")
    assert "demo_token: '***'" in text
    code, compared = out(capsys, "diff", "a.yml", "b.yml")
    assert code == 1
    assert "demo_token\n  - '***'  # a.yml:3\n  + '***'  # b.yml:3\n" in compared
    _, variable = out(capsys, "show", "c.yml")
    assert "demo_token: ${DEMO_TOKEN}" in variable
    for secret in ("hf_", "first", "second", "third"):
        assert secret not in text + compared + variable


def test_recipes_with_the_same_effect_do_not_differ(capsys: pytest.CaptureFixture[str]) -> None:
    write(
        a=f"{VALID}seed: 42\nlearning_rate: 2e-4\nstrict: true\n",
        base="seed: 1\nlora_r: 4\n",
        b=f"extends: base.yml\nrequires: [pyyaml]\n{VALID}seed: null\n",
    )
    assert out(capsys, "diff", "a.yml", "b.yml") == (0, "no difference in effect\n")


def test_what_differs_is_shown_with_both_origins(capsys: pytest.CaptureFixture[str]) -> None:
    write(a=f"{VALID}eot_tokens: [x]\n", b=f"{VALID}seed: 7\neot_tokens: [x, y]\n")
    code, text = out(capsys, "diff", "a.yml", "b.yml")
    assert code == 1
    assert "seed\n  - 42  # default of core.keys\n  + 7   # b.yml:3\n" in text
    assert "eot_tokens.1\n  - (not set)\n  + y          # b.yml:4\n" in text
    assert text.endswith("\n2 values differ\n")


def test_the_same_text_in_two_folders_is_two_files(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    recipe = "base_model: org/model\ndatasets: [{path: train.jsonl, type: alpaca}]\n"
    write(one__a=recipe, two__a=recipe, a=recipe.replace("train", "one/train"))
    for name in ("one", "two"):
        Path(name, "train.jsonl").write_text("{}\n")
    code, text = out(capsys, "diff", "one/a.yml", "two/a.yml")
    assert code == 1
    assert f"- train.jsonl = {folder}/one/train.jsonl  # one/a.yml:2" in text
    assert out(capsys, "diff", "one/a.yml", "a.yml")[0] == 0


def test_true_is_not_one(capsys: pytest.CaptureFixture[str]) -> None:
    write(a=f"{VALID}resume_from_checkpoint: true\n", b=f"{VALID}resume_from_checkpoint: 'true'\n")
    assert out(capsys, "diff", "a.yml", "b.yml")[0] == 1


def test_a_recipe_with_mistakes_is_refused_and_missing_files_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    write(
        bad=f"{VALID}seed: x\n",
        elsewhere="base_model: org/model\nrequires: [no-such-thing]\ndatasets: [{path: ./gone.jsonl, type: alpaca}]\n",
    )
    assert main(["show", "bad.yml"]) == 2
    assert "bad.yml:3:7: error: 'seed' is the text 'x'" in capsys.readouterr().err
    assert main(["diff", "elsewhere.yml", "bad.yml"]) == 2
    assert main(["show", "elsewhere.yml"]) == 0
    assert main(["check", "elsewhere.yml"]) == 2


def test_both_need_a_recipe_that_can_be_read() -> None:
    with pytest.raises(RecipeError):
        load_recipe(Path("gone.yml"))
    assert main(["diff", "gone.yml", "gone.yml"]) == 2


def test_the_host_knows_who_owns_what_is_shown() -> None:
    host: Host = load_host()
    write(recipe=VALID)
    leaves = in_effect(load_recipe(Path("recipe.yml")), host)
    assert len(leaves) > 30
    assert {path[0] for path in leaves} <= set(host.recipe_keys)
