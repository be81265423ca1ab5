"""How full the bins of the committed rows are, and what the script says of balance."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from plugins.trainers.sft.batches import BatchPlan

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "packing.py"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])
        spec = importlib.util.spec_from_file_location("packing_benchmark", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module


def test_the_committed_rows_fill_97_percent_of_their_bins(script, tiny_model):
    rows = script.tokenised(script.rows_of(script.CASES["b"]), "alpaca", str(tiny_model))
    assert len(rows) == 1431
    for length in (2048, 4096):  # of these tokens a row has about 200: too many for 512 to show what packing can do
        figures = script.measured(rows, length)
        assert figures["left_out"] == 0
        assert figures["shared"]["computed_share"] < 0.5 < figures["apart"]["computed_share"] == 1
        assert 0.97 <= figures["shared"]["efficiency"] <= figures["shared"]["possible"], length
        assert figures["apart"]["efficiency"] >= 0.96, length
        assert all(1 <= load < 1.05 for load in figures["shared"]["balance"].values() if load is not None)
        line = script.table({"icd10": {str(length): figures}}).splitlines()[-1]
        assert line.startswith(f"| icd10, 1,431 rows | {length} | ")


def test_balance_is_the_largest_load_over_the_mean(script):
    plan = BatchPlan([(n,) for n in range(8)], [4, 4, 4, 4, 4, 4, 4, 4], 1, 2, world_size=2)
    assert script.balance(plan, lambda units: 4.0) == 1
    uneven = BatchPlan([(0,), (1,)], [3, 1], 1, 1, world_size=2)
    assert script.balance(uneven, script.added([3, 1])) == 1.5
    assert script.balance(BatchPlan([(0,)], [3], 1, 1, world_size=2), script.added([3])) is None
