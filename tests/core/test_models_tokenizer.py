from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from core import RecipeError, UserError
from core.models import added_tokens, load_tokenizer
from tests.core.model_plans import make_model_plan


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A tiny model folder of the test's own."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


def forget(folder: Path, *names: str) -> None:
    """Take entries out of the folder's tokenizer_config.json."""
    file = folder / "tokenizer_config.json"
    values = json.loads(file.read_text())
    file.write_text(json.dumps({name: value for name, value in values.items() if name not in names}))


def test_the_models_own_tokenizer_is_loaded(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(make_model_plan(tmp_path, tiny_model))
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<pad>")
    assert tokenizer.decode(tokenizer.encode("Answer: yes\n\n1.")) == "Answer: yes\n\n1."


@pytest.mark.parametrize("kind", ["AutoTokenizer", "PreTrainedTokenizerFast", "GPT2Tokenizer"])
def test_a_tokenizer_type_that_reads_alike_is_accepted(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    assert load_tokenizer(make_model_plan(tmp_path, tiny_model, tokenizer_type=kind)).eos_token == "<|im_end|>"


@pytest.mark.parametrize("kind", ["LlamaTokenizer", "Qwen2Tokenizer", "T5Tokenizer"])
def test_a_tokenizer_type_that_reads_otherwise_is_refused(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=f"tokenizer_type '{kind}' contradicts") as caught:
        load_tokenizer(make_model_plan(tmp_path, tiny_model, tokenizer_type=kind))
    assert caught.value.problems[0].key == ("tokenizer_type",)


def test_llama_tokenizer_is_accepted_for_a_llama_tokenizer(copied: Path, tmp_path: Path) -> None:
    from transformers import LlamaTokenizer

    pieces = ["<unk>", "<s>", "</s>", "▁", *sorted(set("Helo wrd,thisae.")), "▁H", "el", "▁Hel", "lo"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    merges = [("▁", "H"), ("e", "l"), ("▁H", "el"), ("l", "o")]
    LlamaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(str(copied))
    plan = make_model_plan(tmp_path, copied, tokenizer_type="LlamaTokenizer", model_type="LlamaForCausalLM")
    assert load_tokenizer(plan).eos_token == "</s>"


def test_an_unknown_tokenizer_type_gets_a_suggestion(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a tokenizer of transformers") as caught:
        load_tokenizer(make_model_plan(tmp_path, tiny_model, tokenizer_type="LlamaTokeniser"))
    assert "'LlamaTokenizer'" in str(caught.value.problems[0].help)


@pytest.mark.parametrize("kind", ["AutoModelForCausalLM", "LlamaForCausalLM"])
def test_a_model_type_that_fits_is_accepted(kind: str, tiny_model: Path, tmp_path: Path) -> None:
    assert load_tokenizer(make_model_plan(tmp_path, tiny_model, model_type=kind))


def test_a_model_type_that_contradicts_the_config_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"'MistralForCausalLM' contradicts .* LlamaForCausalLM") as caught:
        load_tokenizer(make_model_plan(tmp_path, tiny_model, model_type="MistralForCausalLM"))
    assert caught.value.problems[0].key == ("model_type",)


def test_special_tokens_are_applied_and_new_ones_announced(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roles = {"eos_token": "<|end|>", "pad_token": "<|im_start|>", "unk_token": None}
    plan = make_model_plan(tmp_path, tiny_model, special_tokens=roles, tokens=["<think>"])
    tokenizer = load_tokenizer(plan)
    assert (tokenizer.eos_token, tokenizer.pad_token, len(tokenizer)) == ("<|end|>", "<|im_start|>", 402)
    assert tokenizer.encode("<think>") == [401]
    assert "2 tokens added to the vocabulary: <think>, <|end|>" in capsys.readouterr().out
    assert added_tokens(plan) == [400, 401]


def test_tokens_may_be_a_map_of_roles(tiny_model: Path, tmp_path: Path) -> None:
    roles = {"eos_token": "<|end|>", "pad_token": "<|end|>"}
    plan = make_model_plan(tmp_path, tiny_model, tokens=roles, special_tokens={"pad_token": "<pad>"})
    tokenizer = load_tokenizer(plan)
    assert (tokenizer.eos_token, tokenizer.pad_token, len(tokenizer)) == ("<|end|>", "<pad>", 401)


def test_a_new_pad_token_is_not_one_to_be_learned(tiny_model: Path, tmp_path: Path) -> None:
    assert added_tokens(make_model_plan(tmp_path, tiny_model, special_tokens={"pad_token": "<new-pad>"})) == []
    assert added_tokens(make_model_plan(tmp_path, tiny_model)) == []


def test_no_end_token_is_an_error_that_names_a_candidate(copied: Path, tmp_path: Path) -> None:
    forget(copied, "eos_token")
    with pytest.raises(UserError, match="no end token") as caught:
        load_tokenizer(make_model_plan(tmp_path, copied))
    assert "special_tokens: {eos_token: '<|im_end|>'}" in str(caught.value.help)
    cured = make_model_plan(tmp_path, copied, special_tokens={"eos_token": "<|im_end|>"})
    assert load_tokenizer(cured).eos_token == "<|im_end|>"


def test_a_missing_pad_token_is_taken_from_the_spare_ones(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget(copied, "pad_token")
    assert load_tokenizer(make_model_plan(tmp_path, copied)).pad_token == "<pad>"
    assert "padding with '<pad>'" in capsys.readouterr().out


def test_without_a_spare_token_the_end_token_pads(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(copied, "pad_token")
    monkeypatch.setattr("core.models.tokenizer.PAD_CANDIDATES", ("<|im_end|>", "<nowhere>"))
    tokenizer = load_tokenizer(make_model_plan(tmp_path, copied))
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert "labels are not masked by it" in capsys.readouterr().out


def test_tokenizer_config_names_another_folder_with_nothing_but_a_tokenizer(copied: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(copied)
    other.add_tokens(["<extra>"])
    other.save_pretrained(tmp_path / "other")
    plan = make_model_plan(tmp_path, copied, tokenizer_config="other")
    assert "<extra>" in load_tokenizer(plan).get_vocab()


@pytest.mark.parametrize("damage", ["missing", "not json", "wrong shape"])
def test_unreadable_tokenizer_files_are_explained(damage: str, copied: Path, tmp_path: Path) -> None:
    file = copied / "tokenizer.json"
    if damage == "missing":
        file.unlink()
    else:
        file.write_text("{" if damage == "not json" else "{}")
    with pytest.raises(UserError, match=r"the tokenizer of .* cannot be loaded"):
        load_tokenizer(make_model_plan(tmp_path, copied))


@pytest.mark.parametrize("kind", ["gpt_neox", "gemma2"])
def test_special_tokens_that_were_made_up_are_no_vocabulary(kind: str, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps({"model_type": kind}), encoding="utf-8")
    with pytest.raises(UserError, match="it has no vocabulary"):
        load_tokenizer(make_model_plan(tmp_path, tmp_path / "model"))


def test_a_config_that_contradicts_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = {"model_type": "llama", "hidden_size": -5, "num_attention_heads": 16}
    (tmp_path / "model" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UserError, match=r"cannot be loaded: .*not a multiple of the number of attention heads"):
        load_tokenizer(make_model_plan(tmp_path, tmp_path / "model"))
