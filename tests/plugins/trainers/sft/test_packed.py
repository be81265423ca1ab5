from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset

from core import UserError
from core.packing import Packing, collate_bins, lay_out_rows, pack_dataset, register_segments
from core.types import Data
from plugins.trainers.sft import packed
from plugins.trainers.sft.batches import BatchPlan, row_lengths
from plugins.trainers.sft.loss import head_of, summed_loss
from plugins.trainers.sft.packed import Layout
from plugins.trainers.sft.workload import planned_layout
from tests.core.packing.packing_cases import WINDOW, make_model, plain_loss, ragged_rows
from tests.core.plans import make_test_plan

Prepare = Callable[..., tuple[Any, Any]]


def alike(rows: int = 24, prefix: int = 20) -> Data:
    """Rows that begin with the same untrained tokens, and one in three with another beginning."""
    generator = numpy.random.default_rng(1)
    starts = [generator.integers(3, 300, prefix).tolist() for _ in range(2)]
    records: dict[str, list[Any]] = {"input_ids": [], "labels": [], "place": []}
    for line in range(rows + 6):
        own, answer = (generator.integers(3, 300, int(generator.integers(2, 6))).tolist() for _ in range(2))
        records["input_ids"].append(starts[line % 3 == 0] + own + answer)
        records["labels"].append([-100] * (prefix + len(own)) + answer)
        records["place"].append(f"data.jsonl:{line + 1}")
    whole = Dataset.from_dict(records)
    return Data(whole.select(range(rows)), whole.select(range(rows, rows + 6)), (), {})


def test_sharing_prefixes_changes_the_work_and_not_the_result(
    prepare: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    data, settings = alike(), {"num_epochs": 2, "micro_batch_size": 6, "weight_decay": 0.1}
    plain, first = prepare("plain", data=data, share_prefixes=False, **settings)
    expected = plain.run()
    assert "share a micro batch" not in capsys.readouterr().out
    shared, second = prepare("shared", data=data, share_prefixes="auto", **settings)
    result = shared.run()
    said = [line for line in capsys.readouterr().out.splitlines() if "share a micro batch" in line]
    assert [line.split()[0] for line in said] == ["training", "validation"]
    assert int(said[0].split("computes ")[1].split()[0]) < 70
    assert result.losses == pytest.approx(expected.losses, rel=1e-4)
    assert result.tokens == expected.tokens
    for ours, theirs in zip(second.parameters(), first.parameters(), strict=True):
        assert (ours - theirs).norm() <= 1e-3 * theirs.norm()
    validations = [[r["eval_loss"] for r in run.history if "eval_loss" in r] for run in (result, expected)]
    assert validations[0] == pytest.approx(validations[1], rel=1e-4)


def test_auto_leaves_rows_without_common_beginnings_alone(prepare: Prepare, capsys: pytest.CaptureFixture[str]) -> None:
    ids = numpy.random.default_rng(2).integers(3, 300, (16, 40)).tolist()
    rows = Dataset.from_dict({"input_ids": ids, "labels": [[-100] * 20 + row[20:] for row in ids], "place": [""] * 16})
    prepare(data=Data(rows, None, (), {}), share_prefixes="auto", micro_batch_size=4)
    assert "share a micro batch" not in capsys.readouterr().out


@pytest.mark.parametrize("share", [False, "auto"])
def test_packing_trains_every_row_once_an_epoch(
    prepare: Prepare, capsys: pytest.CaptureFixture[str], share: Any
) -> None:
    data = alike()
    targets = sum(label != -100 for labels in data.train["labels"] for label in labels[1:])
    settings = {"sample_packing": True, "share_prefixes": share, "sequence_len": 128, "data": data}
    training, _ = prepare(micro_batch_size=1, gradient_accumulation_steps=2, **settings)
    result = training.run()
    assert result.tokens == targets
    out = capsys.readouterr().out
    assert re.search(r"training rows packed into \d+ bins of 128 tokens, .* of the tokens, with no padding\n", out)
    assert "processes, the most loaded one" not in out
    assert re.search(r"steps? of 2 bins", out)
    whole, _ = prepare("whole", micro_batch_size=2, gradient_accumulation_steps=1, **settings)
    assert whole.run().losses == pytest.approx(result.losses, rel=1e-4)


def test_the_first_loss_of_packed_rows_is_that_of_the_rows(prepare: Prepare) -> None:
    data = alike(8)
    plain = prepare("plain", data=data, micro_batch_size=8, max_steps=1)[0].run()
    packed_run = prepare("packed", data=data, sample_packing=True, sequence_len=400, micro_batch_size=1, max_steps=1)[
        0
    ].run()
    assert packed_run.losses == pytest.approx(plain.losses, rel=1e-5)
    assert packed_run.tokens == plain.tokens


def test_a_packed_run_resumes_and_refuses_other_bins(prepare: Prepare, tmp_path: Path) -> None:
    settings = {"data": alike(), "sample_packing": True, "micro_batch_size": 1, "save_steps": 2}
    prepare(sequence_len=128, max_steps=2, **settings)[0].run()
    out = tmp_path / "one" / "out"
    straight = prepare("straight", sequence_len=128, max_steps=4, lr_scheduler="constant", **settings)
    assert len(straight[0].run().losses) == 4
    with pytest.raises(UserError, match="was trained with another order of rows"):
        prepare(sequence_len=100, max_steps=4, resume_from=out, **settings)
    assert prepare(sequence_len=128, max_steps=4, resume_from=out, **settings)[0].run().steps == 4
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["step"] == 1


def test_a_model_that_cannot_keep_rows_apart(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(packed, "probe_isolated_attention", lambda model, share: (False, "rows see each other"))
    prepare(data=alike(), share_prefixes="auto")
    assert "common prefixes are not shared: rows see each other" in capsys.readouterr().out
    for key in ("sample_packing", "share_prefixes"):
        with pytest.raises(UserError, match=f"{key}: true cannot be used with this model: rows see each other"):
            prepare(data=alike(), **{key: True})


@pytest.mark.parametrize(("kind", "reason"), [("mamba", "carry state"), ("recurrent_gemma", "carry state")])
def test_a_model_with_state_is_trained_row_by_row_or_not_at_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, reason: str
) -> None:
    model = make_model(kind, "eager", torch.float32)
    assert packed.choose_layout(make_test_plan(tmp_path, tmp_path, share_prefixes="auto"), model) == packed.Layout()
    said = capsys.readouterr().out
    assert "common prefixes are not shared" in said
    assert reason in said
    for key in ("sample_packing", "share_prefixes"):
        with pytest.raises(UserError, match=f"{key}: true cannot be used with this model: .*{reason}") as caught:
            packed.choose_layout(make_test_plan(tmp_path, tmp_path, **{key: True}), model)
        assert caught.value.help == f"set {key}: false"


def test_a_model_of_windows_alone_is_packed_with_its_window(tmp_path: Path) -> None:
    """Every layer sees the last few tokens of its own row, never those stored before it."""
    model = make_model("mistral", "sdpa", torch.float32)
    plan = make_test_plan(tmp_path, tmp_path, sample_packing=True, share_prefixes=True, sequence_len=128)
    layout = packed.choose_layout(plan, model)
    assert layout == packed.Layout(bins=True, share=True)
    rows = ragged_rows(3)
    assert max(len(row["input_ids"]) for row in rows) > WINDOW + 9
    batch = packed.collate_packed(plan, model, layout, 0)([rows])
    with torch.no_grad():
        found = sum(float(summed_loss(model, part, head_of(model))) for part in batch["parts"])
        assert found / len(batch["target_ids"]) == pytest.approx(float(plain_loss(model, rows)), rel=1e-5)


def test_batches_from_other_processes_are_attended_to_over_whole_bins(
    prepare: Prepare, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"data": alike(8), "sample_packing": True, "sequence_len": 128, "max_steps": 1}
    _, model = prepare("usual", **settings)
    assert model.config._attn_implementation == register_segments()
    assert "over whole bins" not in capsys.readouterr().out
    _, model = prepare("workers", dataloader_num_workers=1, **settings)
    assert model.config._attn_implementation == "sdpa"
    said = "attention is computed over whole bins, which is slower: leave out dataloader_num_workers"
    assert capsys.readouterr().out.count(said) == 1
    # the planner reckons with the same attention
    plan = make_test_plan(tmp_path, tiny_model, sample_packing=True, dataloader_num_workers=1)
    shape = plan.adapter.build(plan)
    assert planned_layout(plan, shape).bins
    assert shape.config._attn_implementation == "sdpa"


def test_an_attention_that_fails_is_exchanged(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = packed.probe_isolated_attention

    def probe(model: Any, *, share: bool) -> tuple[bool, str]:
        if model.config._attn_implementation == "flex_attention":
            return False, "the model refuses a packed row: no kernel for this shape"
        return real(model, share=share)

    monkeypatch.setattr(packed, "probe_isolated_attention", probe)
    plan = make_test_plan(tmp_path, tmp_path, sample_packing=True, share_prefixes="auto", sequence_len=128)
    model = with_attention("llama", "flex_attention")
    assert packed.choose_layout(plan, model) == packed.Layout(bins=True, share=True)
    said = "attention is computed with sdpa: the model refuses a packed row: no kernel for this shape"
    assert capsys.readouterr().out.count(said) == 1
    assert model.config._attn_implementation == register_segments()  # sdpa block by block, on a processor
    # a model that caps its scores has no sdpa
    model = with_attention("gemma2", "flex_attention")
    assert packed.choose_layout(plan, model) == packed.Layout(bins=True, share=True)
    assert "attention is computed with eager" in capsys.readouterr().out
    assert model.config._attn_implementation == "eager"


def with_attention(kind: str, attention: str) -> Any:
    """A tiny model that believes to have an attention which this machine may not have."""
    model = make_model(kind, "eager", torch.float32)
    model.config._attn_implementation = attention
    return model


@pytest.mark.parametrize("attention", ["flash_attention_2", "flash_attention_3", "kernels-community/flash-attn3"])
def test_flash_attention_packs_and_shares_no_prefix(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], attention: str
) -> None:
    probed: list[tuple[str, bool]] = []

    def probe(model: Any, *, share: bool) -> tuple[bool, str]:
        probed.append((model.config._attn_implementation, share))
        return True, ""

    monkeypatch.setattr(packed, "probe_isolated_attention", probe)
    reason = f"{attention!r} keeps rows apart by their lengths alone, and cannot share a prefix"
    for packing in (True, False):
        plan = make_test_plan(tmp_path, tmp_path, sample_packing=packing, share_prefixes="auto", sequence_len=128)
        model = with_attention("llama", attention)
        assert packed.choose_layout(plan, model) == packed.Layout(bins=packing)
        assert planned_layout(plan, model) == packed.Layout(bins=packing)
        said = capsys.readouterr().out
        assert f"common prefixes are not shared: {reason} (share_prefixes: true computes with sdpa)" in said
        assert said.count("common prefixes") == 1
        assert model.config._attn_implementation == attention
    assert probed == [(attention, False)]
    (part,) = packed.collate_packed(plan, model, packed.Layout(bins=True), 0)([ragged_rows(3)])["parts"]
    assert "attention_mask" not in part
    assert part["cu_seq_lens"][-1] == part["input_ids"].numel()
    # without sharing, nothing is to be said
    plan = make_test_plan(tmp_path, tmp_path, sample_packing=True, share_prefixes=False)
    packed.choose_layout(plan, with_attention("llama", attention))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("kind", "other"), [("llama", register_segments()), ("gemma2", "eager")])
def test_who_insists_on_sharing_gets_an_attention_that_can(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, other: str
) -> None:
    plan = make_test_plan(tmp_path, tmp_path, sample_packing=True, share_prefixes=True)
    model = with_attention(kind, "flash_attention_2")
    assert packed.choose_layout(plan, model) == packed.Layout(bins=True, share=True)
    assert model.config._attn_implementation == other
    said = capsys.readouterr().out
    assert "'flash_attention_2' keeps rows apart by their lengths alone, and cannot share a prefix" in said
    assert "and share_prefixes: true asks for it" in said


@pytest.mark.parametrize(
    ("attention", "shape_for", "share"),
    [("flex_attention", "cuda", True), ("flash_attention_2", "cuda", False), ("flash_attention_2", "cpu", True)],
)
def test_the_planner_shares_what_the_run_will_share(
    tmp_path: Path, tiny_model: Path, attention: str, shape_for: Any, share: bool
) -> None:
    """On a processor flash attention gives way to sdpa; elsewhere a shape has sdpa in place of it."""
    plan = make_test_plan(
        tmp_path, tiny_model, sample_packing=True, share_prefixes="auto", attn_implementation=attention
    )
    model = make_model("llama", "sdpa", torch.float32).to("meta")
    assert planned_layout(replace(plan, shape_for=shape_for), model) == packed.Layout(bins=True, share=share)


def test_flex_attention_gets_what_tells_rows_apart(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "probe_isolated_attention", lambda model, share: (True, ""))
    plan = make_test_plan(tmp_path, tmp_path, sample_packing=True, share_prefixes="auto", sequence_len=128)
    model = with_attention("gemma3", "flex_attention")
    layout = packed.choose_layout(plan, model)
    assert layout == packed.Layout(bins=True, share=True)
    (part,) = packed.collate_packed(plan, model, layout, 0)([ragged_rows(3)])["parts"]
    assert "attention_mask" not in part
    assert part["reach"].shape == part["position_ids"].shape == (1, 128)


@pytest.mark.parametrize(
    ("attention", "device", "pad", "expected"),
    [
        ("sdpa", "cpu", False, 128 + 30),  # one by one
        ("sdpa", "cpu", True, 2 * 200),
        ("sdpa", "cuda", False, 2 * 128),
        ("flex_attention", "cuda", True, 2 * 256),  # in whole blocks
        ("flash_attention_2", "cuda", False, 128 + 30),  # in one line
        ("flash_attention_2", "cuda", True, 2 * 200),
    ],
)
def test_positions_that_are_computed_for_bins(
    tmp_path: Path, attention: str, device: str, pad: bool, expected: int
) -> None:
    model = with_attention("llama", attention).to("meta")
    setattr(model, packed.SHAPE_OF, device)
    plan = make_test_plan(tmp_path, tmp_path, sequence_len=200, pad_to_sequence_len=pad)
    packing = Packing(((0, 1), (2, 3)), (128, 30), 200, 158, 0)
    assert packed.bin_positions(plan, model, packing)((0, 1)) == expected


@pytest.mark.parametrize("attention", ["sdpa", "flex_attention", "flash_attention_2"])
def test_positions_are_those_of_the_batch(tmp_path: Path, attention: str) -> None:
    rows = [{"input_ids": [k] * size, "labels": [k] * size} for k, size in enumerate((131, 41, 21, 21, 7, 7))]
    model = with_attention("llama", attention).to("meta")
    setattr(model, packed.SHAPE_OF, "cuda")
    plan, layout = make_test_plan(tmp_path, tmp_path, sequence_len=200), Layout(bins=True)
    bins = [(0,), (1,), (2, 3), (4, 5)]
    packing = Packing(tuple(bins), (130, 40, 40, 12), 200, 222, 0)
    positions, collate = packed.bin_positions(plan, model, packing), packed.collate_packed(plan, model, layout, 0)
    for units in ((0, 1), (2, 3), (1, 2), (0,), (3,)):
        batch = collate([[rows[row] for row in bins[unit]] for unit in units])
        assert positions(units) == batch["input_ids"].numel(), units


def test_padding_and_balance_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    packing = pack_dataset(
        [{"input_ids": [k] * size, "labels": [k] * size} for k, size in enumerate((97, 49, 97, 49))], 100
    )
    assert list(packing.sizes) == [96, 96, 96]
    sizes = [96, 64, 96, 64]
    packing = replace(packing, bins=((0,), (1,), (2,), (3,)), sizes=sizes)
    batches = BatchPlan(packing.bins, sizes, 1, world_size=2, seed=1, shuffle=False, even=True)
    packed.say_packing(packing, batches, lambda some: 100 * len(some), "training")
    said = capsys.readouterr().out
    assert "80.0 % full" in said
    assert "and 20.0 % of padding with them" in said
    assert "of 2 processes, the most loaded one computes 1.000 times the mean in a step" in said
    packed.say_packing(packing, batches, lambda some: sum(sizes[unit] for unit in some), "training")
    said = capsys.readouterr().out
    assert "with no padding" in said
    assert "computes 1.200 times the mean" in said  # 96 beside 64 in both steps


def test_the_busiest_of_two_ranks_is_told_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    data = alike().train.select_columns(["input_ids", "labels"])
    batches = BatchPlan([(n,) for n in range(24)], row_lengths(data), 3, world_size=2, seed=1)
    ratios = []
    for even in (False, True):
        packed.say_balance_of_rows(data, replace(batches, even=even), 0)
        (ratio,) = re.findall(r"of 2 processes, the most loaded one computes ([\d.]+) times", capsys.readouterr().out)
        ratios.append(float(ratio))
    assert all(1 <= ratio < 1.5 for ratio in ratios)
    packed.say_balance_of_rows(data, replace(batches, world_size=1), 0)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("attention", "pays"), [("eager", False), ("flex_attention", True)])
def test_whether_sharing_pays_is_reckoned_by_the_blocks_of_flex_attention(attention: str, pays: bool) -> None:
    """Eight long rows, half of them in common: as one square they cost more than apart, in blocks they do not."""
    ids = [[7] * 500 + numpy.random.default_rng(k).integers(8, 60, 524).tolist() for k in range(8)]
    rows = Dataset.from_dict({"input_ids": ids, "labels": [[-100] * 510 + row[510:] for row in ids]})
    model, batches = with_attention("llama", attention), BatchPlan([(n,) for n in range(8)], [1024] * 8, 8)

    def one_bin(units: Any) -> dict[str, Any]:
        return collate_bins([lay_out_rows(packed.rows_of(units))], model.config)

    assert packed.sharing_pays(rows, batches, one_bin, 0.001, name="training", insisted=False) is pays


def test_a_model_to_be_sharded_is_packed_without_being_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before FSDP shards it, a model may have no weights on this rank; its configuration tells what can be known."""
    monkeypatch.setattr(packed, "probe_isolated_attention", lambda *_, **__: pytest.fail("there is nothing to try"))
    model = with_attention("gemma3", "sdpa").to("meta")
    for values in ({"fsdp": ["full_shard"], "fsdp_version": 2}, {"deepspeed": {"zero_optimization": {"stage": 3}}}):
        monkeypatch.setattr("plugins.trainers.sft.rules.find_spec", lambda name: True)
        plan = make_test_plan(tmp_path, tmp_path, sample_packing=True, share_prefixes=True, sequence_len=128, **values)
        layout = packed.choose_layout(plan, model)
        assert layout == packed.Layout(bins=True, share=True)
        assert model.config._attn_implementation == "sdpa"
        batch = packed.collate_packed(plan, model, layout, 0)([ragged_rows(3), ragged_rows(4)])
        assert set(batch["attention_mask"]) == {"full_attention", "sliding_attention"}
        assert len(batch["input_ids"]) == 2
    stateful = make_model("mamba", "eager", torch.float32).to("meta")
    with pytest.raises(UserError, match="sample_packing: true cannot be used with this model"):
        packed.choose_layout(plan, stateful)


def test_a_row_longer_than_a_bin_is_refused(prepare: Prepare) -> None:
    with pytest.raises(UserError, match="the training rows cannot be packed"):
        prepare(data=alike(), sample_packing=True, sequence_len=10)


def test_padding_to_the_sequence_length(prepare: Prepare) -> None:
    training, model = prepare(data=alike(), pad_to_sequence_len=True, sequence_len=64, max_steps=1, eval_strategy="no")
    widths: list[int] = []
    model.model.register_forward_hook(
        lambda module, args, kwargs, out: widths.append(out[0].shape[1]), with_kwargs=True
    )
    training.run()
    assert widths == [64]
    assert torch.is_tensor(model.lm_head.weight)
