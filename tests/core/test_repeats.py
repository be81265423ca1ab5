"""A run that trains with several seeds, on the tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from core.cli import main
from core.schema_files import load_fragment
from tests.core.test_eval_command import write

REPEATED = {"repeats": 3, "compare": ["base", "tuned"]}


def values_of(folder: Path) -> dict[str, Any]:
    values = json.loads((folder / "run.json").read_text())
    jsonschema.validate(values, load_fragment("run"))
    return dict(values)


def test_three_trainings_differ_in_their_seed_alone(tmp_path: Path, tiny_model: Path, capsys: Any) -> None:
    # the order in which data sets are merged follows the first seed, for all trainings
    options = {"learning_rate": 0.05, "lora_r": 4, "shuffle_merged_datasets": False}
    assert main(["run", str(write(tmp_path / "all", tiny_model, REPEATED, **options))]) == 0
    out = tmp_path / "all" / "out"
    values = values_of(out)
    assert values["repeats"]["seeds"] == [42, 43, 44]
    perplexities = values["repeats"]["metrics"]["perplexity"]["values"]
    assert len(set(perplexities)) == 3
    assert perplexities[0] == values["evaluation"]["tuned"]["perplexity"]["value"]
    assert "repeat 3: seed 44" in capsys.readouterr().out
    assert "one seed" not in json.dumps(values["verdict"])

    assert (
        main(["run", str(write(tmp_path / "one", tiny_model, {"compare": ["base", "tuned"]}, seed=44, **options))]) == 0
    )
    alone = values_of(tmp_path / "one" / "out")
    assert alone["evaluation"]["tuned"]["perplexity"]["value"] == pytest.approx(perplexities[2], rel=1e-6)
    losses = json.loads((out / "repeat-3" / "training.json").read_text())["losses"]
    assert losses == alone["train"]["losses"]
    assert "repeats" not in alone
    assert any(caveat.startswith("one seed") for caveat in alone["verdict"]["caveats"])

    shutil.rmtree(out / "repeat-3")
    assert main(["eval", str(out)]) == 0
    again = values_of(out / "evaluations" / "1")
    assert again["repeats"]["metrics"]["perplexity"]["values"] == pytest.approx(perplexities[:2])
    assert "repeat 3 of 3 has not been trained" in capsys.readouterr().out


def test_a_run_that_broke_off_between_its_trainings_goes_on(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import core.repeats as module

    real, begun = module._train_once, []

    def broken(plan: Any, tokenizer: Any, data: Any, number: int) -> Any:
        begun.append(number)
        if number == 3:
            raise RuntimeError("the machine went down")
        return real(plan, tokenizer, data, number)

    recipe = str(write(tmp_path, tiny_model, REPEATED))
    monkeypatch.setattr(module, "_train_once", broken)
    with pytest.raises(RuntimeError, match="went down"):
        main(["run", recipe])
    assert begun == [2, 3]
    monkeypatch.setattr(module, "_train_once", real)
    kept = (tmp_path / "out" / "repeat-2" / "adapter_model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["run", recipe, "--resume"]) == 0
    assert values_of(tmp_path / "out")["repeats"]["seeds"] == [42, 43, 44]
    assert (tmp_path / "out" / "repeat-2" / "adapter_model.safetensors").stat().st_mtime_ns == kept, "not trained twice"
    assert "tuned: 12 answers taken from" in capsys.readouterr().out
