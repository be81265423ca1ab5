from __future__ import annotations

import errno
import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from core import UserError
from plugins.trainers.sft import callbacks, checkpoints
from plugins.trainers.sft.checkpoints import find_checkpoint, new_checkpoint
from plugins.trainers.sft.trainer import SFTTrainer
from tests.core.plans import make_test_data

Prepare = Callable[..., tuple[Any, Any]]


def whole(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text("{}")
    (folder / "tunesmith_progress.json").write_text("{}")
    return folder


def test_the_latest_whole_checkpoint_is_found(tmp_path: Path) -> None:
    whole(tmp_path / "checkpoint-9")
    latest = whole(tmp_path / "checkpoint-10")
    whole(tmp_path / ".partial-checkpoint-12")
    (tmp_path / "checkpoint-11").mkdir()  # copied half-way by someone
    (tmp_path / "checkpoint-best").mkdir()
    assert find_checkpoint(tmp_path, tmp_path, required=True) == latest
    assert find_checkpoint(tmp_path / "checkpoint-9", tmp_path, required=True) == tmp_path / "checkpoint-9"
    assert find_checkpoint(None, tmp_path, required=True) is None


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert find_checkpoint(tmp_path / "out", tmp_path / "out", required=False) is None
    with pytest.raises(UserError, match="no checkpoint in"):
        find_checkpoint(tmp_path / "out", tmp_path / "out", required=True)
    (tmp_path / "checkpoint-3").mkdir()
    with pytest.raises(UserError, match="is not a whole checkpoint"):
        find_checkpoint(tmp_path / "checkpoint-3", tmp_path, required=True)


def test_no_rank_begins_to_write_where_the_main_one_has_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "is_main", lambda: False)
    monkeypatch.setattr(checkpoints, "gather_objects", lambda own: ["no space left on device", *own])
    with pytest.raises(UserError, match="cannot be written: no space left"), new_checkpoint(tmp_path / "checkpoint-1"):
        pytest.fail("written")
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: not a directory"), new_checkpoint(tmp_path / "file" / "c"):
        pytest.fail("written")


def test_a_checkpoint_appears_whole_and_replaces_an_older_one_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-1"
    for text in ("old", "new"):
        with new_checkpoint(folder) as partial:
            assert partial.parent == tmp_path
            (partial / "weights").write_text(text)
            assert not folder.exists() or (folder / "weights").read_text() == "old"
    assert (folder / "weights").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint-1"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . PytorchStreamWriter failed writing file"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, error: Exception) -> None:
    before = whole(tmp_path / "checkpoint-1")

    def write() -> None:
        with new_checkpoint(tmp_path / "checkpoint-2") as partial:
            (partial / "half").write_text("x")
            raise error

    with pytest.raises(UserError) as caught:
        write()
    assert str(tmp_path / "checkpoint-2") in caught.value.message
    assert "GB free" in caught.value.message
    assert "save_total_limit" in (caught.value.help or "")
    assert list(tmp_path.iterdir()) == [before]


def test_a_bug_while_saving_is_not_dressed_up(tmp_path: Path) -> None:
    with pytest.raises(KeyError), new_checkpoint(tmp_path / "checkpoint-2"):
        raise KeyError("weight")


SETTINGS: list[dict[str, Any]] = [
    {"adapter": "lora", "lora_dropout": 0.4, "logging_steps": 2},
    {"micro_batch_size": 2, "gradient_accumulation_steps": 2, "save_strategy": "epoch", "gradient_checkpointing": True},
    {"adapter": "lora", "lora_dropout": 0.4, "optimizer": "adafactor", "lr_scheduler": "linear", "num_epochs": 1},
]


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("stop_at", [3, 4])
def test_resuming_ends_where_a_straight_run_ends(
    prepare: Prepare, tmp_path: Path, settings: dict[str, Any], stop_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: losses, weights, validation, with dropout; stopped within an epoch of 4 steps and at its end."""
    settings = {"num_epochs": 2, "data": make_test_data(15, val=4), **settings}
    training, straight = prepare("straight", **settings)
    expected = training.run()

    training, _ = prepare("resumed", **settings)
    on_step_end = callbacks.StepCallback.on_step_end

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.stopping = self.trainer.stopping or state.global_step == stop_at
        on_step_end(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StepCallback, "on_step_end", stop)
        with pytest.raises(KeyboardInterrupt, match=f"checkpoint-{stop_at} after step {stop_at}"):
            training.run()

    torch.manual_seed(99)
    training, resumed = prepare("resumed", resume_from=tmp_path / "resumed" / "out", **settings)
    result = training.run()
    assert result.losses == expected.losses
    assert result.tokens == expected.tokens
    assert result.seconds > 0
    for ours, theirs in zip(resumed.parameters(), straight.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    lines = (tmp_path / "resumed" / "out" / "metrics.jsonl").read_text().splitlines()
    ours = {(line["step"], "loss" in line): line for line in map(json.loads, lines)}
    assert len(ours) == len(lines)  # no step twice
    for record in expected.history:
        if "eval_loss" in record and record["step"] != stop_at:  # whoever stops does not wait for a validation
            assert ours[record["step"], False]["eval_loss"] == record["eval_loss"]


@pytest.mark.parametrize("num_epochs", [1, 2])
def test_a_stop_during_a_validation_is_kept_to(
    prepare: Prepare, tmp_path: Path, num_epochs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the last step, and between two epochs of 6 steps: no step more, and a checkpoint to go on from."""
    settings = {"num_epochs": num_epochs, "save_strategy": "no", "evals_per_epoch": 1}
    expected = prepare("straight", **settings)[0].run()
    training, _ = prepare("resumed", **settings)
    on_evaluate = callbacks.StepCallback.on_evaluate

    def asked(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.stop_asked = True
        on_evaluate(self, args, state, control, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.StepCallback, "on_evaluate", asked)
        with pytest.raises(KeyboardInterrupt, match=f"checkpoint-6 after step 6 of {6 * num_epochs}"):
            training.run()
    result = prepare("resumed", resume_from=tmp_path / "resumed" / "out", **settings)[0].run()
    assert result.losses == expected.losses
    assert result.stopped is None


def test_a_stop_behind_everything_is_told(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    training, _ = prepare(num_epochs=1, data=make_test_data(8))
    agreed = SFTTrainer.finish_step

    def late(self: Any) -> None:
        agreed(self)
        self.stop_asked = self.state.global_step + 1 == self.state.max_steps

    monkeypatch.setattr(SFTTrainer, "finish_step", late)
    assert training.run().steps == 2
    assert "the training was done before it could be stopped: what follows goes on" in capsys.readouterr().out


def test_resuming_a_finished_training_gives_its_model_and_trains_nothing(prepare: Prepare, tmp_path: Path) -> None:
    training, trained = prepare(num_epochs=1, save_strategy="epoch")
    expected = training.run()
    training, model = prepare(num_epochs=1, save_strategy="epoch", resume_from=tmp_path / "one" / "out")
    result = training.run()
    assert result.losses == expected.losses
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), trained.parameters(), strict=True))


def test_metrics_after_the_checkpoint_are_written_anew(prepare: Prepare, tmp_path: Path) -> None:
    settings = {"num_epochs": 1, "save_steps": 2, "logging_steps": 1}
    prepare(**settings)[0].run()
    out = tmp_path / "one" / "out"
    for step in (4, 6):
        shutil.rmtree(out / f"checkpoint-{step}")
    prepare(**settings, resume_from=out)[0].run()
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 6]  # the last one twice: its loss and the validation


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed 42 -> 1"),
        ({"micro_batch_size": 2}, "rows_per_step 4 -> 2"),
        ({"data": make_test_data(20, val=4)}, "rows 24 -> 20"),
    ],
)
def test_another_order_of_rows_is_refused(prepare: Prepare, tmp_path: Path, change: dict[str, Any], named: str) -> None:
    prepare(max_steps=2)[0].run()
    with pytest.raises(UserError, match="was trained with another order of rows") as caught:
        prepare(max_steps=4, resume_from=tmp_path / "one" / "out", **change)
    assert named in caught.value.message
    # the same step divided otherwise is the same training
    prepare(max_steps=4, resume_from=tmp_path / "one" / "out", micro_batch_size=2, gradient_accumulation_steps=2)


def test_a_checkpoint_loads_with_transformers_alone(prepare: Prepare, tmp_path: Path) -> None:
    training, model = prepare(max_steps=2)
    training.run()
    folder = tmp_path / "one" / "out" / "checkpoint-2"
    loaded = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
    assert AutoTokenizer.from_pretrained(folder).chat_template
    assert not list(folder.glob("*.bin"))
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode


def test_a_lora_checkpoint_holds_the_adapter_only(prepare: Prepare, tmp_path: Path) -> None:
    prepare(max_steps=2, adapter="lora")[0].run()
    folder = tmp_path / "one" / "out" / "checkpoint-2"
    assert (folder / "adapter_model.safetensors").stat().st_size < 10_000
    assert not list(folder.glob("model*.safetensors"))


def test_old_checkpoints_go_when_the_new_one_stands(prepare: Prepare, tmp_path: Path) -> None:
    prepare(max_steps=6, save_steps=2, save_total_limit=2)[0].run()
    assert [folder.name for folder in checkpoints.checkpoints(tmp_path / "one" / "out")] == [
        "checkpoint-4",
        "checkpoint-6",
    ]


def test_a_full_disk_names_the_folder_and_keeps_the_checkpoint_before(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training, model = prepare(max_steps=6, save_steps=2, save_total_limit=1)
    save = type(model).save_pretrained

    def full(self: Any, folder: str, **options: Any) -> None:
        save(self, folder, **options)
        if "checkpoint-4" in folder:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(model), "save_pretrained", full)
    with pytest.raises(UserError, match="no space left on device") as caught:
        training.run()
    out = tmp_path / "one" / "out"
    assert str(out / "checkpoint-4") in caught.value.message
    assert sorted(entry.name for entry in out.iterdir()) == ["checkpoint-2", "metrics.jsonl"]
    assert AutoModelForCausalLM.from_pretrained(out / "checkpoint-2")
    assert find_checkpoint(out, out, required=True) == out / "checkpoint-2"


def test_a_file_that_cannot_be_written_to_its_end(prepare: Prepare, tmp_path: Path) -> None:
    """A limit on the size of files makes the system refuse the optimizer's, half-way, as a full disk would."""
    training, _ = prepare(max_steps=2)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
    try:
        with pytest.raises(UserError, match=r"checkpoint-2' cannot be written: .* GB free"):
            training.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [entry.name for entry in (tmp_path / "one" / "out").iterdir()] == ["metrics.jsonl"]
