"""Builds the training of a plan, and runs it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, PrinterCallback

from core import Data, Plan, Training, TrainResult, UserError
from core.console import say
from core.evaluation.during import make_sample_scorer
from core.memory import PeakMemory, give_back, returned_at_once
from core.models.parameters import parameter_counts
from core.packing import pair_cost_of, unwrapped
from core.planner.advice import advice_at_one_row
from core.processes import barrier, device_type, gather_objects, rank, seed_everything, world_size

from .arguments import generation_steps, total_steps, training_arguments
from .batches import BatchPlan, Source, row_lengths
from .callbacks import BarCallback, MetricsCallback, StepCallback, progress_callback, stop_on_signal
from .checkpoints import Progress, find_checkpoint, read_progress, refuse_other_setup
from .collate import collate_padded, without_targets
from .flash import choose_attention
from .micro_batch import settled
from .muon import make_muon
from .out_of_memory import told_elsewhere
from .packed import (
    Collate,
    Layout,
    Rows,
    bin_positions,
    choose_layout,
    collate_packed,
    collate_shared,
    pack,
    rows_of,
    say_balance_of_rows,
    say_packing,
    sharing_pays,
)
from .positions import refuse_missing_places
from .resumed import refuse_other_model
from .streamed import streamed_source
from .trainer import SFTTrainer


def prepare_training(plan: Plan, model: Any, tokenizer: Any, data: Data) -> Training:
    """Make everything ready on every rank; nothing is trained or written yet.

    Raises `UserError` for keys that do not go together, a missing package, or a checkpoint that cannot be gone on from.
    """
    refuse_missing_places(plan, model, data)
    layout = choose_attention(plan, model, data, choose_layout(plan, model))
    plan, division = settled(plan, model, data)
    recipe = plan.recipe
    train = training_source(plan, model, data, layout)
    val = _validation(plan, model, data, layout) if data.val is not None and len(data.val) else None
    scorer = make_sample_scorer(plan, model, tokenizer, data)
    scored = scorer.metrics if scorer else {}
    arguments = training_arguments(plan, train.plan, validates=val is not None, scored=scored)
    setup: dict[str, Any] = {
        "rows": len(train.plan.rows),
        "rows_per_step": train.plan.units_per_step,
        "seed": train.plan.seed,
    }
    if data.stream is not None:
        setup |= {"rows": "streamed", "buffer": data.stream.buffer}
    if layout.bins:
        setup |= {"sequence_len": recipe["sequence_len"], "share_prefixes": layout.share}
    asked_for_latest = not recipe["auto_resume_from_checkpoints"] or bool(recipe["resume_from_checkpoint"])
    checkpoint = find_checkpoint(plan.resume_from, plan.output_dir, required=asked_for_latest)
    progress = read_progress(checkpoint) if checkpoint else Progress(setup=setup)
    if checkpoint:
        refuse_other_setup(progress, setup, checkpoint)
        refuse_other_model(model, checkpoint)
        say(f"resuming after step {progress.step} from {checkpoint}")
    counts = parameter_counts(model)
    say(f"training {counts[0]:,} of {counts[1]:,} parameters ({share(*counts)})")

    steps = StepCallback(
        watchdog_threshold=recipe["loss_watchdog_threshold"], watchdog_patience=recipe["loss_watchdog_patience"] or 3
    )
    early = [EarlyStoppingCallback(recipe["early_stopping_patience"])] if recipe["early_stopping_patience"] else []
    trainer = SFTTrainer(
        model,
        arguments,
        train=train,
        val=val,
        tokenizer=tokenizer,
        places=train.dataset.places if train.streamed else lambda rows: _places(data.train, rows),
        progress=progress,
        scorer=scorer,
        scored_every=_scored_every(plan, train.plan) if scorer else 1,
        advice=lambda: advice_at_one_row(plan, data),
        make_optimizer=make_muon if recipe["optimizer"] == "muon" else None,
        callbacks=[*early, steps, *(logger.callback(plan) for logger in plan.loggers)],
    )
    steps.trainer = trainer
    trainer.remove_callback(PrinterCallback)
    _refuse_missing_optimizer(trainer, model)
    _shard_for_generation(trainer)
    prepared: Any = trainer.model
    return Training(
        prepared,
        lambda: replace(_run(plan, trainer, steps, checkpoint, counts), division=trainer.divider.keys() or division),
    )


def _places(rows: Any, numbers: Sequence[int]) -> list[str]:
    return rows[list(numbers)]["place"] if "place" in rows.column_names else []


def _scored_every(plan: Plan, batches: BatchPlan) -> int:
    """How many steps lie between two scorings by generation: they come with an evaluation, each one where such a metric
    chooses the checkpoint."""
    chosen = str(plan.recipe["metric_for_best_model"] or "eval_loss").removeprefix("eval_")
    return 1 if chosen != "loss" else generation_steps(plan, batches)


def share(trained: int, total: int) -> str:
    """`trained` as a percentage of `total`: two decimals, more where it would round to nothing."""
    percent = 100 * trained / max(1, total)
    return f"{percent:.2f} %" if percent >= 0.01 or trained == 0 else f"{percent:.2g} %"


def training_source(plan: Plan, model: Any, data: Data, layout: Layout) -> Source:
    """How the training rows become batches."""
    recipe = plan.recipe
    micro = recipe["micro_batch_size"] or 4
    accumulation = recipe["gradient_accumulation_steps"] or 1
    if recipe["batch_size"] and "gradient_accumulation_steps" not in recipe:
        accumulation = max(1, recipe["batch_size"] // micro)
    options = {
        "accumulation": accumulation,
        "seed": recipe["seed"] if recipe["seed"] is not None else 42,
        "group_by_length": bool(recipe["group_by_length"]),
    }
    source = _batches(plan, model, data.train, data.pad_token_id, layout, "training", micro, options)
    return source if data.stream is None else streamed_source(plan, source, data.stream, layout)


def _validation(plan: Plan, model: Any, data: Data, layout: Layout) -> Source:
    """How the validation rows become batches; in their own order."""
    recipe = plan.recipe
    if recipe["eval_sample_packing"] is False and layout.bins:
        layout = Layout(share=layout.share)
    size = recipe["eval_batch_size"] or recipe["micro_batch_size"] or 4
    return _batches(plan, model, data.val, data.pad_token_id, layout, "validation", size, {"shuffle": False})


def _batches(
    plan: Plan,
    model: Any,
    dataset: Any,
    pad: int,
    layout: Layout,
    name: str,
    size: int,
    options: dict[str, Any],
) -> Source:
    """The one place that knows whether a unit is a row or a packed bin of rows."""
    rows: Sequence[tuple[int, ...]] = [(number,) for number in range(len(dataset))]
    lengths: Sequence[int] = row_lengths(dataset)
    dataset = dataset.select_columns(["input_ids", "labels"])
    pad_to = (plan.recipe["sequence_len"] or 0) if plan.recipe["pad_to_sequence_len"] else 0

    def padded(units: Sequence[Rows]) -> dict[str, Any]:
        return collate_padded(rows_of(units), pad, pad_to)

    form: Collate = padded
    if layout.bins:
        packing = pack(dataset, plan, layout, name)
        rows, lengths = packing.bins, packing.sizes
        form = collate_packed(plan, model, layout, pad)
    batches = BatchPlan(rows, lengths, size, world_size=world_size(), even=layout.bins, **options)
    if layout.bins:
        say_packing(packing, batches, bin_positions(plan, model, packing), name)
    elif layout.share:
        pair_cost = pair_cost_of(unwrapped(model).config)
        shared = collate_shared(plan, model, pair_cost, pad)
        if sharing_pays(dataset, batches, shared, pair_cost, name=name, insisted=plan.recipe["share_prefixes"] is True):
            form, batches = shared, replace(batches, even=True)
    if name == "training" and not layout.bins:
        say_balance_of_rows(dataset, batches, pad_to)

    def collate(batch: tuple[bool, list[list[dict[str, Any]]]]) -> dict[str, Any]:
        counted, units = batch
        return form(units) if counted else without_targets(form(units))

    return Source(dataset, batches, collate)


def _refuse_missing_optimizer(trainer: SFTTrainer, model: Any) -> None:
    """Ask for the optimizer's class now, so that a missing package is known before anything is computed."""
    try:
        trainer.get_optimizer_cls_and_kwargs(trainer.args, model)
    except (ImportError, ValueError, RuntimeError) as error:
        name = getattr(trainer.args.optim, "value", trainer.args.optim)
        raise UserError(
            f"optimizer {name!r} cannot be used here: {error}",
            help="install the package it names, or choose another optimizer, such as adamw_torch_fused",
        ) from error


def _shard_for_generation(trainer: SFTTrainer) -> None:
    """Under FSDP only rank 0 may hold real weights until the model is sharded, and generation comes before training."""
    if trainer.is_fsdp_enabled:
        trainer.model = trainer.model_wrapped = trainer.accelerator.prepare(trainer.model)


def _run(
    plan: Plan, trainer: SFTTrainer, steps: StepCallback, checkpoint: Path | None, counts: tuple[int, int]
) -> TrainResult:
    """Train to the end, or to a clean stop.

    Raises `UserError` for a loss that is not finite or a checkpoint that cannot be written, and `KeyboardInterrupt`
    after a stop that was asked for, when the checkpoint is saved.
    """
    batches = trainer.sampler.plan
    total = total_steps(plan, batches)
    seed_everything(batches.seed + rank())  # whatever evaluation drew before does not change the training
    metrics = MetricsCallback(plan.output_dir, resumed_step=trainer.progress.step)
    shown = progress_callback()
    trainer.add_callback(metrics)
    trainer.add_callback(shown)
    units = "bins" if plan.recipe["sample_packing"] else "rows"
    passes = f"{total / batches.steps_per_epoch:,.2f}".rstrip("0").rstrip(".")
    streamed = trainer.train_source.streamed
    warmup = trainer.args.get_warmup_steps(total)
    held = f"{units} read while training" if streamed else f"{len(batches.rows):,} {units}, {passes} times each"
    say(
        f"{total:,} step{'' if total == 1 else 's'} of {batches.units_per_step} {units} "
        f"({batches.micro_batch_size} x {batches.accumulation} accumulated x {batches.world_size} "
        f"process{'es' if batches.world_size > 1 else ''}), {held}, "
        f"{warmup:,} step{'' if warmup == 1 else 's'} to warm up"
    )
    give_back()  # what loading and scoring left is not the training's
    memory = PeakMemory().start()
    trainer.watch(memory)
    trainer.start_clock()
    try:
        with stop_on_signal(trainer), _without_gaps(plan), told_elsewhere(trainer):
            if checkpoint and trainer.progress.step >= total:
                say("the checkpoint holds the finished training: nothing left to train")
                trainer._load_from_checkpoint(str(checkpoint))
            else:
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    finally:
        if isinstance(shown, BarCallback):
            shown.close()
        peak = memory.stop()
    barrier()
    if trainer.stopping:
        folder = plan.output_dir / f"checkpoint-{trainer.progress.step}"
        raise KeyboardInterrupt(
            f"saved {folder} after step {trainer.progress.step} of {total}; go on with --resume "
            "(or resume_from_checkpoint in the recipe)"
        )
    if any(gather_objects([trainer.stop_asked])):
        say("the training was done before it could be stopped: what follows goes on; press Ctrl-C again to end it")
    return TrainResult(
        model=trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False),
        losses=tuple(trainer.progress.losses),
        steps=trainer.progress.step,
        seconds=trainer.seconds(),
        tokens=trainer.progress.tokens,
        parameters_trained=counts[0],
        parameters_total=counts[1],
        peak_bytes=max(gather_objects([max(peak, trainer.progress.peak_bytes)])),
        start_bytes=memory.start_bytes,
        earlier_seconds=trainer.progress.earlier_seconds,
        history=tuple(metrics.history),
        stopped=steps.stopped,
        generation=trainer.scorer.facts() if trainer.scorer else None,
        best=_best(trainer),
    )


def _without_gaps(plan: Plan) -> AbstractContextManager[None]:
    """With checkpointing on a processor: what each layer gives back goes to the system.

    The few tensors that stay would lie between gaps that the C library does not use again: on SmolLM2 (LoRA, 2 x 512
    tokens) 1.1 GiB of them, more than checkpointing saves. Without them a run takes 7 % more processor time.
    """
    if plan.recipe["gradient_checkpointing"] and device_type() == "cpu":
        return returned_at_once()
    return nullcontext()


def _best(trainer: SFTTrainer) -> dict[str, Any] | None:
    """What chose the checkpoint that the training ended with."""
    state, arguments = trainer.state, trainer.args
    if not arguments.load_best_model_at_end or not state.best_global_step:
        return None
    metric = str(arguments.metric_for_best_model).removeprefix("eval_")
    return {"metric": metric, "value": state.best_metric, "step": state.best_global_step}
