from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.trainers.sft import callbacks
from plugins.trainers.sft.callbacks import MetricsCallback, remaining, stop_on_signal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(callbacks, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_second_ctrl_c_stops(clock: SimpleNamespace, number: signal.Signals) -> None:
    trainer: Any = SimpleNamespace(stop_asked=False)
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal(trainer):
        os.kill(os.getpid(), number)
        assert trainer.stop_asked
        clock.seconds += 0.5
        os.kill(os.getpid(), signal.SIGINT)  # the launcher passes on the same keystroke
        clock.seconds += 5
        os.kill(os.getpid(), signal.SIGTERM)  # and then asks all its children to end, as they are about to
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_remaining_time(clock: SimpleNamespace) -> None:
    start = (10, 100.0)
    clock.seconds = 160.0
    assert remaining(start, 20, 40) == "2:00"
    assert remaining(start, 20, 1220) == "2:00:00"
    assert remaining(start, 20, 20) == "0:00"


def test_metrics_go_on_after_the_step_resumed_from(tmp_path: Path) -> None:
    state = SimpleNamespace(global_step=1)
    first = MetricsCallback(tmp_path)
    first.on_log(None, state, None, {"loss": 1.0, "train_runtime": 5})
    first.on_log(None, state, None, {"train_runtime": 5})
    state.global_step = 2
    first.on_log(None, state, None, {"eval_loss": 2.0})
    again = MetricsCallback(tmp_path, resumed_step=1)
    assert again.history == [{"step": 1, "loss": 1.0}]
    again.on_log(None, state, None, {"loss": 3.0})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]
    assert MetricsCallback(tmp_path).history == []


def test_a_last_record_that_was_cut_off_does_not_stop_a_resumed_run(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1, "loss": 1.0}\n{"step": 2, "lo')
    assert MetricsCallback(tmp_path, resumed_step=2).history == [{"step": 1, "loss": 1.0}]
    assert file.read_text() == '{"step": 1, "loss": 1.0}\n'


def test_a_record_in_the_middle_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").write_text('nonsense\n{"step": 2, "loss": 1.0}\n')
    assert MetricsCallback(tmp_path, resumed_step=2).history == [{"step": 2, "loss": 1.0}]
    assert "metrics.jsonl:1 is no JSON and is left out" in capsys.readouterr().out


def test_metrics_that_cannot_be_written_are_told_once_and_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = MetricsCallback(tmp_path)
    metrics.file.unlink()
    metrics.file.mkdir()
    for step in (1, 2):
        metrics.on_log(None, SimpleNamespace(global_step=step), None, {"loss": 1.0})
    assert [record["step"] for record in metrics.history] == [1, 2]
    assert capsys.readouterr().out.count("metrics.jsonl cannot be written, and ends here: Is a directory") == 1
