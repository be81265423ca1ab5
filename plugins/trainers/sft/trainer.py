"""transformers' Trainer with our data order, our loss and our checkpoints."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments

from core import UserError
from core.evaluation.during import SampleScorer
from core.kernels import fuse_layers
from core.memory import PeakMemory

from .batches import RankSampler, Source, UnitRows
from .checkpoints import Progress
from .loss import head_of, summed_loss
from .out_of_memory import Divider, NumberedRows, numbered
from .packed import on_cpu
from .refused import refused_step
from .rounding import with_small_updates
from .saving import save_checkpoint

Batch = Mapping[str, torch.Tensor]


class SFTTrainer(Trainer):
    """Divides the summed loss by the number of targets in the whole optimizer step, over all micro batches and ranks.

    So the gradient, and the loss that is logged, do not depend on how a step is divided. `progress` records the loss of
    every step. Before the optimizer moves, all ranks agree that loss and gradient are finite, and whether to stop.
    """

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        train: Source,
        val: Source | None,
        tokenizer: Any,
        places: Callable[[Sequence[int]], list[str]],
        progress: Progress,
        scorer: SampleScorer | None = None,
        scored_every: int = 1,
        callbacks: Sequence[Any] = (),
        make_optimizer: Callable[[Any, TrainingArguments], Any] | None = None,
        advice: Callable[[], str] = lambda: "set a smaller micro_batch_size, or gradient_checkpointing: true",
    ) -> None:
        config = getattr(model, "config", None)
        use_cache = getattr(config, "use_cache", None)
        super().__init__(
            model=model,
            args=args,
            train_dataset=UnitRows(train.dataset, train.plan),
            eval_dataset=UnitRows(val.dataset, val.plan) if val else None,
            callbacks=list(callbacks),
            # transformers calls a factory of factories with the model
            optimizer_cls_and_kwargs=(lambda: make_optimizer, {"arguments": args}) if make_optimizer else None,  # type: ignore[arg-type]
        )
        if config is not None and use_cache is not None:
            config.use_cache = use_cache
        self.model_accepts_loss_kwargs = True  # the loss below is already divided by the number of targets
        self.train_source, self.val_source = train, val
        self.tokenizer = tokenizer
        self.output_dir = Path(str(args.output_dir))
        self.places = places
        self.progress = progress
        self.scorer, self.scored_every = scorer, scored_every
        self._scored_step, self._scores = progress.step, dict[str, float]()
        whole = not (self.is_fsdp_enabled or self.is_deepspeed_enabled or args.torch_compile)
        if whole:
            fuse_layers(model, norms=on_cpu(model))
        self.head = head_of(model, chunked=whole and not args.ddp_find_unused_parameters)
        self.sampler = RankSampler(train.plan, self.args.process_index)
        self.divider = Divider(self, self._train_on, advice)
        self.stop_asked = False  # set by a signal on this rank
        self.stopping = False  # agreed by all ranks
        self.paused_seconds = 0.0  # spent on evaluation and checkpoints
        self._started = (time.monotonic(), progress.seconds)
        self._step_loss = torch.zeros((), dtype=torch.float64)
        self._step_targets = 0
        self._grad_norm: float | None = None
        self.saved_step = -1
        self.memory: PeakMemory | None = None
        self._logged = (0.0, 0, time.monotonic(), 0.0)  # summed loss, targets, time and pause at the last log
        self._summed = (0.0, 0)  # summed loss and targets of this call of train()

    # -------------------------------------------------------------- data

    def get_train_dataloader(self) -> DataLoader[Any]:
        """This rank's micro batches, already divided: accelerate must not divide them again."""
        rows, collate = NumberedRows(self.train_dataset), numbered(self.train_source.collate)  # type: ignore[arg-type]
        return self._loader(rows, self.sampler, dataclasses.replace(self.train_source, collate=collate))  # type: ignore[arg-type]

    def _loader(self, dataset: Any, sampler: RankSampler, source: Source) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            batch_sampler=sampler,  # type: ignore[arg-type]
            collate_fn=source.collate,  # type: ignore[arg-type]
            num_workers=0 if source.streamed else self.args.dataloader_num_workers,
            prefetch_factor=None if source.streamed else self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory and self.args.device.type == "cuda",
            generator=torch.Generator(),  # its own, so that an iteration draws nothing from the run's random numbers
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor]:
        """The micro batches of one optimizer step, and the number of targets in it over all ranks."""
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        self.divider.begin(batches)
        targets = torch.tensor(sum(len(batch["target_ids"]) for batch in batches), device=device)
        if self.args.world_size > 1:
            targets = self.accelerator.reduce(targets, "sum")
        self._step_targets = int(targets)
        self._step_loss = torch.zeros((), dtype=torch.float64, device=device)
        return batches, targets

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """transformers' own; one that loses no small update of weights in bfloat16."""
        if self.optimizer is None:
            self.optimizer = with_small_updates(super().create_optimizer(model), self)
        return self.optimizer

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it walks over all parameters in each micro batch."""
        return 0

    # -------------------------------------------------------------- loss

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This micro batch's share of the step's mean loss, times the ranks over whose gradients the mean is taken."""
        summed = summed_loss(model, inputs, self.head)
        self.divider.agree()
        self._step_loss += summed.detach()
        if self.is_deepspeed_enabled and self.accelerator.sync_gradients:
            self._agree_on_loss()  # its optimizer moves at the end of the step's last backward pass
        share: torch.Tensor = summed * (self.args.world_size / max(1, self._step_targets))
        return share

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward pass of a micro batch, in pieces where there is no room for the whole."""
        return self.divider.train(model, inputs, num_items_in_batch)

    def _train_on(self, model: Any, inputs: Any, num_items_in_batch: Any) -> torch.Tensor:
        """Forward and backward pass of a micro batch; part by part where it comes in parts."""
        parts = inputs.get("parts", [inputs])
        total = torch.zeros((), device=self.args.device)
        for part in parts[:-1]:
            with self.accelerator.no_sync(model), self.divider.silent():  # ranks exchange gradients once
                total += super().training_step(model, part, num_items_in_batch)
        return total + super().training_step(model, parts[-1], num_items_in_batch)

    def forget_step(self) -> None:
        """Undo what the current step has computed: gradients and loss."""
        self.model_wrapped.zero_grad()
        self._step_loss = torch.zeros_like(self._step_loss)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm: Any = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        self._grad_norm = None if norm is None else float(norm)
        return norm

    def agree_to_stop(self) -> bool:
        """Whether any rank was asked to stop; all ranks call it at the same point."""
        asked = torch.tensor(float(self.stop_asked), device=self.args.device)
        if self.args.world_size > 1:
            asked = self.accelerator.reduce(asked, "sum")
        self.stopping = self.stopping or float(asked) > 0
        return self.stopping

    def _agree_on_loss(self) -> float:
        """The step's summed loss over all ranks; also whether one is to stop. Raises `UserError` where not finite."""
        shares = torch.stack([self._step_loss, self._step_loss.new_tensor(float(self.stop_asked))])
        if self.args.world_size > 1:
            shares = self.accelerator.reduce(shares, "sum")
        summed, stop = shares.tolist()
        self.stopping = self.stopping or stop > 0
        if not math.isfinite(summed):
            raise refused_step(self, f"loss is {summed}")
        return float(summed)

    def finish_step(self) -> None:
        """Called before the optimizer moves: agree with the other ranks, record the loss, refuse what is not finite.

        Raises `UserError` on every rank, with the places of the rows, and leaves the weights as they were.
        """
        summed = self._agree_on_loss()
        # a gradient scaler finds its scale by overflowing, and skips those steps by itself
        if self._grad_norm is not None and not math.isfinite(self._grad_norm) and not self.args.fp16:
            raise refused_step(self, f"gradient norm is {self._grad_norm}")
        self._summed = (self._summed[0] + summed, self._summed[1] + self._step_targets)
        self.progress.losses.append(summed / max(1, self._step_targets))
        self.progress.tokens += self._step_targets

    # -------------------------------------------------------------- logs

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs with the loss per trained token of the steps since the last log, trained tokens, and their rate."""
        if "loss" in logs:
            now = time.monotonic()
            summed, targets, then, paused = self._logged
            fresh = self._summed[1] - targets
            logs["loss"] = (self._summed[0] - summed) / max(1, fresh)
            logs["tokens"] = self.progress.tokens
            logs["tokens_per_second"] = fresh / max(1e-9, now - then - (self.paused_seconds - paused))
            self._logged = (*self._summed, now, self.paused_seconds)
        if "train_loss" in logs:
            logs["train_loss"] = self._summed[0] / max(1, self._summed[1])
        # transformers counts micro batches, of which the last step may have fewer
        self.state.epoch = self.state.global_step / self.train_source.plan.steps_per_epoch
        super().log(logs, start_time)

    def watch(self, memory: PeakMemory) -> None:
        """Note in every checkpoint what `memory` has measured by then."""
        self.memory = memory

    def start_clock(self) -> None:
        """Count time from now on."""
        self._started = (time.monotonic(), self.progress.seconds)
        self._logged = (*self._summed, time.monotonic(), self.paused_seconds)

    def seconds(self) -> float:
        """Time spent on the training so far, evaluation, checkpoints and earlier parts of a resumed run included."""
        start, before = self._started
        return before + time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent in here is not training time, for the rate of tokens."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.paused_seconds += time.monotonic() - start

    # -------------------------------------------------------------- evaluation

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Mean loss per target over the validation data, on all ranks together; when it is time, with the metrics of
        the sample that is scored by generation."""
        assert self.val_source is not None
        with self.paused():
            start = time.monotonic()
            model = self.model_wrapped
            model.eval()
            evaluating = getattr(self.optimizer, "eval", None)
            if callable(evaluating):
                evaluating()  # schedule-free optimizers keep two sets of weights
            sampler = RankSampler(self.val_source.plan, self.args.process_index)
            totals = torch.zeros(2, dtype=torch.float64, device=self.args.device)
            with torch.no_grad():
                for batch in self._loader(self.eval_dataset, sampler, self.val_source):
                    batch = self._prepare_inputs(batch)
                    totals[0] += summed_loss(model, batch, self.head)
                    totals[1] += len(batch["target_ids"])
            if self.args.world_size > 1:
                totals = self.accelerator.reduce(totals, "sum")
            summed, targets = totals.tolist()
            metrics = {
                f"{metric_key_prefix}_loss": summed / max(1, targets),
                **{f"{metric_key_prefix}_{name}": value for name, value in self._sample_scores(model).items()},
                f"{metric_key_prefix}_seconds": time.monotonic() - start,
            }
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _sample_scores(self, model: Any) -> dict[str, float]:
        """The figures of the sample, where `scored_every` steps have passed since they were last asked for."""
        step = self.state.global_step
        if self.scorer is None:
            return {}
        if step // self.scored_every == self._scored_step // self.scored_every:
            return self._scores if step == self._scored_step else {}
        try:
            self._scored_step, self._scores = step, self.scorer.score(model)
        except UserError as error:
            save_checkpoint(self)  # on every rank, as the error is raised on every rank
            error.help = f"{error.help}; training is saved up to step {step}: go on from there with --resume"
            raise
        return self._scores

    # -------------------------------------------------------------- checkpoints

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        save_checkpoint(self)
