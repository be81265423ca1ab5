from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.output import claim_output_dir, model_files, refuse_existing_run, run_files
from core.types import DatasetFormat, DatasetPlan, EvaluationPlan


@dataclass(frozen=True)
class OutputPlan:
    """The part of a plan that the output folder's rules read."""

    output_dir: Path
    overwrite: bool = False
    resume_from: Path | None = None
    base_model: str = "org/model"
    datasets: tuple[DatasetPlan, ...] = ()
    validation: tuple[DatasetPlan, ...] = ()
    evaluation: EvaluationPlan = field(default_factory=EvaluationPlan)


def claim(plan: Any) -> None:
    refuse_existing_run(plan)
    claim_output_dir(plan)


@pytest.fixture
def earlier_run(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "checkpoint-5").mkdir(parents=True)
    (folder / "checkpoint-5" / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "run.json").write_text("{}")
    (folder / "notes.txt").write_text("the user's own")
    return folder


def test_a_new_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    claim(OutputPlan(tmp_path / "a" / "b"))
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_an_earlier_run_is_never_overwritten_unasked(earlier_run: Path) -> None:
    with pytest.raises(UserError, match="already holds a run") as raised:
        claim(OutputPlan(earlier_run))
    assert "--overwrite" in (raised.value.help or "")
    assert (earlier_run / "checkpoint-5" / "adapter_model.safetensors").read_bytes() == b"weights"


def test_what_is_there_is_counted_in_words(earlier_run: Path) -> None:
    with pytest.raises(UserError, match=r"\(checkpoint-5 and 1 more entry\)"):
        refuse_existing_run(OutputPlan(earlier_run))  # type: ignore[arg-type]
    (earlier_run / "run.json").unlink()
    with pytest.raises(UserError, match=r"already holds a run \(checkpoint-5\)"):
        refuse_existing_run(OutputPlan(earlier_run))  # type: ignore[arg-type]


def test_overwriting_clears_what_tensorboard_wrote_and_nothing_beside_it(earlier_run: Path) -> None:
    for name in ("runs/Nov23/events.out.tfevents.1.host", "runs/mine.txt", "answers/base.jsonl"):
        (earlier_run / name).parent.mkdir(parents=True, exist_ok=True)
        (earlier_run / name).write_text("x")
    claim(OutputPlan(earlier_run, overwrite=True))
    assert sorted(str(entry.relative_to(earlier_run)) for entry in earlier_run.rglob("*")) == [
        "notes.txt",
        "runs",
        "runs/mine.txt",
    ]
    (earlier_run / "runs" / "mine.txt").unlink()
    (earlier_run / "runs" / "Nov24").mkdir()
    (earlier_run / "runs" / "Nov24" / "events.out.tfevents.2.host").write_text("x")
    claim(OutputPlan(earlier_run, overwrite=True))
    assert [entry.name for entry in earlier_run.iterdir()] == ["notes.txt"]


def test_overwriting_clears_the_run_and_nothing_else(earlier_run: Path) -> None:
    claim(OutputPlan(earlier_run, overwrite=True))
    assert [entry.name for entry in earlier_run.iterdir()] == ["notes.txt"]


def test_resuming_keeps_everything(earlier_run: Path) -> None:
    before = run_files(earlier_run)
    claim(OutputPlan(earlier_run, overwrite=True, resume_from=earlier_run))
    assert run_files(earlier_run) == before
    assert [entry.name for entry in before] == ["checkpoint-5", "run.json"]


def test_a_folder_with_other_files_only_is_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    claim(OutputPlan(tmp_path))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="is a file"):
        claim(OutputPlan(tmp_path / "out"))


def test_a_name_that_no_file_system_takes_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be used: File name too long"):
        claim(OutputPlan(tmp_path / ("x" * 300)))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        claim(OutputPlan(tmp_path / "file" / "out"))


@pytest.mark.parametrize("inside", ["", "checkpoint-5", "checkpoint-5/adapter_model.safetensors", "run.json"])
def test_overwriting_never_removes_what_the_run_is_made_from(earlier_run: Path, inside: str) -> None:
    source = str(earlier_run / inside)
    before = run_files(earlier_run)
    read = DatasetPlan(source, DatasetFormat("alpaca", lambda *_: []), {}, ("datasets", 0))
    for plan in (
        OutputPlan(earlier_run, overwrite=True, base_model=source),
        OutputPlan(earlier_run, overwrite=True, evaluation=EvaluationPlan(datasets=(read,))),
    ):
        with pytest.raises(UserError, match=r"--overwrite would remove .* and this run reads"):
            claim(plan)
    assert run_files(earlier_run) == before


def test_a_source_that_overwriting_leaves_alone_may_lie_in_the_folder(earlier_run: Path) -> None:
    claim(OutputPlan(earlier_run, overwrite=True, base_model=str(earlier_run / "base")))
    assert run_files(earlier_run) == []


def test_a_recipe_of_the_users_own_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "recipe.yml").write_text("base_model: org/model")
    claim(OutputPlan(tmp_path))
    claim(OutputPlan(tmp_path, overwrite=True))
    assert (tmp_path / "recipe.yml").exists()


@pytest.mark.parametrize("folder", [Path("/"), Path.home(), Path("/tmp/..")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_root_and_the_home_folder_are_refused(folder: Path, overwrite: bool) -> None:
    with pytest.raises(UserError, match="is the root or the home folder"):
        refuse_existing_run(OutputPlan(folder, overwrite=overwrite))


def test_a_model_is_all_that_is_no_record_and_no_other_model(tmp_path: Path) -> None:
    mine = ("adapter.npz", "adapter_config.json", "second/adapter_model.safetensors", "tokenizer.json")
    others = (
        "run.json",
        "answers/base-1.0.jsonl",
        "checkpoint-5/adapter_model.safetensors",
        "repeat-2/adapter_model.safetensors",
        "again/predictions.jsonl",
        "runs/today/events.out.tfevents.1",
        "train.log",
        ".running.json",
    )
    for name in (*mine, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert tuple(model_files(tmp_path)) == mine
