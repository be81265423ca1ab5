"""Flash attention by itself: taken where it is installed, goes with the model and pays; said either way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from datasets import Dataset
from transformers.utils import import_utils

from core.types import Data
from plugins.trainers.sft import flash
from plugins.trainers.sft.flash import choose_attention, costs, flash_attention, planned_sharing
from plugins.trainers.sft.packed import Layout, collate_packed
from tests.core.packing.flash_kernels import Kernels, in_place_of_flash
from tests.core.packing.packing_cases import make_model, ragged_rows
from tests.core.plans import make_test_plan


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """gpu(versions installed, generation of the GPU): what this machine is believed to have."""

    def believe(*versions: int, generation: int = 8) -> Kernels:
        for version in (2, 3):
            monkeypatch.setattr(
                import_utils, f"is_flash_attn_{version}_available", lambda there=version in versions: there
            )
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (generation, 0))
        monkeypatch.setattr(flash, "device_type", lambda: "cuda")
        monkeypatch.setattr(
            "transformers.PreTrainedModel._check_and_adjust_attn_implementation", lambda self, name, **options: name
        )
        return in_place_of_flash(monkeypatch)

    return believe


def model_in(dtype: torch.dtype, kind: str = "llama") -> Any:
    return make_model(kind, "sdpa" if kind != "gemma2" else "eager", dtype)


def rows_alike(prefix: int, own: int, count: int = 40) -> Data:
    """Rows of which the first `prefix` tokens are the same."""
    draw = numpy.random.default_rng(0)
    start = draw.integers(1, 60, prefix).tolist()
    ids = [start + draw.integers(1, 60, own).tolist() for _ in range(count)]
    labels = [[-100] * (prefix + 1) + row[prefix + 1 :] for row in ids]
    return Data(Dataset.from_dict({"input_ids": ids, "labels": labels, "place": [""] * count}), None, (), {})


def make_plan(folder: Path, **values: Any) -> Any:
    return make_test_plan(folder, folder, **{"sample_packing": True, "sequence_len": 128, **values})


@pytest.mark.parametrize(
    ("versions", "generation", "name"),
    [
        ((2,), 8, "flash_attention_2"),
        ((2, 3), 8, "flash_attention_2"),
        ((2, 3), 9, "flash_attention_3"),
        ((3,), 9, "flash_attention_3"),
        ((2, 3), 10, "flash_attention_2"),
        ((3,), 8, None),
        ((2,), 7, None),
        ((), 9, None),
    ],
)
def test_the_version_for_the_gpu(tmp_path: Path, gpu: Any, versions: Any, generation: int, name: str | None) -> None:
    gpu(*versions, generation=generation)
    found, reason = flash_attention(make_plan(tmp_path), model_in(torch.bfloat16))
    assert found == name
    assert ("not installed" in reason) is (not versions)
    assert ("no kernel for this GPU" in reason) is (name is None and bool(versions))


def test_what_it_does_not_go_with(tmp_path: Path, gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu(2, 3, generation=9)
    plan, model = make_plan(tmp_path), model_in(torch.bfloat16)
    model.config.attention_dropout = 0.1
    assert flash_attention(plan, model)[0] == "flash_attention_2"
    found, reason = flash_attention(plan, model_in(torch.float32))
    assert (found, reason) == (None, "flash_attention_3 computes in half precision, and the weights are float32")
    assert flash_attention(plan, model_in(torch.bfloat16, "bloom")) == (
        None, "BloomForCausalLM does not go with flash_attention_3"
    )  # fmt: skip
    # sinks need a kernel of their own
    assert flash_attention(plan, make_model("gpt_oss", "eager", torch.bfloat16))[0] is None
    # the recipe's word, and a processor, leave nothing to say
    assert flash_attention(make_plan(tmp_path, attn_implementation="sdpa"), model_in(torch.bfloat16)) == (None, "")
    monkeypatch.setattr(flash, "device_type", lambda: "cpu")
    assert flash_attention(plan, model_in(torch.bfloat16)) == (None, "")


@pytest.mark.parametrize("kind", ["llama", "gemma2", "gemma3"])
def test_rows_apart_are_computed_with_it(
    tmp_path: Path, gpu: Any, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    kernels = gpu(2)
    model, plan = model_in(torch.bfloat16, kind), make_plan(tmp_path, share_prefixes=False)
    assert choose_attention(plan, model, rows_alike(0, 20), Layout(bins=True)) == Layout(bins=True)
    assert model.config._attn_implementation == "flash_attention_2"
    assert "attention is computed with flash_attention_2: it is installed" in capsys.readouterr().out
    assert kernels.calls  # it was tried
    (part,) = collate_packed(plan, model, Layout(bins=True), 0)([ragged_rows(3)])["parts"]
    assert "cu_seq_lens" in part


def test_rows_that_are_not_packed_are_computed_with_it(tmp_path: Path, gpu: Any) -> None:
    gpu(2)
    model = model_in(torch.bfloat16)
    plan = make_plan(tmp_path, share_prefixes=False, sample_packing=False)
    assert choose_attention(plan, model, rows_alike(0, 20), Layout()) == Layout()
    assert model.config._attn_implementation == "flash_attention_2"


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize(("prefix", "own", "shares"), [(60, 6, True), (1, 60, False)])
def test_what_costs_less_is_taken_where_prefixes_may_be_shared(
    tmp_path: Path, gpu: Any, capsys: pytest.CaptureFixture[str], packing: bool, prefix: int, own: int, shares: bool
) -> None:
    gpu(2)
    data, wanted = rows_alike(prefix, own), Layout(bins=packing, share=True)
    plan = make_plan(tmp_path, sample_packing=packing, share_prefixes="auto", micro_batch_size=4)
    model, shape = model_in(torch.bfloat16), model_in(torch.bfloat16).to("meta")
    setattr(shape, flash.SHAPE_OF, "cuda")
    assert planned_sharing(plan, shape, data, wanted) == Layout(bins=packing, share=shares)
    assert choose_attention(plan, model, data, wanted) == Layout(bins=packing, share=shares)
    taken = "sdpa" if shares else "flash_attention_2"
    assert model.config._attn_implementation == taken
    said = capsys.readouterr().out
    assert f"attention is computed with {taken}: " in said
    assert "sharing prefixes with sdpa costs" in said
    # who insists on sharing gets it
    insisting = make_plan(tmp_path, sample_packing=packing, share_prefixes=True)
    model = model_in(torch.bfloat16)
    assert choose_attention(insisting, model, data, wanted) == planned_sharing(insisting, shape, data, wanted) == wanted
    assert model.config._attn_implementation == "sdpa"
    assert "which share_prefixes: true asks for" in capsys.readouterr().out


def test_costs_are_those_of_the_pairs_each_computes(tmp_path: Path) -> None:
    config = make_model("llama", "sdpa", torch.float32).config
    pair_cost = flash.pair_cost_of(config)
    data = rows_alike(0, 65, count=4)  # of which 64 are computed
    shared, apart = costs(make_plan(tmp_path), config, data, Layout(bins=True, share=True))
    assert shared == pytest.approx(2 * (128 + pair_cost * 128**2 + flash.PASS_TOKENS))
    assert apart == pytest.approx(2 * (128 + flash.PASS_TOKENS) + pair_cost * 4 * 65**2 / 2)


@pytest.mark.parametrize("fault", ["import", "kernel"])
def test_one_that_fails_is_given_up(
    tmp_path: Path, gpu: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    kernels, model = gpu(2), model_in(torch.bfloat16)

    def failing(*args: Any, **kwargs: Any) -> Any:
        raise (ImportError("undefined symbol") if fault == "import" else RuntimeError("head dimension above 256"))

    if fault == "import":
        monkeypatch.setattr(model, "set_attn_implementation", failing)
    else:
        monkeypatch.setattr(kernels, "varlen", failing)
        monkeypatch.setattr(kernels, "plain", failing)
    for layout in (Layout(bins=True), Layout()):
        plan = make_plan(tmp_path, share_prefixes=False, sample_packing=layout.bins)
        assert choose_attention(plan, model, rows_alike(0, 20), layout) == layout
        assert model.config._attn_implementation == "sdpa"
        said = capsys.readouterr().out
        assert "attention is computed with sdpa: flash_attention_2 is installed, but" in said
        assert ("undefined symbol" if fault == "import" else "head dimension above 256") in said
    # the trial of a micro batch's size then goes by what the model has, not by what is installed
    sharing = Layout(bins=True, share=True)
    assert planned_sharing(make_plan(tmp_path), model, rows_alike(1, 60), sharing) == sharing


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ((None, "flash attention is not installed"), "flash attention is not installed, on one of the processes"),
        (("flash_attention_3", "it is installed"), "each process would take another flash attention"),
        ("head dimension above 256", "flash_attention_2 is installed, but head dimension above 256"),
    ],
)
def test_ranks_go_alike(
    tmp_path: Path, gpu: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, other: Any, said: str
) -> None:
    """Rows without shared prefixes on one rank and with them on another would be other batches."""
    gpu(2)
    monkeypatch.setattr(flash, "gather_objects", lambda own: [*own, other if type(own[0]) is type(other) else own[0]])
    model, layout = model_in(torch.bfloat16), Layout(bins=True, share=True)
    assert choose_attention(make_plan(tmp_path), model, rows_alike(1, 60), layout) == layout
    assert model.config._attn_implementation == "sdpa"
    assert capsys.readouterr().out == f"attention is computed with sdpa: {said}\n"


def test_without_the_package_what_is_missing_is_said(
    tmp_path: Path, gpu: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu()
    layout = Layout(bins=True, share=True)
    assert choose_attention(make_plan(tmp_path), model_in(torch.bfloat16), rows_alike(4, 9), layout) == layout
    said = capsys.readouterr().out
    assert said == "attention is computed with sdpa: flash attention is not installed (pip install flash-attn)\n"


def test_a_model_still_to_be_sharded_is_not_tried(tmp_path: Path, gpu: Any) -> None:
    kernels, model = gpu(2), model_in(torch.bfloat16)
    plan = make_plan(tmp_path, share_prefixes=False, fsdp=["full_shard"], fsdp_version=2)
    assert choose_attention(plan, model, rows_alike(0, 20), Layout(bins=True)) == Layout(bins=True)
    assert model.config._attn_implementation == "flash_attention_2"
    assert not kernels.calls


def test_the_planner_asks_for_the_device_that_is_planned_for(tmp_path: Path, gpu: Any) -> None:
    gpu(2)
    shape = make_model("llama", "sdpa", torch.bfloat16).to("meta")
    for device, name in (("cuda", "flash_attention_2"), ("cpu", None)):
        setattr(shape, flash.SHAPE_OF, device)
        assert flash_attention(replace(make_plan(tmp_path), shape_for=device), shape)[0] == name
