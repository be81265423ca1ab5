"""Plans and data made by hand, for tests of what comes after the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.recipe import Recipe
from core.types import Adapter, Data, EvaluationPlan, Plan, Trainer

DEFAULTS: dict[str, Any] = {
    "adapter": "full",
    "trainer": "sft",
    "seed": 42,
    "sequence_len": 2048,
    "bf16": "auto",
    "micro_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "num_epochs": 1,
    "learning_rate": 1e-3,
    "optimizer": "adamw_torch_fused",
    "lr_scheduler": "cosine",
    "warmup_steps": 100,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "logging_steps": 10,
    "save_steps": 500,
    "val_set_size": 0.0,
}


def make_test_plan(tmp_path: Path, model_folder: Path, **recipe_values: Any) -> Plan:
    """A plan that trains the model in `model_folder` into `tmp_path / "out"` (or `output_dir`), in float32.

    `recipe_values` are what the recipe sets; `adapter="lora"` wraps the model with PEFT, anything else trains it all.
    `loggers` and `resume_from` go into the plan.
    """
    fields = {
        name: recipe_values.pop(name) for name in ("loggers", "resume_from", "overwrite") if name in recipe_values
    }
    output_dir = Path(recipe_values.setdefault("output_dir", str(tmp_path / "out"))).absolute()
    values = {"base_model": str(model_folder), "datasets": [], **recipe_values}
    return Plan(
        recipe=Recipe(path=tmp_path / "recipe.yml", text="", values=values, defaults=DEFAULTS),
        base_model=str(model_folder),
        output_dir=output_dir,
        adapter=Adapter(values.get("adapter", "full"), _build),
        trainer=Trainer("sft", _prepare),
        datasets=(),
        validation=(),
        evaluation=EvaluationPlan(),
        **fields,
    )


def make_test_data(
    rows: int = 24, *, val: int = 0, vocabulary: int = 300, pad_token_id: int = 0, seed: int = 0
) -> Data:
    """Random token rows of 4 to 16 tokens, the last third of each trained; `place` is `data.jsonl:<line>`."""
    import numpy
    from datasets import Dataset

    generator = numpy.random.default_rng(seed)
    records: dict[str, list[Any]] = {"input_ids": [], "labels": [], "place": []}
    for line in range(rows + val):
        size = int(generator.integers(4, 17))
        ids = generator.integers(3, vocabulary, size).tolist()
        first = size - max(1, size // 3)
        records["input_ids"].append(ids)
        records["labels"].append([-100] * first + ids[first:])
        records["place"].append(f"data.jsonl:{line + 1}")
    whole = Dataset.from_dict(records)
    validation = whole.select(range(rows, rows + val)) if val else None
    return Data(train=whole.select(range(rows)), val=validation, test=(), stats={}, pad_token_id=pad_token_id)


def _build(plan: Plan) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(plan.recipe["seed"])
    model = AutoModelForCausalLM.from_pretrained(plan.base_model, dtype=torch.float32)
    if plan.recipe["adapter"] != "lora":
        return model
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4,
        lora_alpha=8,
        lora_dropout=plan.recipe["lora_dropout"] or 0.0,
        target_modules=["q_proj", "v_proj"],
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def _prepare(plan: Plan, model: Any, tokenizer: Any, data: Data) -> Any:
    from plugins.trainers.sft import prepare

    return prepare(plan, model, tokenizer, data)
