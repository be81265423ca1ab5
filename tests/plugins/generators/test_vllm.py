"""The vLLM plugin against a stand-in with the signatures of vLLM's documentation, which computes with transformers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from core.check.problems import check_recipe
from core.errors import UserError
from core.evaluation import evaluate
from core.host import load_host
from core.models import save_model
from core.recipe import load_recipe
from core.testing.recipes import write_tiny_recipe
from core.types import GenerationRequest, Generator
from plugins.generators import vllm as plugin
from tests.core.evaluation.conftest import host, prepared  # noqa: F401 (fixtures)

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm.config.lora.MaxLoRARanks


@dataclass
class SamplingParams:
    """The documented fields that have to do with greedy answers; another name is a TypeError, as with vLLM."""

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    stop: list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    max_tokens: int | None = 16
    min_tokens: int = 0
    logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str = ""


class LLM:
    made: ClassVar[list[LLM]] = []

    def __init__(
        self,
        model: str,
        *,
        tokenizer: str | None = None,
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        dtype: str = "auto",
        quantization: str | None = None,
        revision: str | None = None,
        seed: int | None = None,
        gpu_memory_utilization: float = 0.9,
        enforce_eager: bool = False,
        # of EngineArgs, which further keywords go to
        max_model_len: int | None = None,
        enable_lora: bool = False,
        max_lora_rank: int = 16,
    ) -> None:
        assert 0 < gpu_memory_utilization < 1
        assert max_lora_rank in LORA_RANKS
        self.__dict__.update({name: value for name, value in locals().items() if name != "self"})
        LLM.made.append(self)

    def generate(
        self,
        prompts: list[dict[str, list[int]]],
        sampling_params: SamplingParams | None = None,
        *,
        use_tqdm: bool = True,
        lora_request: LoRARequest | None = None,
    ) -> list[Any]:
        from peft import PeftModel
        from transformers import AutoModelForCausalLM

        assert sampling_params is not None
        assert sampling_params.temperature == 0
        assert self.enable_lora or lora_request is None
        assert not (self.skip_tokenizer_init and sampling_params.detokenize)
        model: Any = AutoModelForCausalLM.from_pretrained(self.model, dtype=self.dtype)
        if lora_request is not None:
            rank = json.loads((Path(lora_request.lora_path) / "adapter_config.json").read_text())["r"]
            assert rank <= self.max_lora_rank
            model = PeftModel.from_pretrained(model, lora_request.lora_path, torch_device="cpu")
        return [self._answer(model.eval(), prompt["prompt_token_ids"], sampling_params) for prompt in prompts]

    def _answer(self, model: Any, ids: list[int], params: SamplingParams) -> Any:
        ends = set(params.stop_token_ids or ())
        if not params.ignore_eos:
            own = model.generation_config.eos_token_id
            ends |= set(own if isinstance(own, list) else [own])
        assert self.max_model_len is not None
        assert len(ids) < self.max_model_len
        answer: list[int] = []
        with torch.no_grad():
            while len(answer) < (params.max_tokens or 0) and len(ids) + len(answer) < self.max_model_len:
                logits = model(torch.tensor([[*ids, *answer]])).logits[0, -1]
                answer.append(int(logits.argmax()))
                if answer[-1] in ends:
                    break
        return SimpleNamespace(outputs=[SimpleNamespace(index=0, text="", token_ids=answer, logprobs=None)])


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package `vllm` that is the stand-in."""
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.LLM, package.SamplingParams, request.LoRARequest = LLM, SamplingParams, LoRARequest  # type: ignore[attr-defined]
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    LLM.made.clear()
    yield
    LLM.made.clear()


def on_a_gpu(request: GenerationRequest) -> list[list[int]]:
    """The plugin's answers where torch says that there is a CUDA device."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "mem_get_info", lambda: (6 * 2**30, 8 * 2**30))
        return plugin.generate(request)


def test_its_answers_are_those_of_core(prepared: Any, installed: None) -> None:  # noqa: F811
    plan, data, tokenizer = prepared({"compare": ["base", "tuned"], "limit": 4}, adapter="lora", lora_r=12)
    torch.manual_seed(1)
    model = plan.adapter.build(plan)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.3)
    save_model(plan, model, tokenizer)
    own = evaluate(plan, model, tokenizer, data, ("base", "tuned")).columns
    engine = replace(plan, evaluation=replace(plan.evaluation, generator=Generator("vllm", on_a_gpu)))
    other = evaluate(engine, model, tokenizer, data, ("base", "tuned")).columns
    for name in ("base", "tuned"):
        assert [(one.text, one.stopped) for one in other[name].generations] == [
            (one.text, one.stopped) for one in own[name].generations
        ]
    base, tuned = LLM.made
    assert (base.enable_lora, tuned.enable_lora, tuned.max_lora_rank) == (False, True, 16)
    assert base.dtype == own["base"].facts["dtype"]
    assert base.skip_tokenizer_init
    assert base.gpu_memory_utilization == pytest.approx(0.9 * 6 / 8)


def test_an_answer_ends_by_the_stop_ids_of_the_request_alone(tiny_model: Path, installed: None) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model))
    prompt = tokenizer("Is 2 even?")["input_ids"]

    def ask(stop_ids: set[int]) -> list[int]:
        asked = GenerationRequest([prompt], frozenset(stop_ids), 6, tokenizer, str(tiny_model), dtype="float32")
        (answer,) = on_a_gpu(asked)
        return answer

    free = ask(set())
    assert len(free) == 6
    assert ask({free[0]}) == free[:1], "the token that ended it is part of the answer"
    assert LLM.made[0].max_model_len == len(prompt) + 6


def test_without_a_device_it_says_so(tiny_model: Path, installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    request = GenerationRequest([[5]], frozenset({2}), 4, None, str(tiny_model))  # type: ignore[arg-type]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a CUDA device"):
        plugin.generate(request)


def problems(folder: Path, model: Path, evaluation: dict[str, Any], **values: Any) -> list[Any]:
    (folder / "test.jsonl").write_text(json.dumps({"instruction": "a", "input": "", "output": "b"}) + "\n")
    held_out = {"datasets": [{"path": str(folder / "test.jsonl"), "type": "alpaca"}], "generator": "vllm"}
    path = write_tiny_recipe(folder, model, {"evaluation": {**held_out, **evaluation}, **values})
    return [one for one in check_recipe(load_recipe(path), load_host()) if "vllm" in one.message]


def test_a_recipe_without_the_package_is_told_what_to_install(tmp_path: Path, tiny_model: Path) -> None:
    if "vllm" in sys.modules or plugin.find_spec("vllm") is not None:
        pytest.skip("vllm is installed")
    (found,) = problems(tmp_path, tiny_model, {})
    assert "needs the package vllm, which is not installed" in found.message
    assert found.blocks_run
    assert found.position is not None
    assert found.position.line > 1
    assert "pip install 'tunesmith[vllm]'" in found.help


@pytest.mark.parametrize("scored", [{"generator": "vllm"}, {"price": {"columns": {"base": {"per_hour": 2.0}}}}])
@pytest.mark.parametrize("entry", [{"name": "x"}, {"merged": None}])
def test_an_entry_that_is_no_column_is_told_beside_a_generator_or_a_price(
    tmp_path: Path, tiny_model: Path, scored: dict[str, Any], entry: dict[str, Any]
) -> None:
    evaluation = {"datasets": [{"path": "test.jsonl", "type": "alpaca"}], "compare": ["base", entry], **scored}
    path = write_tiny_recipe(tmp_path, tiny_model, {"evaluation": evaluation}, held_out=[{}])
    (found,) = [one for one in check_recipe(load_recipe(path), load_host()) if one.severity == "error"]
    assert "'evaluation.compare.1' is no column: it names none" in found.message


@pytest.mark.parametrize(
    ("evaluation", "values", "message", "key"),
    [
        ({"compare": ["base", "merged"]}, {}, "'merged' is made in memory", ("evaluation", "compare", 1)),
        ({"compare": [{"tuned": {"load_in_8bit": True}}]}, {}, "'tuned-8bit' is made", ("evaluation", "compare", 0)),
        ({}, {"adapter": "lora", "peft_use_dora": True}, "with peft_use_dora", ("peft_use_dora",)),
        ({}, {"adapter": "lora", "lora_modules_to_save": ["lm_head"]}, "_to_save", ("lora_modules_to_save",)),
        ({}, {"adapter": "lora", "lora_r": 600}, "up to rank 512", ("lora_r",)),
        ({}, {"adapter": "qlora", "load_in_4bit": True}, "load_in_4bit packs them", ("evaluation", "generator")),
    ],
)
def test_what_it_cannot_answer_is_told_before_the_training(
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluation: dict[str, Any],
    values: dict[str, Any],
    message: str,
    key: tuple[Any, ...],
) -> None:
    monkeypatch.setattr(plugin, "find_spec", lambda name: object())
    (found,) = problems(tmp_path, tiny_model, evaluation, **values)
    assert message in found.message
    assert (found.severity, found.key) == ("error", key)
    assert found.help
