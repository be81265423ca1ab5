"""`vllm`: answers by the engine of that name, for CUDA devices (extra `vllm`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from core import GenerationRequest, Generator, Problem, Recipe, UserError, hookimpl

NAME = "vllm"
SPARED = 0.1  # of the memory that is free when the engine starts
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # of LoRA, for which it can make room
# what an adapter may hold that the engine cannot serve
UNSERVED = ("peft_use_dora", "lora_modules_to_save")


def generate(request: GenerationRequest) -> list[list[int]]:
    """The new token ids of each prompt, the one that ended it included. Raises `UserError` without a CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise UserError("the generator 'vllm' needs a CUDA device", help="leave evaluation.generator out")
    from vllm import LLM, SamplingParams
    from vllm.lora.request import LoRARequest

    free, total = torch.cuda.mem_get_info()
    engine = LLM(
        model=request.folder,
        revision=request.revision,
        trust_remote_code=request.trust_remote_code,
        dtype=request.dtype,
        seed=request.seed,
        # it is asked with token ids and answers with them; whether the folder has a tokenizer is not its business
        skip_tokenizer_init=True,
        # as long as these answers can become: a model's own context may need more cache than there is room for
        max_model_len=max(map(len, request.prompts)) + request.max_new_tokens,
        gpu_memory_utilization=(1 - SPARED) * free / total,
        enable_lora=request.adapter is not None,
        **({"max_lora_rank": _rank(request.adapter)} if request.adapter else {}),
    )
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=request.max_new_tokens,
        # these alone end an answer, as everywhere else; the model's own list would be added otherwise
        stop_token_ids=sorted(request.stop_ids),
        ignore_eos=True,
        detokenize=False,
    )
    prompts = [{"prompt_token_ids": list(ids)} for ids in request.prompts]
    adapter = LoRARequest("tuned", 1, request.adapter) if request.adapter else None
    outputs = engine.generate(prompts, sampling_params=sampling, lora_request=adapter)
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    del engine, outputs
    _free()
    return answers


def _rank(adapter: str) -> int:
    """The rank that the engine has to make room for: the next one it knows."""
    import json
    from pathlib import Path

    config = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    wanted = max([int(config.get("r") or 8), *map(int, (config.get("rank_pattern") or {}).values())])
    return next((rank for rank in RANKS if rank >= wanted), wanted)


def _free() -> None:
    """Give the engine's memory back to the training that goes on."""
    import gc

    import torch

    gc.collect()
    torch.cuda.empty_cache()


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """The package is installed where a recipe asks for it, and what it cannot serve is told before the training."""
    settings = recipe["evaluation"]
    if not isinstance(settings, Mapping) or settings.get("generator") != NAME:
        return []
    return [*_missing(), *_unserved(recipe)]


def _missing() -> Iterator[Problem]:
    if find_spec("vllm") is None:
        missing: dict[str, Any] = {"severity": "warning", "blocks_run": True}
        yield Problem(
            "the generator 'vllm' needs the package vllm, which is not installed",
            key=("evaluation", "generator"),
            at="value",
            help="pip install 'tunesmith[vllm]', or leave evaluation.generator out",
            **missing,
        )


def _unserved(recipe: Recipe) -> Iterator[Problem]:
    help = "leave evaluation.generator out: core's own answers with any model"
    if str(recipe["base_model"]).endswith(".gguf"):
        message = "the generator 'vllm' does not read .gguf files"
        yield Problem(message, key=("base_model",), at="value", help=help)
    for key in UNSERVED if recipe["adapter"] in ("lora", "qlora") else ():
        if recipe[key]:
            yield Problem(f"the generator 'vllm' cannot serve an adapter with {key}", key=(key,), help=help)
    rank = recipe["lora_r"]
    if recipe["adapter"] in ("lora", "qlora") and isinstance(rank, int) and rank > RANKS[-1]:
        message = f"the generator 'vllm' serves adapters up to rank {RANKS[-1]}, and this one has {rank}"
        yield Problem(message, key=("lora_r",), at="value", help=help)


@hookimpl
def generators() -> list[Generator]:
    return [Generator(NAME, generate, description="The vLLM engine, on a CUDA device.")]
