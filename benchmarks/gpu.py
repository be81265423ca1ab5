"""Training speed and memory on one GPU, with random weights made on the device: no network, no files, ten minutes.

    python benchmarks/gpu.py [--cases NAME,NAME] [--minutes 10] [--attention sdpa] [--json FILE]

Wheels it wants, beside this project: torch built for CUDA 12.6 or newer, bitsandbytes (the QLoRA cases), and, for what
they are compared with, trl and liger-kernel; flash-attn is used where it is installed, torch's own attention elsewhere
(`--attention flex_attention` compares the third). Full tuning rounds updates of weights in bfloat16 stochastically.
Written for one H100 with 80 GB. Without a GPU every case runs at toy size, to show that the script works, and each
figure says "not measured". One GPU proves nothing about several.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

STEPS, WARM_UP = 6, 2
MEAN_DOCUMENT = 600  # tokens; the last quarter of each document is trained
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Shape:
    """A Llama shape."""

    hidden: int
    inner: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int = 128256
    tied: bool = False


SHAPES = {
    "1B": Shape(2048, 8192, 16, 32, 8, tied=True),
    "8B": Shape(4096, 14336, 32, 32, 8),
    "70B": Shape(8192, 28672, 80, 64, 8),
    "toy": Shape(32, 64, 2, 4, 2, vocabulary=256),
}


@dataclass(frozen=True)
class Case:
    """What is trained: approach `lora`, `qlora` or `full`; length: tokens of a packed bin. goal: in words."""

    name: str
    shape: str
    approach: str
    length: int
    checkpointing: bool = False
    goal: str = ""
    peer: bool = False


CASES = (
    Case("8B LoRA 4k", "8B", "lora", 4096, goal="≥ 60 % of the matrix-product rate; ≥ 1.3 x TRL", peer=True),
    Case("70B QLoRA 2k", "70B", "qlora", 2048, checkpointing=True, goal="peak ≤ 46 GiB"),
    Case("8B LoRA 2k", "8B", "lora", 2048),
    Case("8B LoRA 8k", "8B", "lora", 8192, checkpointing=True),
    Case("8B QLoRA 2k", "8B", "qlora", 2048),
    Case("8B QLoRA 4k", "8B", "qlora", 4096, peer=True),
    Case("8B QLoRA 8k", "8B", "qlora", 8192, checkpointing=True),
    Case("1B full 4k", "1B", "full", 4096, peer=True),
)


def build(shape: Shape, approach: str, device: Any, dtype: Any, *, checkpointing: bool, attention: str = "sdpa") -> Any:
    """A model of random weights, made layer by layer on the device; a 4-bit one never exists unquantised."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=131072,
    )
    config.rope_parameters = {"rope_type": "default", "rope_theta": 500000.0}
    with torch.device("meta"):
        model = LlamaForCausalLM._from_config(config, dtype=dtype, attn_implementation=attention)
    with torch.device(device):
        rotary = type(model.model.rotary_emb)(config)  # its buffers are computed, not drawn
    for parent_name, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear and approach == "qlora" and name != "lm_head":
                setattr(parent, name, _four_bit(child, device, dtype))
            elif parent_name + name and next(child.parameters(recurse=False), None) is not None:
                child.to_empty(device=device, recurse=False)
                for parameter in child.parameters(recurse=False):
                    drawn = torch.ones_like(parameter) if parameter.dim() == 1 else torch.randn_like(parameter) * 0.02
                    parameter.data.copy_(drawn)
    model.model.rotary_emb = rotary
    model.tie_weights()
    model.config.use_cache = False
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if approach == "full":
        return model.train()
    from peft import LoraConfig, get_peft_model

    model.requires_grad_(False)
    if checkpointing:
        model.enable_input_require_grads()
    lora = LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear")
    return get_peft_model(model, lora).train()


def _four_bit(layer: Any, device: Any, dtype: Any) -> Any:
    import bitsandbytes as bnb
    import torch

    packed = bnb.nn.Linear4bit(
        layer.in_features, layer.out_features, bias=False, compute_dtype=dtype, quant_type="nf4", device="meta"
    )
    drawn = torch.randn(layer.out_features, layer.in_features, dtype=dtype, device=device) * 0.02
    packed.weight = bnb.nn.Params4bit(drawn, requires_grad=False, quant_type="nf4", compress_statistics=True).to(device)
    return packed


def documents(length: int, vocabulary: int, seed: int) -> list[dict[str, list[int]]]:
    """Rows of unequal length that fill a bin of `length` tokens."""
    import random

    draw = random.Random(seed)
    rows, left = [], length
    mean = min(MEAN_DOCUMENT, max(8, length // 4))
    while left > 8:
        size = min(left, draw.randint(mean // 2, mean * 3 // 2) + 1)
        ids = [draw.randrange(vocabulary) for _ in range(size)]
        rows.append({"input_ids": ids, "labels": [-100] * (size * 3 // 4) + ids[size * 3 // 4 :]})
        left -= size
    return rows


def train_ours(model: Any, case: Case, length: int, device: Any) -> dict[str, float]:
    """Seconds a step, tokens and operations a step, with our packing, head and layers; the peak in bytes."""
    import torch

    from core.kernels import fuse_lora
    from core.packing import collate_bins, lay_out_rows, move_batch, target_hidden, trained_token_loss, unwrapped
    from plugins.trainers.sft.rounding import StochasticRounding

    inner = unwrapped(model)
    if case.approach != "full":
        fuse_lora(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer: Any = torch.optim.AdamW(trained, lr=1e-4, fused=device.type == "cuda")
    if case.approach == "full":
        optimizer = StochasticRounding(optimizer, 0, itertools.count().__next__)
    autocast = torch.autocast(device.type, dtype=torch.bfloat16)
    pairs = targets = 0

    def step(number: int) -> None:
        nonlocal pairs, targets
        b = lay_out_rows(documents(length, inner.config.vocab_size, number), share_prefixes=False)
        batch = move_batch(collate_bins([b], inner.config), device)
        pairs, targets = int((batch["position_ids"] + 1).sum()), len(batch["target_ids"])
        with autocast:
            hidden = target_hidden(model, batch)
        head = inner.get_output_embeddings()
        loss = trained_token_loss(hidden.to(head.weight.dtype), head, batch["target_ids"]) / targets
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds = timed(step, device)
    counted = operations(SHAPES[case.shape] if device.type == "cuda" else SHAPES["toy"], case, length, pairs, targets)
    return {"seconds": seconds, "tokens_per_second": length / seconds, "operations": counted, "peak": peak(device)}


def train_trl(model: Any, case: Case, length: int, device: Any, folder: str) -> dict[str, float]:
    """Tokens a second of TRL's SFTTrainer on rows like ours, packed by itself, with Liger where it is installed."""
    import trl
    from datasets import Dataset
    from transformers import TrainerCallback

    marks: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            synchronise(device)
            marks.append(time.perf_counter())

    vocabulary = model.config.vocab_size
    rows = [row for number in range(STEPS + WARM_UP) for row in documents(length, vocabulary, number)]
    config = trl.SFTConfig(
        output_dir=folder, max_length=length, packing=True, per_device_train_batch_size=1,
        max_steps=STEPS + WARM_UP, bf16=True, gradient_checkpointing=case.checkpointing, report_to="none",
        use_liger_kernel=device.type == "cuda" and find_spec("liger_kernel") is not None, save_strategy="no",
        use_cpu=device.type == "cpu", disable_tqdm=True, eos_token=None, dataset_kwargs={},
    )  # fmt: skip
    trainer = trl.SFTTrainer(
        model, config, train_dataset=Dataset.from_list(rows), processing_class=stand_in(), callbacks=[Watch()]
    )
    trainer.train()
    seconds = (marks[-1] - marks[WARM_UP - 1]) / (len(marks) - WARM_UP)
    return {"seconds": seconds, "tokens_per_second": length / seconds, "peak": peak(device)}


def stand_in() -> Any:
    """A tokenizer without a vocabulary worth the name: the rows are token ids already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"<e>": 0}, unk_token="<e>")), eos_token="<e>", pad_token="<e>"
    )


def operations(shape: Shape, case: Case, tokens: int, pairs: int, targets: int) -> float:
    """Operations of a step; what checkpointing computes again is not counted (see README.md)."""
    head_width = shape.hidden // shape.heads
    weights = shape.layers * shape.hidden * (
        2 * shape.hidden + 2 * head_width * shape.key_value_heads + 3 * shape.inner
    )  # fmt: skip
    per_weight = 6 if case.approach == "full" else 4
    head = targets * shape.vocabulary * shape.hidden * per_weight
    return float(tokens * per_weight * weights + head + 12 * pairs * shape.hidden * shape.layers)


def matrix_product_rate(shape: Shape, tokens: int, device: Any, dtype: Any) -> float:
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


def timed(step: Callable[[int], None], device: Any) -> float:
    """Mean seconds of a step after warming up."""
    for number in range(WARM_UP):
        step(number)
    synchronise(device)
    start = time.perf_counter()
    for number in range(STEPS):
        step(WARM_UP + number)
    synchronise(device)
    return (time.perf_counter() - start) / STEPS


def synchronise(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize()


def peak(device: Any) -> float:
    """Bytes allocated at their highest since the last call; 0 without a GPU."""
    import torch

    if device.type != "cuda":
        return 0.0
    highest = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return float(highest)


def measure(case: Case, device: Any, folder: str, attention: str = "sdpa") -> dict[str, Any]:
    """One case, ours and the peer; at toy size without a GPU."""
    import torch

    real = device.type == "cuda"
    shape, length = (SHAPES[case.shape], case.length) if real else (SHAPES["toy"], 64)
    found: dict[str, Any] = {"case": asdict(case), "measured": real}
    if case.approach == "qlora" and find_spec("bitsandbytes") is None:
        return {**found, "left_out": "bitsandbytes is not installed"}
    for side in ("ours", "trl") if case.peer and find_spec("trl") else ("ours",):
        try:
            how = {"checkpointing": case.checkpointing, "attention": attention}
            model = build(shape, case.approach, device, torch.bfloat16, **how)
            peak(device)
            if side == "ours":
                found[side] = train_ours(model, case, length, device)
            else:
                found[side] = train_trl(model, case, length, device, folder)
        except torch.OutOfMemoryError as error:
            found[side] = {"failed": str(error).splitlines()[0]}
        model = None
        gc.collect()
        if real:
            torch.cuda.empty_cache()
    rate = matrix_product_rate(shape, length, device, torch.bfloat16)
    found["matrix_product_rate"] = rate
    if "operations" in found["ours"]:
        found["of_matrix_product"] = found["ours"]["operations"] / found["ours"]["seconds"] / rate
    return found


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = ["| case | tokens/s | of the matrix-product rate | peak | TRL | goal |", "|---|---|---|---|---|---|"]
    for row in results:
        ours, peer, name, goal = row.get("ours", {}), row.get("trl", {}), row["case"]["name"], row["case"]["goal"]
        if not row["measured"] or "seconds" not in ours:
            why = row.get("left_out") or ours.get("failed") or "no GPU; ran at toy size"
            lines.append(f"| {name} | {NOT_MEASURED} ({why}) | | | | {goal} |")
            continue
        beside = f"{ours['tokens_per_second'] / peer['tokens_per_second']:.2f} x" if "seconds" in peer else ""
        lines.append(
            f"| {name} | {ours['tokens_per_second']:,.0f} | {100 * row['of_matrix_product']:.0f} % "
            f"| {ours['peak'] / 2**30:.1f} GiB | {beside} | {goal} |"
        )
    return "\n".join([*lines, "", "One GPU proves nothing about several."])


def main() -> None:
    import tempfile

    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="names, with commas between; default: all, the ones with goals first")
    parser.add_argument("--minutes", type=float, default=10, help="begin no further case after this long")
    known = ("sdpa", "flex_attention", "flash_attention_2", "flash_attention_3")
    parser.add_argument("--attention", choices=known, help="default: flash attention where it is installed, else sdpa")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    chosen = [c for c in CASES if not arguments.cases or c.name in arguments.cases.split(",")]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    flash = device.type == "cuda" and find_spec("flash_attn") is not None
    attention = arguments.attention or ("flash_attention_2" if flash else "sdpa")
    begun, results = time.monotonic(), []
    for case in chosen:
        if time.monotonic() - begun > 60 * arguments.minutes:
            results.append({"case": asdict(case), "measured": False, "left_out": "no time left"})
            continue
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(case, device, folder, attention))
        print(table(results[-1:]).splitlines()[2], flush=True)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    if arguments.json:
        found = {"device": name, "torch": torch.__version__, "attention": attention, "cases": results}
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{name}\n{table(results)}")


if __name__ == "__main__":
    main()
