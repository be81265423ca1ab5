"""Rows with nested common prefixes, and tiny random models of several kinds, for the packing tests."""

from __future__ import annotations

import random
from typing import Any

WORDS = 61
WINDOW = 9  # shorter than most rows of `ragged_rows`


def ragged_rows(seed: int, count: int = 9) -> list[dict[str, list[int]]]:
    """Rows whose prompts nest (whole instructions, parts of them, duplicates), with answers of 1 to 6 tokens, some in
    two stretches, some followed by untrained tokens; one row is untrained."""
    draw = random.Random(seed)

    def words(low: int, high: int) -> list[int]:
        return [draw.randrange(1, WORDS) for _ in range(draw.randint(low, high))]

    trunk = words(14, 18)
    branches = [trunk + words(3, 8), trunk[:7] + words(6, 9), words(10, 12)]
    rows = []
    for k in range(count):
        prompt = draw.choice([trunk, *branches])[: draw.choice([3, 9, 99, 99])] + words(0, 4)
        ids, labels = list(prompt), [-100] * len(prompt)
        for _ in range(draw.choice([1, 1, 2])):
            answer, after = words(1, 6), words(0, 3)
            ids += answer + after
            labels += answer + [-100] * len(after)
        rows.append({"input_ids": ids, "labels": labels})
        if k == 3:
            rows.append(dict(rows[-1]))  # the same row twice trains twice
    rows.append({"input_ids": trunk, "labels": [-100] * len(trunk)})
    rows.append({"input_ids": words(5, 5), "labels": words(5, 5)})  # trained from the start, with labels of their own
    return rows


def make_model(kind: str, attention: str, dtype: Any) -> Any:
    """A random model of two to three layers; sliding windows are `WINDOW` tokens."""
    import torch
    import transformers as hf

    shape = {
        "vocab_size": WORDS,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
    }
    no_dropout = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
    grouped = {**shape, "num_key_value_heads": 2}
    gemma = {**grouped, "head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": WINDOW}
    layers = {"layer_types": ["sliding_attention", "full_attention"]}
    config = {
        "llama": lambda: hf.LlamaConfig(**grouped, tie_word_embeddings=True),
        "qwen2": lambda: hf.Qwen2Config(**grouped),
        "qwen2-windowed": lambda: hf.Qwen2Config(
            **grouped, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
        ),
        "mistral": lambda: hf.MistralConfig(**grouped, sliding_window=WINDOW),
        "gemma2": lambda: hf.Gemma2Config(**gemma, **layers, final_logit_softcapping=5.0, attn_logit_softcapping=3.0),
        "gemma3": lambda: hf.Gemma3TextConfig(**gemma, **layers),
        "gpt_neox": lambda: hf.GPTNeoXConfig(**shape, rotary_pct=0.5),
        "granite": lambda: hf.GraniteConfig(**grouped, logits_scaling=2.0),
        "cohere": lambda: hf.CohereConfig(**grouped, logit_scale=0.25),
        "hyperclovax": lambda: hf.HyperCLOVAXConfig(**grouped, logits_scaling=3.0),
        "gpt2": lambda: hf.GPT2Config(vocab_size=WORDS, n_embd=16, n_layer=2, n_head=2, **no_dropout),
        "gpt_oss": lambda: hf.GptOssConfig(
            **grouped, head_dim=4, sliding_window=WINDOW, **layers, num_local_experts=2, num_experts_per_tok=1
        ),
        "qwen3_next": lambda: hf.Qwen3NextConfig(**grouped, layer_types=["linear_attention", "full_attention"]),
        "recurrent_gemma": lambda: hf.RecurrentGemmaConfig(
            **{**grouped, "num_hidden_layers": 3}, attention_window_size=WINDOW, lru_width=16
        ),
        "llama4": lambda: hf.Llama4TextConfig(
            **grouped, head_dim=4, attention_chunk_size=8, num_local_experts=2, intermediate_size_mlp=24
        ),
        "mamba": lambda: hf.MambaConfig(vocab_size=WORDS, hidden_size=16, num_hidden_layers=2),
        "rwkv": lambda: hf.RwkvConfig(vocab_size=WORDS, hidden_size=16, num_hidden_layers=2),
        "bloom": lambda: hf.BloomConfig(vocab_size=WORDS, hidden_size=16, n_layer=2, n_head=2),
    }[kind]()
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = hf.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        for parameter in model.parameters():  # large weights, so that attention to a wrong token is felt
            torch.nn.init.normal_(parameter, std=0.35)
    return model.to(dtype).train()


def plain_loss(model: Any, rows: list[dict[str, list[int]]]) -> Any:
    """The loss of rows padded on the right, by all logits: the reference."""
    import torch

    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    labels = torch.full((len(rows), length), -100)
    mask = torch.zeros(len(rows), length, dtype=torch.int64)
    for k, row in enumerate(rows):
        n = len(row["input_ids"])
        ids[k, :n], labels[k, :n], mask[k, :n] = torch.tensor(row["input_ids"]), torch.tensor(row["labels"]), 1
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].flatten(0, 1)
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return torch.nn.functional.cross_entropy(wide, labels[:, 1:].flatten(), ignore_index=-100)


def mean_loss(model: Any, batches: list[dict[str, Any]], *, chunk: int | None = None) -> Any:
    """The loss of collated bins: by the logits of their targets, or in chunks of that many."""
    import torch

    from core.packing import logit_transform, target_hidden, target_logits, trained_token_loss

    scale, softcap = logit_transform(model.config)
    total, count = 0.0, 0
    for batch in batches:
        if chunk:
            hidden, head = target_hidden(model, batch), model.get_output_embeddings()
            total += trained_token_loss(hidden, head, batch["target_ids"], scale=scale, softcap=softcap, chunk=chunk)
        else:
            logits = target_logits(model, batch)
            wide = logits if logits.dtype == torch.float64 else logits.float()
            total += torch.nn.functional.cross_entropy(wide, batch["target_ids"], reduction="sum")
        count += len(batch["target_ids"])
    return total / count


def believing(kind: str, attention: str, dtype: Any) -> Any:
    """A model that believes to have an attention which this machine may not have."""
    model = make_model(kind, "eager", dtype)
    model.config._attn_implementation = attention
    return model


def reference(model: Any, rows: list[dict[str, list[int]]]) -> tuple[Any, dict[str, Any]]:
    """Loss and gradients of the plain padded computation with eager attention."""
    own = model.config._attn_implementation
    model.config._attn_implementation = "eager"
    try:
        loss = plain_loss(model, rows)
        return loss, gradients(model, loss)
    finally:
        model.config._attn_implementation = own


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    """Gradients of `loss` by parameter name; clears them."""
    model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def largest_difference(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest ||difference|| / ||reference|| of any tensor; the floor keeps tensors whose gradient is nil in exact
    arithmetic (biases of keys) from being compared with their own rounding."""
    assert found.keys() == expected.keys()
    total = sum(float(g.norm()) ** 2 for g in expected.values()) ** 0.5
    floor = 1e-4 * total
    return max(float((found[k] - expected[k]).norm()) / max(float(expected[k].norm()), floor) for k in expected)
