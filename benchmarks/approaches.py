"""Full, LoRA and QLoRA on one model, one data set and one recipe: what each trains and what it costs.

    python benchmarks/approaches.py [--quick | --steps N] [--json FILE]

Runs the quickstart's recipe three times, one process after the other, and prints the table of docs/approaches.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).parent.parent / "recipes" / "quickstart.yml"
SHARED = ["num_epochs=1", "evaluation.compare=[tuned]", "evaluation.latency_sample=1", "test_datasets=null"]
# rates: the usual starting points for each approach at this size; a full run needs a smaller one than an adapter
APPROACHES = {
    "full": ["adapter=null", "learning_rate=1e-4"],
    "lora": ["adapter=lora", "learning_rate=1e-3"],
    "qlora": ["adapter=qlora", "load_in_4bit=true", "learning_rate=1e-3"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="4 steps and 4 items each: does it run?")
    parser.add_argument("--steps", type=int, help="optimizer steps of each run (default: one pass over the data)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures = {}
    for name, settings in APPROACHES.items():
        with tempfile.TemporaryDirectory() as folder:
            limits = [f"max_steps={arguments.steps}"] if arguments.steps else []
            limits = ["max_steps=4", "evaluation.limit=4"] if arguments.quick else limits
            figures[name] = run([*SHARED, *settings, *limits, f"output_dir={folder}/run"], Path(folder) / "run")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))


def run(settings: list[str], output_dir: Path) -> dict[str, Any]:
    """One run in a process of its own; the figures of its run.json."""
    command = [sys.executable, "-m", "core", str(RECIPE)]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONSAFEPATH": "1"})
    values = json.loads((output_dir / "run.json").read_text(encoding="utf-8"))
    weights = [*output_dir.glob("model*.safetensors"), *output_dir.glob("adapter_model.safetensors")]
    return {
        "parameters_trained": values["parameters"]["trained"],
        "parameters_total": values["parameters"]["total"],
        "peak_bytes": values["memory"]["peak_bytes"],
        "saved_bytes": sum(file.stat().st_size for file in weights),
        "seconds_per_step": values["train"]["seconds"] / values["train"]["steps"],
        "steps": values["train"]["steps"],
        "final_loss": values["train"]["losses"][-1],
        "accuracy": values["evaluation"]["tuned"]["accuracy"]["value"],
        "format_compliance": values["evaluation"]["tuned"]["format_compliance"]["value"],
        "device": values["environment"].get("device_name"),
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as Markdown."""
    lines = [
        "| approach | parameters trained | peak memory | saved | s per step | accuracy | format compliance |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in figures.items():
        share = 100 * row["parameters_trained"] / row["parameters_total"]
        lines.append(
            f"| {name} | {row['parameters_trained']:,} of {row['parameters_total']:,} ({share:.2f} %) "
            f"| {row['peak_bytes'] / 2**20:,.0f} MiB | {row['saved_bytes'] / 2**20:,.0f} MiB "
            f"| {row['seconds_per_step']:.2f} | {100 * row['accuracy']:.0f} % "
            f"| {100 * row['format_compliance']:.0f} % |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
