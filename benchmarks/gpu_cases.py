"""The cases of `gpu.py`: Llama shapes made of random weights on the device, rows, and what a step of them computes."""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

MEAN_DOCUMENT = 600  # tokens; the last quarter of each document is trained
TOY_LENGTH = 64
RANK, ALPHA = 16, 32


@dataclass(frozen=True)
class Shape:
    """A Llama shape."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int = 128256
    tied: bool = False

    def config(self) -> dict[str, Any]:
        """What a `config.json` of the shape says."""
        return {
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "bos_token_id": 0,
            "eos_token_id": 1,
        }


SHAPES = {
    "1B": Shape(2048, 8192, 16, 32, 8, tied=True),
    "8B": Shape(4096, 14336, 32, 32, 8),
    "70B": Shape(8192, 28672, 80, 64, 8),
    "toy": Shape(32, 64, 2, 4, 2, vocabulary=256),
}


@dataclass(frozen=True)
class Case:
    """What is trained: approach `lora`, `qlora` or `full`; length: tokens of a packed bin. goal: in words."""

    name: str
    shape: str
    approach: str
    length: int
    checkpointing: bool = False
    goal: str = ""
    peer: bool = False


CASES = (
    Case("8B LoRA 4k", "8B", "lora", 4096, goal="≥ 60 % of the matrix-product rate; ≥ 1.3 x TRL", peer=True),
    Case("70B QLoRA 2k", "70B", "qlora", 2048, checkpointing=True, goal="peak ≤ 46 GiB"),
    Case("8B QLoRA 4k", "8B", "qlora", 4096, goal="≥ 1.3 x TRL", peer=True),
    Case("1B full 4k", "1B", "full", 4096, goal="≥ 1.3 x TRL", peer=True),
    Case("8B LoRA 8k", "8B", "lora", 8192, checkpointing=True),
    Case("8B QLoRA 8k", "8B", "qlora", 8192, checkpointing=True),
    Case("8B LoRA 2k", "8B", "lora", 2048),
    Case("8B QLoRA 2k", "8B", "qlora", 2048),
)


def build(shape: Shape, case: Case, device: Any, dtype: Any, attention: str = "sdpa") -> Any:
    """A model of random weights, made layer by layer on the device; a 4-bit one never exists unquantised."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**shape.config())
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(config, dtype=dtype, attn_implementation=attention)
    with torch.device(device):
        rotary = type(model.model.rotary_emb)(config)  # its buffers are computed, not drawn
    packed = case.approach == "qlora"
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and packed and name != "lm_head":
                setattr(parent, name, _four_bit(child, device, dtype))
            else:
                for own, parameter in list(child.named_parameters(recurse=False)):
                    setattr(child, own, _drawn(parameter, device))
    model.model.rotary_emb = rotary
    model.tie_weights()
    model.config.use_cache = False
    model.is_loaded_in_4bit = packed  # as a loaded one says it: peft chooses its layers by that
    if case.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if case.approach == "full":
        return model.train()
    from peft import LoraConfig, get_peft_model

    model.requires_grad_(False)
    if case.checkpointing:
        model.enable_input_require_grads()
    lora = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
    with torch.device(device):  # drawing 200 million numbers on the processor takes longer than a step
        return get_peft_model(model, lora).train()


def _drawn(parameter: Any, device: Any) -> Any:
    """Drawn in place: a copy of the largest tensors would be there beside them."""
    import torch

    made = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
    return torch.nn.Parameter(made.fill_(1.0) if made.dim() == 1 else made.normal_(0, 0.02))


def _four_bit(layer: Any, device: Any, dtype: Any) -> Any:
    import bitsandbytes as bnb
    import torch

    packed = bnb.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
    )
    drawn = torch.empty(layer.out_features, layer.in_features, dtype=dtype, device=device).normal_(0, 0.02)
    packed.weight = bnb.nn.Params4bit(drawn, requires_grad=False, quant_type="nf4", compress_statistics=True).to(device)
    return packed


def documents(length: int, vocabulary: int, seed: int) -> list[dict[str, list[int]]]:
    """Rows of unequal length that together have `length` tokens."""
    draw = random.Random(seed)
    rows, left = [], length
    mean = min(MEAN_DOCUMENT, max(8, length // 4))
    while left:
        size = min(left, draw.randint(mean // 2, mean * 3 // 2))
        size = left if left - size < 4 else size
        ids = [draw.randrange(vocabulary) for _ in range(size)]
        rows.append({"input_ids": ids, "labels": [-100] * (size * 3 // 4) + ids[size * 3 // 4 :]})
        left -= size
    return rows


def operations(shape: Shape, approach: str, tokens: int, pairs: int, targets: int) -> float:
    """Operations of a step; what checkpointing computes again is not counted (see README.md)."""
    head_width = shape.hidden // shape.heads
    weights = shape.layers * shape.hidden * (
        2 * shape.hidden + 2 * head_width * shape.key_value_heads + 3 * shape.inner
    )  # fmt: skip
    per_weight = 6 if approach == "full" else 4
    head = targets * shape.vocabulary * shape.hidden * per_weight
    return float(tokens * per_weight * weights + head + 12 * pairs * shape.hidden * shape.layers)


def planned(shape: Shape, case: Case, length: int, folder: Path, memory: float) -> dict[str, float]:
    """Bytes of tensors that the planner expects at the highest moment, and by part, on a GPU of `memory` bytes.

    As `tunesmith plan` reckons it from a config.json: no weights, no tokenizer, bins of rows as long as they may be.
    """
    from core.host import load_host
    from core.models import quiet
    from core.plan import make_plan
    from core.planner.approaches import Approach
    from core.planner.device import CUDA_CONTEXT, GIB, gpu_of
    from core.planner.estimate import estimate
    from core.planner.sample import made_up
    from core.recipe import load_recipe

    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 500000.0, **shape.config()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "rows.jsonl").write_text('{"text": "made up"}\n', encoding="utf-8")
    recipe: dict[str, Any] = {
        "base_model": str(folder),
        "datasets": [{"path": str(folder / "rows.jsonl"), "type": "completion"}],
        "output_dir": str(folder / "out"),
        "sequence_len": length,
        "sample_packing": True,
        "share_prefixes": False,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "gradient_checkpointing": case.checkpointing,
        "bf16": True,
        "max_steps": 8,
    }
    if case.approach != "full":
        recipe |= {"adapter": case.approach, "lora_r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0}
        recipe["lora_target_linear"] = True
    if case.approach == "qlora":
        recipe["load_in_4bit"] = True
    file = folder / "recipe.yml"
    file.write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    plan = replace(make_plan(load_recipe(file), load_host(), overwrite=True), shape_tokens=0)
    with quiet():
        own = estimate(Approach(case.approach, plan, True), made_up(plan, ""), gpu_of(memory / GIB))
    parts = {name: size for name, size in own.parts.items() if size and name != "process"}
    return {"peak": own.peak - CUDA_CONTEXT, **parts}
