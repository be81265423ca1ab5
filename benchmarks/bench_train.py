"""Training speed and memory beside TRL's SFTTrainer, in one run: same model, data, adapter, seed and threads.

    python benchmarks/bench_train.py [--quick] [--cases abcd] [--threads 1] [--dtype both|bf16|fp32] [--json FILE]

Both sides are processes of their own that train in turns, step by step, so that whatever else the machine does falls on
both alike. Needs `pip install -c constraints.txt '.[bench]'`. With --json, finished cases are kept in FILE and left out
when the command is given again. See README.md beside this file for what is measured, and how.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from train_cases import CASES, ROOT, SAMPLES_PER_STEP, Case, write_case

SIDE = Path(__file__).resolve().parent / "train_side.py"
OVERHEAD_CASE, OVERHEAD_STEPS = "b", (40, 12)  # of the full and of the quick run


class Side:
    """A training process, and what it told of itself."""

    def __init__(self, name: str, recipe: Path, threads: int) -> None:
        pinned = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TUNESMITH_NUM_THREADS")}
        env = {
            **os.environ,
            **pinned,
            "BENCH_STARTED": str(time.time()),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
        }
        self.name = name
        self.log = (recipe.parent / f"{name}.log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, str(SIDE), name, str(recipe)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True, env=env,
        )  # fmt: skip
        self.steps: list[dict[str, Any]] = []
        self.end: dict[str, Any] | None = None

    def advance(self) -> None:
        """Let it train one more step, the first one from its start; or finish."""
        assert self.process.stdin
        assert self.process.stdout
        if self.steps:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise SystemExit(f"{self.name} ended early, see {self.log.name}:\n{_tail(Path(self.log.name))}")
        event = json.loads(line)
        if event["event"] == "step":
            self.steps.append(event)
        else:
            self.end = event
            self.process.stdin.close()
            self.process.wait()

    def figures(self) -> dict[str, Any]:
        """Rates from all steps but the first, which has warming up in it."""
        assert self.end is not None
        later = self.steps[1:]
        tokens = self.steps[-1]["tokens"] - self.steps[0]["tokens"]
        seconds, cpu = (sum(step[key] for step in later) for key in ("seconds", "cpu"))
        figures = {
            "steps": len(self.steps),
            "trained_tokens": self.steps[-1]["tokens"],
            "tokens_per_second": tokens / seconds,
            "tokens_per_cpu_second": tokens / cpu,
            "step_cpu_seconds": median(step["cpu"] for step in later),
            "peak_mib_above_model": self.end["peak_bytes"] / 2**20,
            "seconds_to_first_step": self.steps[0]["since_start"],
            "val_loss": self.end["val_loss"],
            "timed": later,
        }
        if "matrix_product_rate" in self.end:
            first, last = self.steps[0], self.steps[-1]
            computed = {what: last[f"computed_{what}s"] - first[f"computed_{what}s"] for what in ("token", "pair")}
            operations = sum(self.end[f"per_{what}"] * count for what, count in {**computed, "target": tokens}.items())
            figures["gflops"] = operations / cpu / 1e9
            figures["matrix_product_gflops"] = self.end["matrix_product_rate"] / 1e9
            figures["computed_tokens"] = last["computed_tokens"]
        return figures


def race(names: list[str], recipe: Path, threads: int) -> dict[str, dict[str, Any]]:
    """Start the sides one after the other, then let them train in turns; their figures by name."""
    sides: list[Side] = []
    try:
        for name in names:
            sides.append(Side(name, recipe, threads))
            sides[-1].advance()
        while open_sides := [side for side in sides if side.end is None]:
            for side in open_sides:
                side.advance()
            sides.reverse()  # who goes first has the colder caches
        return {name: side.figures() for name in names for side in sides if side.name == name}
    finally:
        for side in sides:
            if side.process.poll() is None:
                side.process.kill()


def compare(case: Case, dtype: str, *, quick: bool, threads: int, folder: Path) -> dict[str, Any] | None:
    """All sides of one case in one number format."""
    recipe = write_case(case, folder, case.steps[quick], bf16=dtype == "bf16")
    if recipe is None:
        return None
    peers = ["trl"] if quick else ["trl", "trl-unpacked"]
    found = race(["ours", *peers], recipe, threads)
    ours, peer = found["ours"], found["trl"]
    return {
        "title": case.title,
        "dtype": dtype,
        "samples_per_step": {
            name: SAMPLES_PER_STEP * case.steps[quick] / side["steps"] for name, side in found.items()
        },
        "ours": ours,
        "peer": peer,
        "peer_unpacked": found.get("trl-unpacked"),
        "ratio": ours["tokens_per_second"] / peer["tokens_per_second"],
        "ratio_cpu": ours["tokens_per_cpu_second"] / peer["tokens_per_cpu_second"],
        "ratio_memory": ours["peak_mib_above_model"] / peer["peak_mib_above_model"],
        "val_loss_difference": ours["val_loss"] / peer["val_loss"] - 1,
        "goal": case.goal,
        "of_matrix_product": ours["gflops"] / ours["matrix_product_gflops"],
    }


def overhead(dtype: str, *, quick: bool, threads: int, folder: Path) -> dict[str, Any]:
    """Our trainer beside a bare loop of the same arithmetic on the same rows: the median over the steps' ratios.

    Each pair of steps ran one after the other, so what slows the machine for longer than that falls out of the ratio.
    """
    recipe = write_case(CASES[OVERHEAD_CASE], folder, OVERHEAD_STEPS[quick], bf16=dtype == "bf16")
    assert recipe is not None
    ours, loop = race(["ours", "loop"], recipe, threads).values()
    assert [step["tokens"] for step in ours["timed"]] == [step["tokens"] for step in loop["timed"]]
    found: dict[str, Any] = {"ours": ours, "peer": loop, "dtype": dtype}
    for key, clock in (("", "cpu"), ("_wall", "seconds")):
        ratios = sorted(a[clock] / b[clock] for a, b in zip(ours["timed"], loop["timed"], strict=True))
        low, high = median_interval(len(ratios))
        found |= {
            f"ratio{key}": median(ratios),
            f"overhead{key}": median(ratios) - 1,
            f"interval{key}": [ratios[low] - 1, ratios[high] - 1],
        }
    return found


def median_interval(count: int) -> tuple[int, int]:
    """Which of `count` sorted values bound the median of what they were drawn from, with 95 % confidence."""
    below, low = 0.0, 0
    while (below := below + comb(count, low) / 2**count) <= 0.025:
        low += 1
    return max(0, low - 1), count - max(1, low)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    lines = [
        "| case | trained tokens/s: ours, TRL packed, TRL not | ratio (CPU time) | goal | peak memory above the model "
        "| to first step | validation loss | of the matrix-product rate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results["cases"].items():
        if "overhead" in row:
            low, high = (f"{100 * bound:+.1f}" for bound in row["interval"])
            text = f"overhead over a bare loop: {100 * row['overhead']:.1f} % ({low} to {high} %) of CPU time"
            lines.append(f"| {name} | {text}, {100 * row['overhead_wall']:.1f} % of wall time | | ≤ 3 % | | | | |")
            continue
        ours, peer, apart = row["ours"], row["peer"], row["peer_unpacked"]
        unpacked = f"{apart['tokens_per_second']:.0f}" if apart else "–"
        lines.append(
            f"| {name} {row['title']} | {ours['tokens_per_second']:.0f}, {peer['tokens_per_second']:.0f}, {unpacked} "
            f"| {row['ratio']:.2f} ({row['ratio_cpu']:.2f}) | {row['goal']} "
            f"| {ours['peak_mib_above_model']:.0f} of {peer['peak_mib_above_model']:.0f} MiB "
            f"({row['ratio_memory']:.2f}) | {ours['seconds_to_first_step']:.0f}, {peer['seconds_to_first_step']:.0f} s "
            f"| {ours['val_loss']:.4f}, {peer['val_loss']:.4f} ({100 * row['val_loss_difference']:+.2f} %) "
            f"| {100 * row['of_matrix_product']:.0f} % of {ours['matrix_product_gflops']:.0f} GFLOP/s |"
        )
    return "\n".join([*lines, *faster_formats(results)])


def faster_formats(results: dict[str, Any]) -> list[str]:
    """Rows of the table for cases run in both number formats: each side in the one that is the faster for it.

    By CPU time, since the two formats were not run in turns.
    """
    rows = []
    for letter, case in CASES.items():
        both = [results["cases"].get(f"{letter} {dtype}") for dtype in ("bf16", "fp32")]
        if None not in both:
            ours, peer = (max(row[side]["tokens_per_cpu_second"] for row in both) for side in ("ours", "peer"))
            rows.append(
                f"| {letter}, each in its faster format, per CPU second | {ours:.0f}, {peer:.0f} | {ours / peer:.2f} "
                f"| {case.goal} | | | | |"
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer steps, TRL packed only")
    parser.add_argument("--cases", default="abcd", help="letters of the cases, and o for the overhead (abcdo)")
    parser.add_argument("--threads", type=int, default=1, help="threads of every process")
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "fp32", "both"), help="of both sides")
    parser.add_argument("--json", type=Path, help="write the figures to this file; finished cases in it are kept")
    arguments = parser.parse_args()
    results: dict[str, Any] = {"setting": {}, "cases": {}}
    if arguments.json and arguments.json.exists():
        results = json.loads(arguments.json.read_text(encoding="utf-8"))
    results["setting"] = {"quick": arguments.quick, "threads": arguments.threads, **_machine()}
    for dtype in ("bf16", "fp32") if arguments.dtype == "both" else (arguments.dtype,):
        for letter in arguments.cases:
            name = "overhead" if letter == "o" else letter
            name = f"{name} {dtype}"
            if name in results["cases"]:
                continue
            with tempfile.TemporaryDirectory() as scratch:
                options: dict[str, Any] = {"quick": arguments.quick, "threads": arguments.threads}
                options["folder"] = Path(scratch)
                found = overhead(dtype, **options) if letter == "o" else compare(CASES[letter], dtype, **options)
            if found is None:
                print(f"case {name} left out: its data is not at hand", flush=True)
                continue
            results["cases"][name] = found
            print(table({"cases": {name: found}}).splitlines()[-1], flush=True)
            if arguments.json:
                partial = arguments.json.with_name(f".partial-{arguments.json.name}")
                partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                os.replace(partial, arguments.json)
    print(table(results))


def _machine() -> dict[str, Any]:
    from importlib.metadata import version

    models = [line for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    packages = ("torch", "transformers", "peft", "accelerate", "trl")
    return {
        "processor": models[0].split(":", 1)[1].strip() if models else platform.processor(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in packages},
    }


def _tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


if __name__ == "__main__":
    main()
