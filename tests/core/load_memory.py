"""Loads a model once for each approach and prints, in JSON, how much memory that took: a process of its own for a test.

usage: load_memory.py FOLDER
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch

from core.host import load_host
from core.memory import PeakMemory, give_back
from core.plan import make_plan
from core.processes import start_processes
from core.recipe import load_recipe
from core.testing.tiny import make_tiny_tokenizer

# [hidden, inner, layers]: the small one is loaded first, so that what the libraries take once is not counted
SHAPES = {"small": (64, 128, 1), "large": (1024, 2816, 6)}
LORA = {"lora_r": 8, "lora_target_linear": True, "bf16": True}
APPROACHES: dict[str, dict[str, Any]] = {
    "full": {"bf16": False},
    "lora": {"adapter": "lora", **LORA},
    "qlora": {"adapter": "qlora", "load_in_4bit": True, **LORA},
}


def main() -> None:
    folder = Path(sys.argv[1])
    for name, shape in SHAPES.items():
        make_model(folder / name, *shape)
    figures = {}
    for approach, keys in APPROACHES.items():
        for name in SHAPES:
            figures[approach] = load(folder, folder / name, keys)
    print(json.dumps(figures))


def make_model(folder: Path, hidden: int, inner: int, layers: int) -> None:
    """A Llama of random weights in float32, in several files."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    make_tiny_tokenizer(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder, max_shard_size="60MB")


def load(folder: Path, model_folder: Path, keys: dict[str, Any]) -> dict[str, float]:
    """Bytes: of the weights held, of those in the files, the highest above the start, and what is left when all else is
    given back."""
    rows = folder / "rows.jsonl"
    rows.write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    recipe = folder / "recipe.json"
    values = {"base_model": str(model_folder), "datasets": [{"path": str(rows), "type": "alpaca"}]}
    recipe.write_text(json.dumps({**values, "output_dir": str(folder / "out"), **keys}), encoding="utf-8")
    plan = make_plan(load_recipe(recipe), load_host(), overwrite=True)
    start_processes(plan)
    give_back()
    before = resident()
    with PeakMemory() as memory:
        model = plan.adapter.build(plan)
    give_back()
    stored = sum(file.stat().st_size for file in model_folder.glob("*.safetensors"))
    held = sum({p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}.values())
    figures = {"weights": held, "files": stored, "peak": memory.peak_bytes - before, "kept": resident() - before}
    figures["shards"] = len(list(model_folder.glob("*.safetensors")))
    del model
    gc.collect()
    return figures


def resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


if __name__ == "__main__":
    main()
