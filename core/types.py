"""The values that flow through a run, and the components a plugin may offer.

Everything here is a plain frozen dataclass, so a plugin is a name and a few functions. Nothing in this module
imports torch: a component is looked up and checked long before any weight is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, TrainerCallback

    from core.audit.facts import CheckPlan
    from core.host import Host
    from core.lock import Lock
    from core.probes import Probe
    from core.recipe import Recipe
    from core.results import TrainResult

    Tokenizer = PreTrainedTokenizerBase
    Module = torch.nn.Module

Schema = dict[str, Any]
Options = Mapping[str, Any]
Row = Mapping[str, Any]
KeyPath = tuple[str | int, ...]


# ---------------------------------------------------------------- examples: what a format makes of a row


@dataclass(frozen=True)
class Segment:
    """A piece of an example's text.

    `trained` marks text whose tokens carry loss; `answer` marks what evaluation takes as the reference. The end-of-turn
    mark is usually a segment of its own: trained (the model must learn to stop) but not part of the answer.
    """

    text: str
    trained: bool = False
    answer: bool = False


@dataclass(frozen=True)
class Example:
    """One training example: segments of text, or (for tokenised rows) `input_ids` and `labels` of equal length.

    notes: what the user should know about how it was rendered; equal notes are counted and shown once.
    """

    segments: Sequence[Segment] = ()
    input_ids: Sequence[int] | None = None
    labels: Sequence[int] | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Item:
    """One held-out item, as an evaluator sees it.

    prompt: the exact text given to the model. references: acceptable answers, the first is the one shown.
    place: `file:line` of the row. facts: numbers core measured for this item in the column being scored, for evaluators
    that ask for them through `needs` ("latency": `seconds`, `tokens`, `first_token`; "likelihood": `nll` in nats and
    `tokens`; "choices": see `Evaluator`).
    """

    index: int
    row: Row
    prompt: str
    references: tuple[str, ...]
    place: str
    facts: Mapping[str, float] = field(default_factory=dict)


# ---------------------------------------------------------------- components: what a plugin offers


@dataclass(frozen=True)
class Conversation:
    """A row as it would be put to a chat model. instruction: what to do, or None. turns: maps of `role` and `content`,
    up to and with the question; the answer is left out."""

    instruction: str | None
    turns: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class DatasetFormat:
    """Turns one row into examples; chosen by `datasets[].type`.

    render(row, options, tokenizer) -> list[Example]. `options` are the data set's own keys with the defaults of
    `options_schema` filled in; an option whose schema says `"x-inherit": true` falls back to the recipe's top-level key
    of the same name. A row that cannot be rendered raises `RowError` (a `KeyError` for a missing field does as well).
    conversation(row, options) -> the row as a `Conversation`, for asking models that were not trained on this format,
    or None for a row that is none. Without it the rendered prompt as a whole is the question.
    """

    name: str
    render: Callable[[Row, Options, Tokenizer], list[Example]]
    kind: str = "sft"
    options_schema: Schema = field(default_factory=dict)
    description: str = ""
    conversation: Callable[[Row, Options], Conversation | None] | None = None


@dataclass(frozen=True)
class Adapter:
    """How the base model becomes trainable; chosen by `adapter` (absent: `full`).

    build(plan) -> the model with exactly the parameters to train requiring gradients. The planner calls it with
        `plan.shape_for` set: `load_base` then gives a model without weights, on torch's meta device.
    base_view(plan, model) -> a context manager in which `model` computes exactly what the untouched base computes
        (asked before training starts), or None where that is impossible: the base is then loaded apart.
    save(plan, model, folder) writes what makes the tuned model, in the Hugging Face layout. Default: `save_pretrained`.
    load(plan, folder) -> the tuned model, for scoring a finished run. Default: `AutoModelForCausalLM.from_pretrained`.
    merge(plan, model) -> a plain base-shaped model, or None if the adapter has nothing to merge.
    base(plan) -> the untouched base in the dtype and quantisation that `build` starts from. Default: `load_base(plan)`.
    uses: recipe keys owned by another plugin that this adapter reads too.
    """

    name: str
    build: Callable[[Plan], Module]
    base_view: Callable[[Plan, Module], AbstractContextManager[Any] | None] | None = None
    save: Callable[[Plan, Module, Path], None] | None = None
    load: Callable[[Plan, Path], Module] | None = None
    merge: Callable[[Plan, Module], Module | None] | None = None
    base: Callable[[Plan], Module] | None = None
    uses: tuple[str, ...] = ()
    description: str = ""


@dataclass(frozen=True)
class Trainer:
    """Trains; chosen by `trainer` (default `sft`). `kind` must match that of every data set's format.

    prepare(plan, model, tokenizer, data) -> Training: sharded and ready on every rank, nothing trained yet.
    workload(plan, model, data, ranks) -> Workload: what it would compute, for the planner; `model` has shapes only.
        Without it, the planner assumes padded rows and the model's own loss.
    """

    name: str
    prepare: Callable[[Plan, Module, Tokenizer, Data], Training]
    kind: str = "sft"
    uses: tuple[str, ...] = ()
    description: str = ""
    workload: Callable[[Plan, Module, Data, int], Workload] | None = None


@dataclass(frozen=True)
class Workload:
    """What a trainer would compute. batches: the micro batches that may take most memory, as its collator makes them.

    loss(model, batch) -> the loss of one micro batch, carrying gradients. steps: optimizer steps of the run.
    computed_tokens, trained_tokens: of one optimizer step over all ranks, on average. accumulation: micro batches of a
    rank in a step. parts: into how many that are computed one after the other a micro batch falls, at most. notes: what
    was assumed.
    """

    batches: Sequence[Mapping[str, Any]]
    loss: Callable[[Any, Mapping[str, Any]], Any]
    steps: int
    computed_tokens: float
    trained_tokens: float
    accumulation: int = 1
    parts: int = 1
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Training:
    """A prepared training: `model` can be evaluated at once; `run()` trains it on all ranks together."""

    model: Module
    run: Callable[[], TrainResult]


@dataclass(frozen=True)
class Evaluator:
    """Scores predictions; chosen by `evaluation.metrics[].type`.

    score(prediction, item, options) -> finite numbers for this item. The key equal to the evaluator's name (else the
    first key) is the figure that is compared; the others are details. May return {} for an item it does not apply to.
    summarise(scores, options) -> figures for the whole column; default: the mean of every key.
    higher_is_better: the direction of the compared figure. unit: "share" (0..1, shown as %), "seconds" or "".
    needs: facts core must measure first ("latency", "likelihood", "choices").
    check(item, options): raises `RowError` or `ValueError` for an item that could not be scored; called for every item
        before anything is generated.
    complete(items, options) -> the options with what only the items tell (the labels that occur); called once, before
        anything is generated.
    details(predictions, items, options) -> what stands beside the figures in run.json (a confusion matrix, the reasons
        of failures); plain JSON.
    choices(item, options) -> the answers to choose among, for "choices" in `needs`: the item's facts are then
        `nll:0`, `tokens:0`, `nll:1`, ... in their order.
    settled(text, item, options) -> True if no continuation of `text` can change a figure of this item: generation may
        stop there. Asked only where the recipe sets `evaluation.stop_settled`.
    """

    name: str
    score: Callable[[str, Item, Options], dict[str, float]]
    summarise: Callable[[Sequence[dict[str, float]], Options], dict[str, float]] | None = None
    options_schema: Schema = field(default_factory=dict)
    higher_is_better: bool = True
    unit: Literal["share", "seconds", ""] = "share"
    needs: tuple[str, ...] = ()
    description: str = ""
    check: Callable[[Item, Options], None] | None = None
    complete: Callable[[Sequence[Item], Options], Options] | None = None
    details: Callable[[Sequence[str], Sequence[Item], Options], Mapping[str, Any]] | None = None
    choices: Callable[[Item, Options], Sequence[str]] | None = None
    settled: Callable[[str, Item, Options], bool] | None = None


@dataclass(frozen=True)
class Generator:
    """Where answers are generated; chosen by `evaluation.generator` (default: core's own, called `transformers`).

    generate(request) -> the new token ids of each prompt of the `GenerationRequest`, in order; the one that ended it
    included, if one did. Called on the main process alone.
    """

    name: str
    generate: Callable[[GenerationRequest], Sequence[Sequence[int]]]
    description: str = ""


@dataclass(frozen=True)
class GenerationRequest:
    """What a generator is asked: greedy answers to `prompts` (token ids), ended by one of `stop_ids`.

    folder: a folder with the weights and the tokenizer of what answers, in the Hugging Face layout. adapter: a folder
    with a LoRA adapter to put on it, or None.
    """

    prompts: Sequence[Sequence[int]]
    stop_ids: frozenset[int]
    max_new_tokens: int
    tokenizer: Tokenizer
    folder: str
    adapter: str | None = None
    dtype: str = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Logger:
    """Sends metrics somewhere; chosen by `report_to`, or by one of `keys` being set in the recipe.

    callback(plan) -> a transformers TrainerCallback (an instance), made on every rank; it decides where it writes.
    """

    name: str
    callback: Callable[[Plan], TrainerCallback]
    keys: tuple[str, ...] = ()
    description: str = ""


# ---------------------------------------------------------------- the plan: a recipe with everything resolved and named


@dataclass(frozen=True)
class DatasetPlan:
    """One entry of a list of data sets: where its rows are and the format, with options, that reads them.

    path: absolute local path, or a hub id / URL as written. key: where the entry stands in the recipe, for messages.
    """

    path: str
    format: DatasetFormat
    options: Options
    key: KeyPath


@dataclass(frozen=True)
class MetricPlan:
    """One requested metric. name: how it is called in the report (the type, with a suffix if used twice).

    plugin: which plugin brings it.
    """

    name: str
    evaluator: Evaluator
    options: Options
    plugin: str = ""


@dataclass(frozen=True)
class ForgettingPlan:
    """The probe of general abilities, and the largest drop that is allowed (None: reported, never refused)."""

    probe: Probe
    max_drop: float | None = None


@dataclass(frozen=True)
class ColumnPlan:
    """One column of the comparison. name: what it is called; options: e.g. `shots`, `instruction`, `load_in_4bit`.

    kind: what answers: `base`, `prompted` (the base with a better prompt), `model` (another one), `tuned`, or `merged`
    (the tuned model with its adapter in the weights); the name where left out.
    """

    name: str
    options: Options = field(default_factory=dict)
    kind: str = ""

    def __post_init__(self) -> None:
        if not self.kind:
            object.__setattr__(self, "kind", self.name)

    @property
    def untuned(self) -> bool:
        """Whether it can be scored before training: no weight of it comes from this run."""
        return self.kind in ("base", "prompted", "model")


# in a gate: the better of the columns that answer with the untuned base
BEST_UNTUNED = "best_untuned"


@dataclass(frozen=True)
class GatePlan:
    """What a metric has to reach. rule: `min_gain`, `at_least` or `at_most`. column: the one that is judged.

    over: with `min_gain`, the column to gain over, or `best_untuned`. confidence: of the interval that has to keep to
    the bound as a whole; None where the figure alone decides.
    """

    metric: str
    rule: str
    bound: float
    column: str = "tuned"
    over: str | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class EvaluationPlan:
    """What is scored: held-out data, metrics, columns, and the decoding that all columns share."""

    datasets: tuple[DatasetPlan, ...] = ()
    metrics: tuple[MetricPlan, ...] = ()
    columns: tuple[ColumnPlan, ...] = ()
    gates: tuple[GatePlan, ...] = ()
    repeats: int = 1
    max_new_tokens: int = 256
    batch_size: int | None = None  # None: found by length, halved when memory runs out
    latency_sample: int = 20
    limit: int | None = None
    slice_by: tuple[str, ...] = ()
    forgetting: ForgettingPlan | None = None
    lm_eval: Mapping[str, Any] | None = None
    price: Mapping[str, Any] | None = None
    stop_settled: bool = False
    generator: Generator | None = None


@dataclass(frozen=True)
class Plan:
    """A recipe with every name resolved to a component and every default taken. `plan.recipe["key"]` reads a value.

    base_model: hub id, local folder, `.gguf` file or `package://` address, resolved to an absolute path where local.
    host: what the names were looked up in. lock: what the run is bound to, or None. shape_for: a device type, for which
    `load_base` then makes the model's shapes alone, without weights; the planner's.
    """

    recipe: Recipe
    base_model: str
    output_dir: Path
    adapter: Adapter
    trainer: Trainer
    datasets: tuple[DatasetPlan, ...]
    validation: tuple[DatasetPlan, ...]
    evaluation: EvaluationPlan
    loggers: tuple[Logger, ...] = ()
    checks: tuple[CheckPlan, ...] = ()
    overwrite: bool = False
    resume_from: Path | None = None
    trust_remote_code: bool = False
    host: Host | None = None
    lock: Lock | None = None
    shape_for: str | None = None


@dataclass(frozen=True)
class Data:
    """Prepared data. `train` and `val` hold columns `input_ids` and `labels` (equal length, -100 = not trained) plus
    `place` (`file:line`); `test` are the held-out items. stats: counts per data set, JSON-ready, saved with the run."""

    train: Dataset
    val: Dataset | None
    test: tuple[Item, ...]
    stats: Mapping[str, Any]
    pad_token_id: int = 0

    def batches(self, micro_batch_size: int) -> Any:
        """One pass over `train` in order: padded `input_ids`, `attention_mask` and `labels`, each [batch, length]."""
        from core.data.batches import padded_batches

        return padded_batches(self.train, micro_batch_size, self.pad_token_id)
