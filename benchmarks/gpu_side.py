"""One side of one case of `gpu.py`, in a process of its own: what runs out of memory takes nothing else along.

    python benchmarks/gpu_side.py about|ours|trl FILE [CASE] [--attention sdpa] [--steps 6] [--no-liger]

Writes what it found to FILE, as JSON; also where it failed, as {"failed": reason}.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from gpu_cases import CASES, SHAPES, TOY_LENGTH, Case, build, documents, operations, planned

WARM_UP = 2
PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "trl",
    "liger-kernel",
    "flash-attn",
)
LIGER = {"rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False}


def about() -> dict[str, Any]:
    """The device and the packages."""
    import torch

    found: dict[str, Any] = {"device": "no GPU", "cuda": torch.version.cuda, "memory": 0.0}
    if torch.cuda.is_available():
        found["device"] = torch.cuda.get_device_name()
        found["memory"] = float(torch.cuda.mem_get_info()[1])
        found["free"] = float(torch.cuda.mem_get_info()[0])
    return {**found, "versions": {name: installed(name) for name in PACKAGES}}


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def measure(side: str, case: Case, attention: str, steps: int, *, liger: bool = True) -> dict[str, Any]:
    """What `side` takes of time and memory; at toy size without a GPU."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    real = device.type == "cuda"
    shape, length = (SHAPES[case.shape], case.length) if real else (SHAPES["toy"], TOY_LENGTH)
    liger = liger and real and find_spec("liger_kernel") is not None
    start = time.perf_counter()
    model = build(shape, case, device, torch.bfloat16, attention)
    synchronise(device)
    found: dict[str, Any] = {"measured": real, "liger": liger, "build_seconds": time.perf_counter() - start}
    gc.collect()
    if real:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        found["model"] = torch.cuda.memory_allocated()
    with tempfile.TemporaryDirectory() as folder:
        if side == "ours":
            found |= train_ours(model, shape, case, length, device, steps, liger=liger)
        else:
            found |= train_trl(model, case, length, device, steps, folder, liger=liger)
        if real:
            free, total = torch.cuda.mem_get_info()
            found |= {
                "peak": torch.cuda.max_memory_allocated(),
                "reserved": torch.cuda.max_memory_reserved(),
                "device_used": total - free,  # of all processes, and with the CUDA context
            }
        del model
        gc.collect()
        if side == "ours":
            if real:
                torch.cuda.empty_cache()
            found["matrix_product_rate"] = matrix_product_rate(shape, length, device, torch.bfloat16)
            found["of_matrix_product"] = found["operations"] / found["seconds"] / found["matrix_product_rate"]
            found["planned"] = expected(shape, case, length, Path(folder), total if real else 80 * 2**30)
    return found


def expected(shape: Any, case: Case, length: int, folder: Path, memory: float) -> dict[str, Any]:
    """The planner's figures; what it fails of is written down, and the measurement kept."""
    try:
        return dict(planned(shape, case, length, folder, memory))
    except Exception as error:
        return {"failed": reason(error)}


def train_ours(
    model: Any, shape: Any, case: Case, length: int, device: Any, steps: int, *, liger: bool
) -> dict[str, float]:
    """Seconds a step, and operations a step, with our packing, head and layers."""
    import torch

    from core.kernels import fuse_layers
    from core.packing import collate_bins, lay_out_rows, move_batch, target_hidden, trained_token_loss, unwrapped
    from plugins.trainers.sft.rounding import StochasticRounding

    inner = unwrapped(model)
    if liger:  # as a recipe's liger_* keys would have it
        from liger_kernel.transformers import _apply_liger_kernel_to_instance

        _apply_liger_kernel_to_instance(model=inner, **LIGER)
    fuse_layers(model, norms=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(trained, lr=1e-4, fused=device.type == "cuda")
    if case.approach == "full":
        optimizer = StochasticRounding(optimizer, 0, itertools.count().__next__)
    pairs = targets = 0

    def step(number: int) -> None:
        nonlocal pairs, targets
        b = lay_out_rows(documents(length, shape.vocabulary, number), share_prefixes=False)
        laid_out = collate_bins([b], inner.config)
        pairs, targets = int((laid_out["position_ids"] + 1).sum()), len(laid_out["target_ids"])
        batch = move_batch(laid_out, device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            hidden = target_hidden(model, batch)
        head = inner.get_output_embeddings()
        loss = trained_token_loss(hidden.to(head.weight.dtype), head, batch["target_ids"]) / targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())

    losses: list[Any] = []
    seconds = timed(step, device, steps)
    return {
        "seconds": seconds,
        "tokens_per_second": length / seconds,
        "operations": operations(shape, case.approach, length, pairs, targets),
        "loss": float(losses[-1]),
    }


def train_trl(
    model: Any, case: Case, length: int, device: Any, steps: int, folder: str, *, liger: bool
) -> dict[str, float]:
    """The same of TRL's SFTTrainer on rows like ours, packed by itself: tokens of a step are the mean of its bins."""
    import trl
    from datasets import Dataset
    from transformers import TrainerCallback

    marks: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            synchronise(device)
            marks.append(time.perf_counter())

    vocabulary = model.config.vocab_size
    rows = [row for number in range(steps + WARM_UP + 1) for row in documents(length, vocabulary, number)]
    config = trl.SFTConfig(
        output_dir=folder, max_length=length, packing=True, per_device_train_batch_size=1,
        max_steps=steps + WARM_UP, bf16=True, gradient_checkpointing=case.checkpointing, report_to="none",
        use_liger_kernel=liger, save_strategy="no", logging_steps=100,
        use_cpu=device.type == "cpu", disable_tqdm=True, eos_token=None, dataset_kwargs={},
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model, config, train_dataset=Dataset.from_list(rows), processing_class=stand_in(), callbacks=[Watch()]
    )
    bins = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    trainer.train()
    seconds = (marks[-1] - marks[WARM_UP - 1]) / (len(marks) - WARM_UP)
    return {"seconds": seconds, "tokens_per_second": sum(bins) / len(bins) / seconds}


def stand_in() -> Any:
    """A tokenizer without a vocabulary worth the name: the rows are token ids already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<e>": 0}, unk_token="<e>")), eos_token="<e>", pad_token="<e>"
    )


def matrix_product_rate(shape: Any, tokens: int, device: Any, dtype: Any) -> float:
    """Operations a second of a product of the shape's widest layer, the best of several."""
    import torch

    left = torch.randn(tokens, shape.hidden, device=device, dtype=dtype)
    right = torch.randn(shape.inner, shape.hidden, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(10):
            torch.nn.functional.linear(left, right)
        synchronise(device)
        best = min(best, (time.perf_counter() - start) / 10)
    return 2 * tokens * shape.hidden * shape.inner / best


def timed(step: Callable[[int], None], device: Any, steps: int) -> float:
    """Mean seconds of a step after warming up."""
    for number in range(WARM_UP):
        step(number)
    synchronise(device)
    start = time.perf_counter()
    for number in range(steps):
        step(WARM_UP + number)
    synchronise(device)
    return (time.perf_counter() - start) / steps


def synchronise(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def reason(error: BaseException) -> str:
    """The error in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300]}" if text else type(error).__name__


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", choices=("about", "ours", "trl"))
    parser.add_argument("file", type=Path)
    parser.add_argument("case", nargs="?", choices=[case.name for case in CASES])
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--no-liger", action="store_true")
    told = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    code = 0
    try:
        if told.side == "about":
            found = about()
        else:
            case = next(case for case in CASES if case.name == told.case)
            found = measure(told.side, case, told.attention, told.steps, liger=not told.no_liger)
    except Exception as error:  # whatever it is, it belongs into the table
        import traceback

        traceback.print_exc()
        found, code = {"failed": reason(error)}, 1
    partial = told.file.with_suffix(".partial")
    partial.write_text(json.dumps(found), encoding="utf-8")
    os.replace(partial, told.file)
    return code


if __name__ == "__main__":
    sys.exit(main())
