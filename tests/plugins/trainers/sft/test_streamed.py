"""Training on rows that are read while training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest

from core.data.chat_templates import adopt_chat_template
from core.data.stream import StreamedRow
from core.errors import DataError, UserError
from core.host import load_host
from core.models import load_tokenizer
from core.processes import start_processes
from core.results import TrainResult
from core.testing.recipes import tiny_plan
from plugins.trainers.sft.streamed import Window, packed_units

ROWS = [{"instruction": f"Say number {n}.", "input": "", "output": f"number {n} " * (1 + n % 4)} for n in range(20)]
STREAMED = {
    "streaming": True,
    "streaming_multipack_buffer_size": 8,
    "max_steps": 8,
    "micro_batch_size": 2,
    "gradient_accumulation_steps": 2,
}


@pytest.fixture
def train(tmp_path: Path, tiny_model: Path) -> Callable[..., TrainResult]:
    """train(name, **recipe) -> what a run from the data to the end of training gives."""

    def run(name: str, *, rows: Any = ROWS, resume: bool = False, spoil: bool = False, **values: Any) -> TrainResult:
        from core.data import prepare

        plan = tiny_plan(tmp_path / name, tiny_model, load_host(), {**STREAMED, **values}, rows=rows)
        plan = replace(plan, resume_from=plan.output_dir) if resume else plan
        start_processes(plan)
        tokenizer = load_tokenizer(plan)
        adopt_chat_template(plan, tokenizer)
        data = prepare(plan, tokenizer)
        assert data.stream is not None
        model = plan.adapter.build(plan)
        if spoil:
            model.lm_head.register_forward_hook(lambda module, inputs, output: output * float("nan"))
        return plan.trainer.prepare(plan, model, tokenizer, data).run()

    return run


def test_losses_do_not_depend_on_the_division_of_a_step(train: Any, capsys: Any) -> None:
    one = train("one")
    said = capsys.readouterr().out
    assert "8 steps of 4 rows" in said
    assert "rows read while training" in said
    assert "its first 8 rows; of those behind them only held-out rows are known again" in said
    assert len(one.losses) == 8
    assert one.losses[-1] < one.losses[0]
    other = train("other", micro_batch_size=4, gradient_accumulation_steps=1)
    assert other.losses == pytest.approx(one.losses, rel=1e-4)
    assert other.tokens == one.tokens


def test_small_data_train_as_they_do_when_prepared(train: Any, tmp_path: Path, tiny_model: Path) -> None:
    streamed = train("streamed", shuffle_merged_datasets=False, max_steps=5)
    from core.data import prepare

    values = {**STREAMED, "streaming": False, "streaming_multipack_buffer_size": None, "max_steps": 5}
    plan = tiny_plan(tmp_path / "whole", tiny_model, load_host(), values, rows=ROWS)
    start_processes(plan)
    tokenizer = load_tokenizer(plan)
    data = prepare(plan, tokenizer)
    assert data.stream is None
    # one pass of 20 rows, 4 a step: as many targets, and in all the same rows
    assert streamed.tokens == data.stats["train"]["trained_tokens"]


@pytest.mark.parametrize("packed", [False, True])
def test_a_resumed_run_goes_on_at_the_same_place(train: Any, packed: bool) -> None:
    values = {"sample_packing": packed, "sequence_len": 96} if packed else {}
    values |= {"lr_scheduler": "constant"}
    train("parted", save_steps=3, save_total_limit=1, max_steps=3, **values)
    resumed = train("parted", resume=True, max_steps=6, **values)
    whole = train("whole", max_steps=6, **values)
    assert len(resumed.losses) == 6
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-5)
    assert resumed.tokens == whole.tokens


def test_a_run_with_another_buffer_is_not_gone_on_with(train: Any) -> None:
    train("one", save_steps=2, max_steps=2)
    with pytest.raises(UserError, match="buffer 8 -> 9"):
        train("one", resume=True, streaming_multipack_buffer_size=9)


def test_packed_bins_hold_every_row_once() -> None:
    rows = [
        StreamedRow(numpy.arange(n, n + 10 + n % 7, dtype=numpy.int32), numpy.arange(n, n + 10 + n % 7), f"row {n}")
        for n in range(23)
    ]
    bins = list(packed_units(iter(rows), 10, 32, 1, share=False))
    assert Counter(row.place for one in bins for row in one) == Counter(row.place for row in rows)
    assert all(sum(len(row.input_ids) - 1 for row in one) <= 32 for one in bins)  # the last token is a target alone
    assert any(len(one) > 1 for one in bins)
    tens = [{int(row.place[4:]) // 10 for row in one} for one in bins]
    assert tens == sorted(tens, key=min)
    assert all(len(one) == 1 for one in tens)  # ten rows at a time are packed together
    again = list(packed_units(iter(rows), 10, 32, 1, share=False))
    assert [[row.place for row in one] for one in bins] == [[row.place for row in one] for one in again]


def test_bins_that_are_padded_are_few_while_streaming_too() -> None:
    """Blocks of 1,000 tokens, of which a bin of 1,650 holds one; split, two bins hold all three."""
    rows = [
        StreamedRow(numpy.array([letter] * 300 + [word] * 351), numpy.array([-100] * 300 + [word] * 351), "")
        for letter in (1, 2, 3)
        for word in (4, 5)
    ]
    found = [list(packed_units(iter(rows), 6, 1650, 1, share=True, padded=padded)) for padded in (False, True)]
    assert [len(bins) for bins in found] == [3, 2]


def test_a_bad_row_behind_the_first_ones_stops_the_training_with_its_place(train: Any, tmp_path: Path) -> None:
    rows = [*ROWS, {"instruction": "No answer here."}]
    with pytest.raises(DataError, match=r"train.jsonl:21.*'output'"):
        train("bad", rows=rows)
    result = train("skipped", rows=rows, on_bad_row="skip", max_bad_rows=0.1)
    assert len(result.losses) == 8


def test_rows_of_a_step_that_is_not_finite_are_named(train: Any) -> None:
    with pytest.raises(UserError, match=r"loss is nan at step 1 of 8; rows in its batch: .*train.jsonl:\d+"):
        train("spoiled", spoil=True)


def test_a_window_keeps_few_steps_and_reads_each_once() -> None:
    asked: list[int] = []

    def units() -> Any:
        for number in range(100):
            asked.append(number)
            yield [StreamedRow(numpy.array([number]), numpy.array([number]), f"row {number}")]

    window = Window(units, steps=10, per_step=2)
    assert [window.row(number << 20).place for number in (0, 1, 7)] == ["row 0", "row 1", "row 7"]
    assert window.numbers(7) == (7 << 20,)
    with pytest.raises(LookupError, match="step 0 of the stream is over"):
        window.unit(0)
    assert window.unit(19)[0].place == "row 19"
    assert asked == list(range(20))  # nothing behind the last step


def test_what_the_main_process_cannot_read_ends_every_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    def units() -> Any:
        yield [StreamedRow(numpy.array([1]), numpy.array([1]), "row 1")]
        raise DataError("row 2 cannot be used", help="correct it")

    sent: list[Any] = []
    monkeypatch.setattr("plugins.trainers.sft.streamed.broadcast_object", lambda given: sent.append(given) or given)
    main = Window(units, steps=9, per_step=1)
    assert main.unit(0)[0].place == "row 1"
    with pytest.raises(DataError, match="row 2 cannot be used"):
        main.unit(1)
    # another rank reads nothing, and gets what was sent
    received = iter(sent)
    monkeypatch.setattr("plugins.trainers.sft.streamed.is_main", lambda: False)
    monkeypatch.setattr("plugins.trainers.sft.streamed.broadcast_object", lambda given: next(received))
    other = Window(lambda: pytest.fail("only the main process reads"), steps=9, per_step=1)
    assert other.unit(0)[0].place == "row 1"
    with pytest.raises(DataError, match="row 2 cannot be used"):
        other.unit(1)
