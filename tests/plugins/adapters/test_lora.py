from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from core import RecipeError, UserError
from core.models import load_tokenizer, load_untouched_base, parameter_counts, save_model
from core.testing.tiny import make_tiny_tokenizer
from plugins.adapters import lora
from tests.core.model_plans import make_model_plan

LORA: dict[str, Any] = {"adapter": "lora"}
needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
PACKED = [
    pytest.param({"adapter": "qlora"}, id="qlora", marks=needs_bitsandbytes),
    pytest.param({"adapter": "lora", "load_in_8bit": True}, id="8bit", marks=needs_bitsandbytes),
]
PLAIN = [
    pytest.param(LORA, id="lora"),
    pytest.param(LORA | {"lora_target_linear": True, "lora_r": 4}, id="all linear"),
    pytest.param(LORA | {"peft_use_dora": True}, id="dora"),
    pytest.param(LORA | {"peft_use_rslora": True, "lora_alpha": 4}, id="rslora"),
    pytest.param(LORA | {"peft_init_lora_weights": False}, id="random start"),
    pytest.param(LORA | {"peft_init_lora_weights": "gaussian"}, id="gaussian"),
    pytest.param(LORA | {"peft_init_lora_weights": "orthogonal"}, id="orthogonal"),
    pytest.param(LORA | {"lora_modules_to_save": ["embed_tokens"]}, id="embeddings saved"),
    pytest.param(LORA | {"lora_modules_to_save": ["lm_head"]}, id="head saved"),
    pytest.param(LORA | {"bf16": True}, id="bf16"),
]
MOVED = [
    pytest.param(LORA | {"peft_init_lora_weights": "pissa"}, id="pissa"),
    pytest.param(LORA | {"peft_init_lora_weights": "pissa_niter_4", "peft_use_rslora": True}, id="pissa_niter_4"),
    pytest.param(LORA | {"peft_init_lora_weights": "olora"}, id="olora"),
]


def build(tmp_path: Path, folder: Path, **values: Any) -> tuple[Any, Any]:
    import torch

    torch.manual_seed(0)
    plan = make_model_plan(tmp_path, folder, **values)
    return plan, plan.adapter.build(plan)


def token_ids(vocabulary: int = 400) -> Any:
    import torch

    return torch.arange(5, vocabulary, 13).view(1, -1)


def logits(model: Any, ids: Any = None) -> Any:
    import torch

    model.eval()
    with torch.no_grad():
        return model(token_ids() if ids is None else ids).logits


def train(model: Any, ids: Any = None) -> list[float]:
    """A few steps on one row; the losses."""
    import torch

    model.train()
    ids = token_ids() if ids is None else ids
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=1.0)
    losses = []
    for _ in range(3):
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("values", [pytest.param(LORA, id="lora"), *PACKED])
def test_exactly_the_low_rank_matrices_train(values: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    import torch

    _, model = build(tmp_path, tiny_model, **values)
    # rank 8 on q_proj (32 x 32) and v_proj (32 x 16) of two layers
    trained = 2 * 8 * ((32 + 32) + (32 + 16))
    assert parameter_counts(model) == (trained, 31_392 + trained)
    matrices = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(".lora_A." in name or ".lora_B." in name for name in matrices)
    assert {parameter.dtype for parameter in matrices.values()} == {torch.float32}


def test_the_matrices_are_float32_on_a_bfloat16_base(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    _, model = build(tmp_path, tiny_model, **LORA, bf16=True)
    dtypes = {parameter.requires_grad: parameter.dtype for parameter in model.parameters()}
    assert dtypes == {True: torch.float32, False: torch.bfloat16}


@pytest.mark.parametrize("values", [*PLAIN, *MOVED, *PACKED])
def test_training_lowers_the_loss_and_moves_nothing_frozen(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    import torch

    _, model = build(tmp_path, tiny_model, **values)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = train(model)
    assert losses[-1] < losses[0]
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved
    assert moved <= {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("values", [*PLAIN, *PACKED])
def test_the_base_view_is_the_untouched_base_bit_for_bit(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    import torch

    plan, model = build(tmp_path, tiny_model, **values)
    base = logits(load_untouched_base(plan))
    for _ in range(2):
        view = lora.base_view(plan, model)
        assert view is not None
        with view:
            assert torch.equal(logits(model), base)
        train(model)
        assert not torch.equal(logits(model), base)


@pytest.mark.parametrize(
    "values",
    [
        *MOVED,
        pytest.param(LORA | {"tokens": ["<new>"]}, id="resized"),
        pytest.param(LORA | {"lora_target_parameters": ["norm.weight"], "lora_dropout": 0.0}, id="bare parameters"),
    ],
)
def test_where_the_base_view_would_not_be_exact_there_is_none(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    from core.models import load_base

    plan = make_model_plan(tmp_path, tiny_model, **values)
    model = load_base(plan) if "lora_target_parameters" in values else plan.adapter.build(plan)
    assert lora.base_view(plan, model) is None


def test_pissa_really_moves_the_base(tiny_model: Path, tmp_path: Path) -> None:
    """The reason for the rule: with the adapter off, the model is not the base."""
    import torch

    plan, model = build(tmp_path, tiny_model, **LORA, peft_init_lora_weights="pissa")
    with model.disable_adapter():
        assert not torch.allclose(logits(model), logits(load_untouched_base(plan)), atol=1e-4)


@pytest.mark.parametrize("values", [*PLAIN, *MOVED])
def test_what_is_saved_loads_with_plain_peft(values: dict[str, Any], tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    plan, model = build(tmp_path, tiny_model, **values)
    train(model)
    save_model(plan, model, load_tokenizer(plan))
    assert {path.name for path in plan.output_dir.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    dtype = torch.bfloat16 if values.get("bf16") else torch.float32
    by_hand = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=dtype), plan.output_dir)
    automatic = AutoPeftModelForCausalLM.from_pretrained(plan.output_dir, dtype=dtype)
    expected = logits(model)
    for loaded in (by_hand, automatic, plan.adapter.load(plan, plan.output_dir)):  # type: ignore[misc]
        torch.testing.assert_close(logits(loaded), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("values", PACKED)
def test_an_adapter_on_a_packed_base_loads_with_plain_peft(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from core.models.quantization import settle

    plan, model = build(tmp_path, tiny_model, **values)
    train(model)
    save_model(plan, model, load_tokenizer(plan))
    how: Any = (
        BitsAndBytesConfig(load_in_8bit=True)
        if "load_in_8bit" in values
        else BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    )
    base = AutoModelForCausalLM.from_pretrained(tiny_model, quantization_config=how, dtype=torch.float32)
    settle(base)
    by_hand = PeftModel.from_pretrained(base, plan.output_dir)
    for loaded in (by_hand, plan.adapter.load(plan, plan.output_dir)):  # type: ignore[misc]
        assert torch.equal(logits(loaded), logits(model))


@pytest.mark.parametrize("values", [*PLAIN, *MOVED])
def test_merging_gives_a_plain_model_and_leaves_the_adapter_alone(
    values: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import LlamaForCausalLM

    plan, model = build(tmp_path, tiny_model, **values)
    train(model)
    before = logits(model)
    merged = lora.merge(plan, model)
    assert type(merged) is LlamaForCausalLM
    # bfloat16 has 8 bits of precision, and the sum of weight and update is rounded to it
    atol = 3e-2 if values.get("bf16") else 1e-5
    torch.testing.assert_close(logits(merged), before, rtol=1e-5, atol=atol)
    assert torch.equal(logits(model), before)


@needs_bitsandbytes
def test_a_4_bit_base_is_unpacked_for_merging(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    plan, model = build(tmp_path, tiny_model, adapter="qlora")
    train(model)
    merged = lora.merge(plan, model)
    torch.testing.assert_close(logits(merged), logits(model), rtol=1e-5, atol=1e-5)
    merged.save_pretrained(tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_embeddings_of_added_tokens_train_and_are_saved(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM

    plan, model = build(tmp_path, tiny_model, **LORA, special_tokens={"eos_token": "<|end|>"}, tokens=["<think>"])
    assert "training the embeddings of 2 added tokens" in capsys.readouterr().out
    assert parameter_counts(model)[0] == 1792 + 2 * 32
    ids = torch.tensor([[5, 401, 6, 7, 400]])
    train(model, ids)
    tokenizer = load_tokenizer(plan)
    save_model(plan, model, tokenizer)
    loaded = AutoPeftModelForCausalLM.from_pretrained(plan.output_dir)
    torch.testing.assert_close(logits(loaded, ids), logits(model, ids), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits(lora.merge(plan, model), ids), logits(model, ids), rtol=1e-5, atol=1e-5)


def test_added_tokens_of_an_untied_model_train_in_both_embeddings(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from core.testing.tiny import make_tiny_tokenizer

    folder = tmp_path / "untied"
    make_tiny_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    _, model = build(tmp_path, folder, **LORA, lora_r=1, tokens=["<think>"])
    # rank 1 on two 16 x 16 layers, one row of 16 in each embedding
    assert parameter_counts(model)[0] == 2 * 32 + 2 * 16


def test_gradient_checkpointing_reaches_the_adapter(tiny_model: Path, tmp_path: Path) -> None:
    _, model = build(tmp_path, tiny_model, **LORA, gradient_checkpointing=True)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    losses = train(model)
    assert losses[-1] < losses[0]


def test_the_default_targets_are_named_when_a_model_lacks_them(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from core.testing.tiny import make_tiny_tokenizer

    folder = tmp_path / "gpt2"
    make_tiny_tokenizer(folder)
    GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=16, n_layer=1, n_head=2)).save_pretrained(folder)
    with pytest.raises(RecipeError) as caught:
        build(tmp_path, folder, **LORA)
    assert [problem.key for problem in caught.value.problems] == [("adapter",), ("adapter",)]
    assert "'q_proj' (the default of lora_target_modules)" in caught.value.problems[0].message
    assert "c_attn, c_fc, c_proj" in str(caught.value.problems[0].help)
    _, model = build(tmp_path, folder, **LORA, lora_target_linear=True)
    assert parameter_counts(model)[0] > 0


def test_each_unknown_target_is_an_error_with_a_suggestion(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        build(tmp_path, tiny_model, **LORA, lora_target_modules=["q_proj", "vproj", "nothing"])
    first, second = caught.value.problems
    assert first.key == ("lora_target_modules", 1)
    assert "did you mean 'v_proj'?" in str(first.help)
    assert "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj" in str(second.help)


def test_a_regular_expression_chooses_by_the_whole_name(tiny_model: Path, tmp_path: Path) -> None:
    _, model = build(
        tmp_path, tiny_model, **LORA, lora_target_modules=r"model.layers.[\d]+.(mlp|self_attn).(up|q)_proj"
    )
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == {"up_proj", "q_proj"}
    with pytest.raises(RecipeError, match="matches no layer"):
        build(tmp_path, tiny_model, **LORA, lora_target_modules="q_proj")


def test_linear_layers_and_listed_modules_are_joined(tiny_model: Path, tmp_path: Path) -> None:
    _, model = build(tmp_path, tiny_model, **LORA, lora_target_linear=True, lora_target_modules=["embed_tokens"])
    names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("embed_tokens" in name for name in names)
    assert any("down_proj" in name for name in names)


@pytest.mark.parametrize(
    ("values", "key", "message", "advice"),
    [
        ({"lora_modules_to_save": ["embed_token"]}, ("lora_modules_to_save", 0), "no module called", "'embed_tokens'"),
        (
            {"lora_target_parameters": ["up"], "lora_dropout": 0.0},
            ("lora_target_parameters", 0),
            "no parameter",
            "weight",
        ),
        ({"peft_layers_to_transform": [0, 9]}, ("peft_layers_to_transform",), "no layer 9: its 2 layers", "0 to 1"),
    ],
)
def test_a_name_that_peft_would_pass_over_in_silence_is_an_error(
    values: dict[str, Any], key: tuple[Any, ...], message: str, advice: str, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        build(tmp_path, tiny_model, **LORA, **values)
    assert [problem.key for problem in caught.value.problems] == [key]
    assert advice in str(caught.value.problems[0].help)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_target_modules": ["norm"]}, "not supported"),
        ({"peft_init_lora_weights": "orthogonal", "lora_r": 3}, "rank to be even"),
    ],
)
def test_what_peft_refuses_is_explained(values: dict[str, Any], message: str, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        build(tmp_path, tiny_model, **LORA, **values)


def test_only_the_chosen_layers_are_adapted(tiny_model: Path, tmp_path: Path) -> None:
    _, model = build(tmp_path, tiny_model, **LORA, peft_layers_to_transform=[1])
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(names) == 4
    assert all(".layers.1." in name for name in names)


@pytest.fixture
def earlier(tiny_model: Path, tmp_path: Path) -> tuple[Path, Any]:
    """(folder of a trained adapter, its logits)."""
    plan, model = build(tmp_path / "first", tiny_model, **LORA, lora_r=4)
    train(model)
    save_model(plan, model, load_tokenizer(plan))
    folder = shutil.copytree(plan.output_dir, tmp_path / "earlier")
    return folder, logits(model)


def test_training_goes_on_from_an_earlier_adapter(earlier: tuple[Path, Any], tiny_model: Path, tmp_path: Path) -> None:
    import torch

    _, expected = earlier
    plan, model = build(tmp_path, tiny_model, **LORA, lora_model_dir="earlier")
    assert torch.equal(logits(model), expected)
    assert parameter_counts(model)[0] == 1792 // 2
    assert lora.base_view(plan, model) is None
    losses = train(model)
    assert losses[-1] < losses[0]


def test_an_earlier_adapter_of_another_rank_is_not_reinterpreted(
    earlier: tuple[Path, Any], tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="lora_r is 16, but the adapter in lora_model_dir has 4") as caught:
        build(tmp_path, tiny_model, **LORA, lora_model_dir="earlier", lora_r=16)
    assert caught.value.problems[0].key == ("lora_r",)


def test_what_an_earlier_adapter_settles_is_said(
    earlier: tuple[Path, Any], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    build(
        tmp_path, tiny_model, **{**LORA, "lora_target_modules": ["v_proj"]}, lora_model_dir="earlier", lora_dropout=0.5
    )
    said = capsys.readouterr().out
    assert "warning: lora_dropout has no effect: the adapter in lora_model_dir has " in said
    assert "warning: lora_target_modules has no effect: the adapter in lora_model_dir has ['q_proj', 'v_proj']" in said
    assert said.count("warning: ") == 2


def test_a_folder_without_an_adapter_is_explained(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lora_model_dir .* cannot be loaded"):
        build(tmp_path, tiny_model, **LORA, lora_model_dir=str(tiny_model))


def test_layers_that_peft_refuses_are_told_with_those_there_are(tmp_path: Path) -> None:
    """Mamba's own code reads the weight of its last layer, past any adapter."""
    from transformers import MambaConfig, MambaForCausalLM

    make_tiny_tokenizer(tmp_path)
    config = MambaConfig(vocab_size=400, hidden_size=32, state_size=8, num_hidden_layers=1)
    MambaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="out_proj") as raised:
        build(tmp_path, tmp_path, **LORA, lora_target_linear=True)
    assert "lora_target_modules" in (raised.value.help or "")
    assert "dt_proj, in_proj, out_proj, x_proj" in (raised.value.help or "")
