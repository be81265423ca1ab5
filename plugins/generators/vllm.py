"""`vllm`: answers by the engine of that name, for CUDA devices (extra `vllm`)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from core import GenerationRequest, Generator, Problem, Recipe, UserError, hookimpl

NAME = "vllm"
SPARED = 0.1  # of the memory that is free when the engine starts


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
        dtype=request.dtype,
        seed=request.seed,
        enable_lora=request.adapter is not None,
        gpu_memory_utilization=(1 - SPARED) * free / total,
        **({"max_lora_rank": _rank(request.adapter)} if request.adapter else {}),
    )
    sampling = SamplingParams(
        temperature=0.0,
        max_tokens=request.max_new_tokens,
        stop_token_ids=sorted(request.stop_ids),
        detokenize=False,
    )
    prompts = [{"prompt_token_ids": list(ids)} for ids in request.prompts]
    adapter = LoRARequest("tuned", 1, request.adapter) if request.adapter else None
    outputs = engine.generate(prompts, sampling, lora_request=adapter)
    return [list(output.outputs[0].token_ids) for output in outputs]


def _rank(adapter: str) -> int:
    """The rank that the engine has to make room for: the next one it knows."""
    import json
    from pathlib import Path

    wanted = int(json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8")).get("r", 8))
    return next((rank for rank in (8, 16, 32, 64, 128, 256, 320, 512) if rank >= wanted), wanted)


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """The package is installed where a recipe asks for it."""
    settings = recipe["evaluation"]
    if not isinstance(settings, Mapping) or settings.get("generator") != NAME or find_spec("vllm") is not None:
        return []
    missing: dict[str, Any] = {"severity": "warning", "blocks_run": True}
    return [
        Problem(
            "the generator 'vllm' needs the package vllm, which is not installed",
            key=("evaluation", "generator"),
            at="value",
            help="pip install 'tunesmith[vllm]', or leave evaluation.generator out",
            **missing,
        )
    ]


@hookimpl
def generators() -> list[Generator]:
    return [Generator(NAME, generate, description="The vLLM engine, on a CUDA device.")]
