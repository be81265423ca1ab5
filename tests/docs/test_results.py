"""docs/results.md is written out of run.json: every figure in it stands in a run."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.core.report.conftest import VALUES

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "results.py"


def run_of(name: str) -> dict[str, Any]:
    values = copy.deepcopy(VALUES)
    values["recipe"]["path"] = f"recipes/{name}.yml"
    values["environment"] = {"device": "cpu", "threads": 2, "python": "3.11", "versions": {"torch": "2"}}
    values["verdict"] = {"words": f"Verdict of {name}.", "outcome": "better", "metric": "accuracy"}
    return values


def test_the_page_has_a_section_per_run_with_its_own_figures(tmp_path: Path) -> None:
    runs = {name: run_of(name) for name in ("snips", "mine")}
    runs["mine"]["evaluation"]["tuned"]["accuracy"].update(
        value=0.125, details={"labels": ["a|b", "c"], "confusion": [[0, 3, 0], [0, 1, 0]]}
    )
    for name, values in runs.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(values))
    command = [sys.executable, str(SCRIPT), *(str(tmp_path / name) for name in runs)]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "| SNIPS: a voice command to its intent and slots, as JSON | Verdict of snips. |" in page
    assert "| accuracy | 33.3 % (6–79) | 66.7 % (21–94) |" in page
    assert "| accuracy | 33.3 % (6–79) | 12.5 % (21–94) |" in page.split("## mine")[1]
    assert "| a\\|b | c | 3 |" in page
    assert "    tunesmith run recipes/mine.yml\n" in page


def test_every_titled_task_has_a_recipe() -> None:
    spec = importlib.util.spec_from_file_location("results", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TITLES
    for name in module.TITLES:
        assert (SCRIPT.parents[1] / "recipes" / f"{name}.yml").is_file()
