"""Training speed and memory on one GPU, with random weights made on the device: no network, no files, ten minutes.

    python benchmarks/gpu.py --json benchmarks/gpu.json [--cases NAME,NAME] [--minutes 10] [--attention sdpa]

Wheels it wants, beside this project's own: torch built for CUDA 12.6 or newer, bitsandbytes 0.48 or newer (the QLoRA
cases), and, for what they are compared with, trl 1.16 and liger-kernel 0.8, of which ours has the rotary embedding, the
norms and the gated activation as well (`--no-liger`: neither side has). flash-attn is used where it is installed,
torch's own attention elsewhere; the first case is measured with flex attention, and without Liger's kernels, too: the
planner knows nothing of what they save. The first line printed says which wheels are there. Full tuning rounds updates
of weights in bfloat16 stochastically; TRL's is plain AdamW.

Written for one H100 with 80 GB. Every side of every case is a process of its own, so that one that runs out of memory
or time takes no other along, and FILE is written after each: cases that are measured stay in it, and are not run again
(delete it to begin anew). Without a GPU every case runs at toy size, to show that the script works, and each figure
says "not measured". One GPU proves nothing about several.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from gpu_cases import CASES, SHAPES, Case, planned

SIDE = Path(__file__).resolve().parent / "gpu_side.py"
NOT_MEASURED = "not measured"
SECONDS_A_SIDE = 200  # after which one is given up
FLASH, FLEX, MASKED = "flash_attention_2", "flex_attention", "sdpa"
ATTENTIONS = (MASKED, FLEX, FLASH, "flash_attention_3")
GIB = 2**30


@dataclass(frozen=True)
class Job:
    """A case with the attention it is measured with, whether TRL is, too, and whether Liger's kernels may take part."""

    name: str
    case: Case
    attention: str
    peer: bool
    liger: bool = True


def jobs(cases: Sequence[Case], attention: str | None, about: Mapping[str, Any], *, liger: bool = True) -> list[Job]:
    """What is run, in order: the first case with flex attention and without Liger as well, unless told otherwise."""
    versions = about["versions"]
    chosen = attention or (FLASH if about["memory"] and versions["flash-attn"] else MASKED)
    made = []
    for case in cases:
        made.append(Job(case.name, case, chosen, case.peer and bool(versions["trl"]), liger))
        if case is CASES[0] and about["memory"]:
            if not attention and versions["triton"]:
                made.append(Job(f"{case.name}, {FLEX}", case, FLEX, False, liger))
            if liger and versions["liger-kernel"]:
                made.append(Job(f"{case.name}, without Liger", case, chosen, False, False))
    return made


def apart(side: str, limit: float, *told: str) -> dict[str, Any]:
    """What `gpu_side.py` finds within `limit` seconds; {"failed": why} where it finds nothing."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found.json"
        command = [sys.executable, str(SIDE), side, str(file), *told]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible, "TOKENIZERS_PARALLELISM": "false"}
        try:
            # what they print goes to stderr, so that the table can be had by itself
            ended = subprocess.run(command, env=environment, stdout=sys.stderr, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"given up after {limit:.0f} s"}
        if not file.exists():
            return {"failed": f"ended with code {ended.returncode}"}
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def measured(job: Job, about: Mapping[str, Any], until: float, *, steps: int) -> dict[str, Any]:
    """The figures of a job. until: the moment, on the monotonic clock, at which nothing more is begun."""
    case = job.case
    if case.approach == "qlora" and not about["versions"]["bitsandbytes"]:
        return row_of(job, {"failed": "bitsandbytes is not installed"}, {})
    sides: dict[str, dict[str, Any]] = {"ours": {}, "trl": {}}
    for side in ("ours", "trl") if job.peer else ("ours",):
        left = until - time.monotonic()
        if left <= 0:
            sides[side] = {"failed": "no time left"}
            continue
        attention = job.attention if side == "ours" or job.attention != FLEX else MASKED
        told = [case.name, "--attention", attention, "--steps", str(steps), *([] if job.liger else ["--no-liger"])]
        sides[side] = apart(side, min(SECONDS_A_SIDE, left), *told)
    return row_of(job, sides["ours"], sides["trl"])


def row_of(job: Job, ours: Mapping[str, Any], peer: Mapping[str, Any]) -> dict[str, Any]:
    """One case of the file: rates, their ratio, and what stands behind them."""
    real = bool(ours.get("measured"))
    rates = {name: side.get("tokens_per_second") if real else None for name, side in (("ours", ours), ("peer", peer))}
    planned = ours.get("planned", {}).get("peak") if real else None
    return {
        **rates,
        "ratio": rates["ours"] / rates["peer"] if all(rates.values()) else None,
        "unit": "tokens/s",
        "measured": real,
        "goal": job.case.goal,
        "attention": job.attention,
        "liger": bool(ours.get("liger")),
        "of_matrix_product": ours.get("of_matrix_product") if real else None,
        "peak_gib": {"ours": gib(ours.get("peak")), "peer": gib(peer.get("peak")), "planned": gib(planned)},
        "planned_over_measured": planned / ours["peak"] if real and planned and ours.get("peak") else None,
        "failed": ours.get("failed"),
        "sides": {"ours": dict(ours), "peer": dict(peer)},
    }


def gib(count: float | None) -> float | None:
    return None if count is None else count / GIB


def table(cases: Mapping[str, Mapping[str, Any]]) -> str:
    """The cases as Markdown."""
    lines = [
        "| case | tokens/s | TRL | ratio | of the matrix-product rate | peak, GiB | planned | TRL's peak | goal |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in cases.items():
        if not row["measured"]:
            why = row["failed"] or "no GPU; ran at toy size"
            lines.append(f"| {name} | {NOT_MEASURED} ({why}) | | | | | | | {row['goal']} |")
            continue
        peaks, failed = row["peak_gib"], row["sides"]["peer"].get("failed")
        beside = failed or number(row["peer"], ",.0f")
        cells = [
            name,
            number(row["ours"], ",.0f"),
            beside,
            number(row["ratio"], ".2f"),
            number(row["of_matrix_product"], ".0%").replace("%", " %"),
            number(peaks["ours"], ".1f"),
            number(peaks["planned"], ".1f"),
            number(peaks["peer"], ".1f"),
            row["goal"],
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", "One GPU proves nothing about several."])


def plan_table(cases: Sequence[Case], memory: float) -> str:
    """What the planner expects of `cases`, in GiB of tensors, on a GPU of `memory` GiB."""
    names = ("weights", "gradients", "optimizer", "activations", "logits", "peak")
    lines = [f"| case | {' | '.join(names)} |", "|---" * 7 + "|"]
    for case in cases:
        with tempfile.TemporaryDirectory() as folder:
            found = planned(SHAPES[case.shape], case, case.length, Path(folder), memory * GIB)
        lines.append(f"| {case.name} | {' | '.join(f'{found[name] / GIB:.1f}' for name in names)} |")
    return "\n".join(lines)


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def kept(file: Path | None, setting: Mapping[str, Any]) -> dict[str, Any]:
    """The measured cases of `file`, where it was made in the same setting."""
    if file is None or not file.exists():
        return {}
    before = json.loads(file.read_text(encoding="utf-8"))
    if any(before["setting"][name] != setting[name] for name in ("device", "versions", "liger", "attention")):
        raise SystemExit(f"{file} was made on another device, with other wheels or options: delete it, or name another")
    return {name: row for name, row in before["cases"].items() if row["measured"]}


def write(file: Path | None, setting: Mapping[str, Any], cases: Mapping[str, Any]) -> None:
    if file is not None:
        partial = file.with_suffix(".partial")
        text = json.dumps({"setting": setting, "cases": cases}, indent=1, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
        os.replace(partial, file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [case.name for case in CASES]
    parser.add_argument("--cases", help=f"names, with commas between; default: all: {', '.join(names)}")
    parser.add_argument("--minutes", type=float, default=10, help="begin nothing more after this long")
    parser.add_argument("--attention", choices=ATTENTIONS, help="default: flash-attn where it is installed, else sdpa")
    parser.add_argument("--steps", type=int, default=6, help="steps that are timed, after 2 to warm up")
    parser.add_argument("--quick", action="store_true", help="2 steps, and only the cases with a goal")
    parser.add_argument("--no-liger", action="store_true", help="without Liger's kernels, on both sides")
    parser.add_argument("--plan", type=float, metavar="GIB", help="only say what the planner expects on such a GPU")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    told = parser.parse_args()
    asked = told.cases.split(",") if told.cases else [case.name for case in CASES if case.goal or not told.quick]
    if unknown := set(asked) - set(names):
        parser.error(f"no case called {', '.join(sorted(unknown))}")
    chosen = [case for case in CASES if case.name in asked]
    if told.plan:
        print(plan_table(chosen, told.plan))
        return 0
    until = time.monotonic() + 60 * told.minutes
    about = apart("about", SECONDS_A_SIDE)
    if "failed" in about:
        raise SystemExit(f"torch cannot be used here: {about['failed']}")
    steps = 2 if told.quick else told.steps
    setting = {**about, "liger": not told.no_liger, "attention": told.attention, "steps": steps}
    there = ", ".join(f"{name} {version or 'is not there'}" for name, version in about["versions"].items())
    print(f"{about['device']}, CUDA {about['cuda']}: {there}", flush=True)
    cases = kept(told.json, setting)
    for job in jobs(chosen, told.attention, about, liger=not told.no_liger):
        if job.name not in cases:
            cases[job.name] = measured(job, about, until, steps=steps)
            write(told.json, setting, cases)
        print(table({job.name: cases[job.name]}).splitlines()[2], flush=True)
    print(f"\n{about['device']}\n\n{table(cases)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
