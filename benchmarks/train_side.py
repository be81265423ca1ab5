"""One side of `bench_train.py`, in a process of its own: trains a recipe step by step, whenever it is told to.

    python benchmarks/train_side.py ours|trl|trl-unpacked|loop RECIPE

Writes one JSON line per event to stdout and waits on stdin for a line before each step but the first.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

SAMPLES_PER_STEP, SEQUENCE_LEN = 32, 2048
EVENTS = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever else prints goes to stderr


def emit(**event: Any) -> None:
    EVENTS.write(json.dumps(event) + "\n")


class Pace:
    """Measures each step in wall and CPU seconds, and waits for the word to go on."""

    def __init__(self) -> None:
        self.started = float(os.environ["BENCH_STARTED"])
        self.mark = (time.perf_counter(), time.process_time())
        self.steps = 0
        self.counts: dict[str, int] = {}  # of `count_operations`, where they are taken

    def step(self, tokens: int) -> None:
        """Called at the end of a step. tokens: trained so far."""
        wall, cpu = time.perf_counter() - self.mark[0], time.process_time() - self.mark[1]
        since_start = time.time() - self.started if not self.steps else None
        self.steps += 1
        emit(
            event="step",
            seconds=wall,
            cpu=cpu,
            tokens=tokens,
            since_start=since_start,
            **{f"computed_{what}": count for what, count in self.counts.items()},
        )
        sys.stdin.readline()
        self.mark = (time.perf_counter(), time.process_time())


def resident() -> int:
    """Bytes of memory now, after giving back what is free; the peak counts from here."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {name} in /proc/self/status")


def loaded(recipe: Path) -> tuple[Any, Any, Any, Any]:
    """(plan, tokenizer, data, model): the same for every side."""
    from core.data import prepare
    from core.host import load_host
    from core.models import load_tokenizer
    from core.plan import make_plan
    from core.processes import start_processes
    from core.recipe import load_recipe

    plan = make_plan(load_recipe(recipe, []), load_host(), overwrite=True, resume=None, trust_remote_code=False)
    start_processes(plan)
    tokenizer = load_tokenizer(plan)
    data = prepare(plan, tokenizer)
    return plan, tokenizer, data, plan.adapter.build(plan)


def count_operations(model: Any) -> dict[str, int]:
    """Counts, while the model trains, the tokens computed and the pairs of tokens attended."""
    counts = {"tokens": 0, "pairs": 0}

    def count(module: Any, args: Any, kwargs: Any) -> None:
        if module.training:
            counts["tokens"] += kwargs["input_ids"].numel()
            counts["pairs"] += int((kwargs["position_ids"] + 1).sum())

    from core.packing import unwrapped

    unwrapped(model).register_forward_pre_hook(count, with_kwargs=True)
    return counts


def run_ours(recipe: Path) -> None:
    from core import Logger

    plan, tokenizer, data, model = loaded(recipe)
    base = resident()
    pace = Pace()
    pace.counts = count_operations(model)
    from transformers import TrainerCallback

    class Watch(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
            if "loss" in (logs or {}):  # the last thing of every step
                pace.step(logs["tokens"])

    watch = Logger("pace", keys=(), callback=lambda plan: Watch())
    plan = replace(plan, loggers=(*plan.loggers, watch))
    plan.output_dir.mkdir(parents=True, exist_ok=True)
    training = plan.trainer.prepare(plan, model, tokenizer, data)
    result = training.run()
    finish(plan, result.model, data, base, result.tokens, counted=True)


def run_loop(recipe: Path) -> None:
    """What our trainer computes, without our trainer and transformers' around it."""
    import torch
    from torch.utils.data import DataLoader

    from core.kernels import fuse_layers
    from plugins.trainers.sft.batches import RankSampler, UnitRows
    from plugins.trainers.sft.loss import head_of, summed_loss
    from plugins.trainers.sft.packed import choose_layout
    from plugins.trainers.sft.training import training_source

    plan, _, data, model = loaded(recipe)
    base = resident()
    source = training_source(plan, model, data, choose_layout(plan, model))
    fuse_layers(model, norms=True)
    head = head_of(model, chunked=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=plan.recipe["learning_rate"], weight_decay=0.0, fused=True)
    units, sampler = UnitRows(source.dataset, source.plan), RankSampler(source.plan, 0)
    batches = DataLoader(units, batch_sampler=sampler, collate_fn=source.collate)  # type: ignore[arg-type]
    model.train()
    pace, tokens, bf16 = Pace(), 0, bool(plan.recipe["bf16"])
    for batch in batches:
        count = len(batch["target_ids"])
        for part in batch.get("parts", [batch]):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                loss = summed_loss(model, part, head) / count
            loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        assert torch.isfinite(norm)
        optimizer.step()
        optimizer.zero_grad()
        tokens += count
        pace.step(tokens)
    finish(plan, model, data, base, tokens)


def run_trl(recipe: Path, packing: bool) -> None:
    """TRL on the same token ids, labels and model, with whichever settings make it faster here."""
    plan, tokenizer, data, model = loaded(recipe)
    base = resident()
    import trl
    from transformers import TrainerCallback

    rows = data.train.select_columns(["input_ids", "labels"])
    steps = max(1, len(rows) // SAMPLES_PER_STEP)
    if packing:
        # one bin at a time, for TRL masks all bins of a micro batch as one square; as many to a step as make our steps
        bins = len(trl.pack_dataset(rows.with_format("arrow"), SEQUENCE_LEN, "bfd"))
        micro, accumulation = 1, -(-bins // steps)
    else:
        mean = sum(len(ids) for ids in rows["input_ids"]) / len(rows)
        micro = 8 if mean < 300 else 2
        accumulation = SAMPLES_PER_STEP // micro
    pace = Pace()

    class Counting(trl.SFTTrainer):
        tokens = 0

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self.tokens += int((inputs["labels"][..., 1:] != -100).sum())
            return super().compute_loss(model, inputs, *args, **kwargs)

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pace.step(trainer.tokens)

    bf16 = bool(plan.recipe["bf16"])
    config = trl.SFTConfig(
        output_dir=str(plan.output_dir),
        max_length=SEQUENCE_LEN,
        packing=packing,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=1,
        learning_rate=plan.recipe["learning_rate"],
        lr_scheduler_type="constant",
        gradient_checkpointing=False,  # its default, which trades time for memory, is of no use here
        bf16=bf16,
        use_cpu=True,
        optim="adamw_torch_fused",
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=42,
    )
    model.config.use_cache = False
    trainer = Counting(model, config, train_dataset=rows, processing_class=tokenizer, callbacks=[Watch()])
    trainer.train()
    finish(plan, trainer.model, data, base, trainer.tokens)


def finish(plan: Any, model: Any, data: Any, base: int, tokens: int, *, counted: bool = False) -> None:
    """Peak memory, the validation loss by plain padded rows, and where operations were counted, what goes into them."""
    import torch

    peak = status("VmHWM") - base
    model.eval()
    total, targets = 0.0, 0
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(plan.recipe["bf16"])):
        for row in data.val:
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])[1:]
            trained = torch.nonzero(labels != -100).flatten()
            if not len(trained):
                continue
            logits = model(input_ids=ids, logits_to_keep=trained, use_cache=False).logits[0].float()
            total += float(torch.nn.functional.cross_entropy(logits, labels[trained], reduction="sum"))
            targets += len(trained)
    extra = operations(model) if counted else {}
    emit(event="done", peak_bytes=peak, val_loss=total / targets, tokens=tokens, **extra)


def operations(model: Any) -> dict[str, float]:
    """Operations by token, by pair and by trained token (see the README for the formula), and the rate of the model's
    matrix products alone."""
    import torch

    from core.packing import unwrapped

    inner = unwrapped(model)
    config = inner.config
    linear = [
        m.base_layer.weight if hasattr(m, "base_layer") else m.weight
        for n, m in inner.named_modules()
        if (hasattr(m, "base_layer") or type(m) is torch.nn.Linear) and "lora_" not in n.split(".base")[0]
        if not n.endswith(("lm_head", "base_layer"))
    ]
    adapters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    per = {
        "per_token": 4 * sum(w.numel() for w in linear) + 6 * adapters,
        "per_pair": 12 * width * config.num_hidden_layers,
        "per_target": 4 * config.vocab_size * config.hidden_size,
    }
    dtype = torch.bfloat16 if torch.is_autocast_enabled("cpu") or linear[0].dtype == torch.bfloat16 else linear[0].dtype
    shapes = sorted({tuple(w.shape) for w in linear})
    done, seconds = 0.0, 0.0
    for out, into in shapes:
        share = sum(w.shape == (out, into) for w in linear)
        x, w, g = (torch.randn(s, dtype=dtype) for s in ((1024, into), (out, into), (1024, out)))
        for product in (lambda x=x, w=w: x @ w.t(), lambda g=g, w=w: g @ w):
            product()
            best = min(_seconds(product) for _ in range(5))
            done, seconds = done + share * 2 * 1024 * out * into, seconds + share * best
    return {**per, "matrix_product_rate": done / seconds}


def _seconds(product: Any) -> float:
    start = time.process_time()
    for _ in range(4):
        product()
    return (time.process_time() - start) / 4


if __name__ == "__main__":
    side, recipe_file = sys.argv[1], Path(sys.argv[2])
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    if side.startswith("trl"):
        run_trl(recipe_file, packing=side == "trl")
    else:
        {"ours": run_ours, "loop": run_loop}[side](recipe_file)
