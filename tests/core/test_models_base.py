from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from core import RecipeError, UserError
from core.models import load_base, load_untouched_base, resized_embeddings
from core.models import loading as loading_module
from core.models.attention import attention
from core.models.quantization import quantization_config
from tests.core.model_plans import make_model_plan


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A tiny model folder of the test's own."""
    return shutil.copytree(tiny_model, tmp_path / "copy")


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_on_a_cpu_the_weights_are_float32_unless_bf16_is_asked_for(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert load_base(make_model_plan(tmp_path, tiny_model)).dtype == torch.float32
    assert "base model in float32 on cpu (bf16: auto" in capsys.readouterr().out
    assert load_base(make_model_plan(tmp_path, tiny_model, bf16=True)).dtype == torch.bfloat16
    assert load_base(make_model_plan(tmp_path, tiny_model, fp16=True)).dtype == torch.float32


def test_the_cache_is_off_and_no_weight_is_frozen(tiny_model: Path, tmp_path: Path) -> None:
    model = load_base(make_model_plan(tmp_path, tiny_model))
    assert model.config.use_cache is False
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_loading_prints_no_progress_bar_and_no_library_message(
    tiny_model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load_base(make_model_plan(tmp_path, tiny_model))
    assert capfd.readouterr().err == ""


def test_new_tokens_get_embeddings_alike_in_every_load(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_model_plan(tmp_path, tiny_model, special_tokens={"eos_token": "<|end|>"})
    state = torch.random.get_rng_state()
    model, base = load_base(plan), load_untouched_base(plan)
    assert torch.equal(state, torch.random.get_rng_state())
    assert "embeddings resized from 400 to 401 rows" in capsys.readouterr().out
    assert resized_embeddings(model)
    assert torch.equal(model.get_input_embeddings().weight, base.get_input_embeddings().weight)
    assert not base.training
    assert model.config.vocab_size == 401
    assert model.config.eos_token_id == 400
    assert model.generation_config.eos_token_id == [400, 2]


def test_spare_rows_are_used_and_never_cut_off(copied: Path, tmp_path: Path) -> None:
    wide = load_base(make_model_plan(tmp_path, copied, resize_token_embeddings_to_32x=True))
    assert wide.get_input_embeddings().num_embeddings == 416
    wide.save_pretrained(copied)
    model = load_base(make_model_plan(tmp_path, copied, tokens=["<a>", "<b>"]))
    assert model.get_input_embeddings().num_embeddings == 416
    assert not resized_embeddings(model)


@pytest.mark.parametrize(
    ("name", "gpu", "reason"),
    [
        ("xformers", True, "transformers has none of that name"),
        ("flex_attention", False, "it needs a GPU, and there is none"),
        ("flash_attention_2", False, "it needs a GPU, and there is none"),
        ("flash_attention_2", True, "neither flash-attn nor kernels is installed (pip install kernels)"),
        ("flash_attention_4", True, "neither flash-attn-4 nor kernels is installed (pip install kernels)"),
        ("kernels-community/flash-attn3", False, "it needs a GPU, and there is none"),
        ("kernels-community/flash-attn3", True, "the package kernels is not installed (pip install kernels)"),
    ],
)
def test_an_attention_that_is_not_there_gives_way_and_says_why(
    tiny_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    gpu: bool,
    reason: str,
) -> None:
    monkeypatch.setattr("core.models.attention.on_cuda", lambda: gpu)
    for package in ("flash_attn_2", "flash_attn_4", "kernels"):
        monkeypatch.setattr(f"transformers.utils.import_utils.is_{package}_available", lambda: False)
    assert attention(make_model_plan(tmp_path, tiny_model, attn_implementation=name)) is None
    said = capsys.readouterr().out
    assert f"warning: attn_implementation {name!r} is not available here: {reason}; taking torch's own (sdpa)" in said


def test_an_attention_that_is_there_is_taken(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = make_model_plan(tmp_path, tiny_model, attn_implementation="xformers")
    assert load_base(asked).config._attn_implementation == "sdpa"
    assert "is not available here" in capsys.readouterr().out
    asked = make_model_plan(tmp_path, tiny_model, attn_implementation="eager")
    assert load_base(asked).config._attn_implementation == "eager"


def test_an_unknown_attention_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown attn_implementation 'fast'"):
        load_base(make_model_plan(tmp_path, tiny_model, attn_implementation="fast"))


def test_weights_that_are_missing_are_never_made_up(copied: Path, tmp_path: Path) -> None:
    change_config(copied, num_hidden_layers=3)
    with pytest.raises(UserError, match=r"lacks weights for 9 tensors: model.layers.2"):
        load_base(make_model_plan(tmp_path, copied))


def test_weights_that_are_not_used_are_mentioned(
    copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_config(copied, num_hidden_layers=1)
    load_base(make_model_plan(tmp_path, copied))
    assert "warning: 9 tensors of the base model are not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no weights", "no file named model.safetensors"),
        ("cut off", "deserializing header"),
        ("config not json", "not a valid JSON"),
        ("unknown model", "does not know its model_type"),
        ("other shapes", "contradict its config.json"),
        ("own code", "brings its own code"),
    ],
)
def test_a_damaged_model_is_explained_without_a_traceback(
    damage: str, message: str, copied: Path, tmp_path: Path
) -> None:
    weights = copied / "model.safetensors"
    if damage == "no weights":
        weights.unlink()
    elif damage == "cut off":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif damage == "config not json":
        (copied / "config.json").write_text("{nope")
    elif damage == "unknown model":
        change_config(copied, model_type="unheard-of")
    elif damage == "other shapes":
        change_config(copied, hidden_size=64)
    else:
        change_config(copied, model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"})
    with pytest.raises(UserError, match=message) as caught:
        load_base(make_model_plan(tmp_path, copied))
    assert caught.value.help
    assert len(caught.value.message) < 500


def test_a_hub_id_that_cannot_be_reached_is_explained_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loading_module, "hub_reachable", lambda: False)
    with pytest.raises(UserError, match="'nobody/no-such-model' cannot be loaded: the hub cannot be reached") as caught:
        load_base(make_model_plan(tmp_path, "nobody/no-such-model"))
    assert "local folder" in str(caught.value.help)
    assert capfd.readouterr().err == ""


def test_4_bit_weights_stay_as_they_were_loaded(tiny_model: Path, tmp_path: Path) -> None:
    """Evaluating, training and evaluating again gives the first logits while no weight is changed."""
    pytest.importorskip("bitsandbytes")
    model = load_base(make_model_plan(tmp_path, tiny_model), quantized="4bit")
    packed = {
        name: parameter.clone() for name, parameter in model.named_parameters() if hasattr(parameter, "quant_state")
    }
    ids = torch.arange(5, 25).view(1, -1)
    model.eval()
    with torch.no_grad():
        first = model(ids).logits
        model.train()
        trained = model(ids).logits
    assert packed
    assert torch.equal(first, trained)
    assert all(torch.equal(value, model.get_parameter(name)) for name, value in packed.items())


@pytest.mark.parametrize(
    "shared_out",
    [
        {"fsdp": ["full_shard"]},
        {"fsdp_config": {"fsdp_version": 2}},
        {"deepspeed": {"zero_optimization": {"stage": 3}}},
    ],
)
@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_4_bit_weights_that_are_shared_out_are_held_as_the_others_are(
    shared_out: dict[str, Any], bf16: bool, dtype: torch.dtype, tiny_model: Path, tmp_path: Path
) -> None:
    """FSDP flattens tensors of one dtype; packed weights are bytes otherwise."""
    pytest.importorskip("bitsandbytes")
    config = quantization_config(make_model_plan(tmp_path, tiny_model, bf16=bf16, **shared_out), "4bit", dtype)
    assert config.bnb_4bit_quant_storage == dtype
    alone = make_model_plan(tmp_path, tiny_model, bf16=bf16, fsdp=False, fsdp_config=shared_out.get("fsdp_config"))
    assert quantization_config(alone, "4bit", dtype).bnb_4bit_quant_storage == torch.uint8


def test_a_model_in_4_bits_that_is_to_be_shared_out_has_one_dtype(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    plan = make_model_plan(tmp_path, tiny_model, adapter="qlora", bf16=True, fsdp_config={"fsdp_version": 2})
    model = load_base(plan, quantized="4bit", frozen=True)
    packed = [parameter for parameter in model.parameters() if hasattr(parameter, "quant_state")]
    assert packed
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    ids = torch.tensor([[3, 4, 5]])
    expected = load_base(make_model_plan(tmp_path, tiny_model, adapter="qlora", bf16=True), quantized="4bit")
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, expected(input_ids=ids).logits)


def test_another_storage_than_can_be_shared_out_is_refused(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    kwargs = {"bnb_config_kwargs": {"bnb_4bit_quant_storage": "uint8"}}
    plan = make_model_plan(tmp_path, tiny_model, adapter="qlora", **kwargs)
    assert quantization_config(plan, "4bit", torch.bfloat16).bnb_4bit_quant_storage == torch.uint8
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError) as caught:
        quantization_config(plan, "4bit", torch.bfloat16)
    (problem,) = caught.value.problems
    assert (
        problem.message == "bnb_4bit_quant_storage 'uint8' cannot be shared out over ranks beside weights in bfloat16"
    )
    assert problem.key == ("bnb_config_kwargs", "bnb_4bit_quant_storage")
    assert problem.help == "leave bnb_4bit_quant_storage out, or set it to bfloat16"
    same = make_model_plan(tmp_path, tiny_model, bnb_config_kwargs={"bnb_4bit_quant_storage": "bfloat16"})
    assert quantization_config(same, "4bit", torch.bfloat16).bnb_4bit_quant_storage == torch.bfloat16


@pytest.mark.parametrize(("quantized", "key"), [("4bit", "load_in_4bit"), ("8bit", "load_in_8bit")])
def test_without_bitsandbytes_the_extra_is_named(
    quantized: Any, key: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match=f"{key} needs the package bitsandbytes") as caught:
        load_base(make_model_plan(tmp_path, tiny_model), quantized=quantized)
    assert caught.value.help == "pip install 'tunesmith[qlora]'"


def test_bad_bnb_config_kwargs_point_at_the_key(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    plan = make_model_plan(tmp_path, tiny_model, bnb_config_kwargs={"bnb_4bit_quant_type": 5})
    with pytest.raises(RecipeError, match="bnb_config_kwargs cannot be used") as caught:
        load_base(plan, quantized="4bit")
    assert caught.value.problems[0].key == ("bnb_config_kwargs",)


def test_random_weights_in_the_shape_of_the_base(tmp_path: Path, tiny_model: Path) -> None:
    plan = make_model_plan(tmp_path, tiny_model, reinit_weights=True)
    drawn, again, own = load_base(plan), load_base(plan), load_base(make_model_plan(tmp_path, tiny_model))
    name = "model.layers.0.self_attn.q_proj.weight"
    weights = [dict(model.named_parameters())[name] for model in (drawn, again, own)]
    assert weights[0].shape == weights[2].shape
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
