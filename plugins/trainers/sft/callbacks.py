"""What happens around the steps: agreement before the optimizer moves, clean stops, metrics.jsonl and progress."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from core.console import say
from core.processes import is_main

if TYPE_CHECKING:
    from .trainer import SFTTrainer

METRICS_FILE = "metrics.jsonl"
METRICS = (
    "step",
    "epoch",
    "loss",
    "eval_loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "eval_seconds",
)
NOT_SCORED = ("seconds",)
# Ctrl-C, a scheduler, and a terminal that was closed
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_KEYSTROKE_SECONDS = 1.0  # a terminal and a launcher both pass on one Ctrl-C


class StepCallback(TrainerCallback):
    """Hands the loop's events to the trainer. Comes after transformers' own flow, so that its word is the last."""

    def __init__(self, *, watchdog_threshold: float | None = None, watchdog_patience: int = 3) -> None:
        self.trainer: SFTTrainer | None = None
        self.watchdog_threshold = watchdog_threshold
        self.watchdog_patience = watchdog_patience
        self.stopped: str | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # a resumed run takes these from its checkpoint, whatever the recipe says by now
        state.compute_steps(args, state.max_steps)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        sampler = self.trainer.sampler
        sampler.set_epoch(state.global_step // sampler.plan.steps_per_epoch)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        self.trainer.finish_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        if state.global_step >= state.max_steps:
            control.should_log = True
        if self._watchdog_barks():
            self.stopped = f"loss above {self.watchdog_threshold} for {self.watchdog_patience} steps"
            say(f"stopping after step {state.global_step}: {self.stopped}")
            control.should_training_stop = control.should_log = True
        if self.trainer.stopping:
            control.should_training_stop = control.should_save = control.should_log = True
            control.should_evaluate = False

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if control.should_training_stop and state.global_step < state.max_steps and self.stopped is None:
            metric = str(args.metric_for_best_model or "eval_loss").removeprefix("eval_")
            self.stopped = "validation loss no longer falls" if metric == "loss" else f"{metric} no longer improves"
            say(f"stopping after step {state.global_step}: {self.stopped}")
        assert self.trainer is not None
        # asked for while it was validated, perhaps behind the last step; "best" saves by the metric alone
        if args.save_strategy != "best" and self.trainer.agree_to_stop():
            control.should_training_stop = control.should_save = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        if self.trainer.stopping:
            control.should_evaluate = control.should_save = False

    def _watchdog_barks(self) -> bool:
        assert self.trainer is not None
        recent = self.trainer.progress.losses[-self.watchdog_patience :]
        return (
            self.watchdog_threshold is not None
            and len(recent) == self.watchdog_patience
            and all(loss > self.watchdog_threshold for loss in recent)
        )


class MetricsCallback(TrainerCallback):
    """Keeps the history, and appends every logged step to `metrics.jsonl` in the output folder (main process)."""

    def __init__(self, output_dir: Path, *, resumed_step: int = 0) -> None:
        self.file = output_dir / METRICS_FILE
        self.writes = True
        self.history: list[dict[str, Any]] = []
        if self.file.exists():
            # steps after the checkpoint are trained anew, and must not be there twice
            self.history = [record for record in _records(self.file) if record["step"] <= resumed_step]
        if is_main():
            output_dir.mkdir(parents=True, exist_ok=True)
            partial = self.file.with_name(f".partial-{METRICS_FILE}")
            partial.write_text("".join(json.dumps(record) + "\n" for record in self.history), encoding="utf-8")
            os.replace(partial, self.file)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        values = {"step": state.global_step, **(logs or {})}
        if "loss" not in values and "eval_loss" not in values:
            return
        scored = [name for name in values if name.startswith("eval_") and name not in METRICS]
        record = {name: values[name] for name in (*METRICS, *scored) if name in values}
        self.history.append(record)
        if is_main() and self.writes:
            try:
                with self.file.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            except OSError as error:
                # hours of training are worth more than this file; run.json gets the same records at the end
                self.writes = False
                say(f"warning: {self.file} cannot be written, and ends here: {error.strerror or error}")


def _records(file: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; a last line that was cut off when its run was killed is left out."""
    records = []
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            if number < len(lines):
                say(f"warning: {file}:{number} is no JSON and is left out")
    return records


class LinesCallback(TrainerCallback):
    """Progress as plain lines, for a log file."""

    def __init__(self) -> None:
        self.start = (0, 0.0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start = (state.global_step, time.monotonic())

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        step = f"step {state.global_step}/{state.max_steps}"
        if "loss" in logs:
            left = remaining(self.start, state.global_step, state.max_steps)
            say(
                f"{step}  loss {logs['loss']:.4f}  lr {logs['learning_rate']:.2e}"
                f"  {logs['tokens_per_second']:,.0f} trained tokens/s  {left} left"
            )
        elif "eval_loss" in logs:
            say(f"{step}  {_validation(logs)}")


def _validation(logs: Mapping[str, Any]) -> str:
    """The validation loss and the metrics scored with it, in words."""
    scored = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
    words = [f"validation loss {scored.pop('loss'):.4f}"]
    return "  ".join([*words, *(f"{name} {value:.3g}" for name, value in scored.items() if name not in NOT_SCORED)])


class BarCallback(TrainerCallback):
    """Progress as one live bar, for a terminal (main process)."""

    def __init__(self) -> None:
        self.start = (0, 0.0)
        self.bar: Any = None
        self.task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.start = (state.global_step, time.monotonic())
        self.bar = Progress(
            TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"), expand=False
        )
        self.task = self.bar.add_task("training", total=state.max_steps, completed=state.global_step, facts="")
        self.bar.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.bar.update(self.task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if self.bar is None:
            return
        if "loss" in logs:
            left = remaining(self.start, state.global_step, state.max_steps)
            facts = f"loss {logs['loss']:.4f}  {logs['tokens_per_second']:,.0f} trained tokens/s  {left} left"
            self.bar.update(self.task, facts=facts)
        elif "eval_loss" in logs:
            self.bar.console.print(f"step {state.global_step}  {_validation(logs)}")

    def close(self) -> None:
        """Give the terminal back; also after an error."""
        if self.bar is not None:
            self.bar.stop()


def progress_callback() -> LinesCallback | BarCallback:
    """A live bar where the main process writes to a terminal, plain lines elsewhere."""
    return BarCallback() if is_main() and sys.stdout.isatty() else LinesCallback()


def remaining(start: tuple[int, float], step: int, steps: int) -> str:
    """Time left, as h:mm:ss or m:ss, at the pace since `start` (a step and its time)."""
    first, then = start
    seconds = math.ceil((time.monotonic() - then) / max(1, step - first) * (steps - step))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def stop_on_signal(trainer: SFTTrainer) -> Iterator[None]:
    """Within: a first Ctrl-C (or other stop signal) stops the trainer after the current step, a second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread can receive signals
        return
    asked_at: float | None = None

    def handle(number: int, frame: Any) -> None:
        nonlocal asked_at
        now = time.monotonic()
        if asked_at is None:
            asked_at = now
            trainer.stop_asked = True
            if is_main():
                # not print: the signal may have come in the middle of one
                os.write(2, b"\nstopping after this step, with a checkpoint; press Ctrl-C again to stop at once\n")
        elif number == signal.SIGINT and now - asked_at > SAME_KEYSTROKE_SECONDS:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
