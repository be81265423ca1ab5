"""The components that a plugin may offer: each a frozen dataclass of a name and a few functions, and what those pass.

Imports no torch: a component is looked up and checked long before any weight is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from core.types.examples import Conversation, Data, Example, Item, Options, Row, Schema

if TYPE_CHECKING:
    from transformers import TrainerCallback

    from core.results import TrainResult
    from core.types.examples import Module, Tokenizer
    from core.types.plans import Plan


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
    streams: it trains on `data.stream` where there is one; without it, `streaming: true` is refused.
    """

    name: str
    prepare: Callable[[Plan, Module, Tokenizer, Data], Training]
    kind: str = "sft"
    uses: tuple[str, ...] = ()
    description: str = ""
    workload: Callable[[Plan, Module, Data, int], Workload] | None = None
    streams: bool = False


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

    folder: the weights and the tokenizer of what answers: a folder in the Hugging Face layout, or a hub id at
    `revision`, if one is named. adapter: a folder with a LoRA adapter to put on it, or None. dtype: what the recipe
    computes in, by torch's name. trust_remote_code: whether code that comes with the model may run.
    """

    prompts: Sequence[Sequence[int]]
    stop_ids: frozenset[int]
    max_new_tokens: int
    tokenizer: Tokenizer
    folder: str
    adapter: str | None = None
    dtype: str = "auto"
    seed: int = 0
    revision: str | None = None
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Logger:
    """Sends metrics somewhere; chosen by `report_to`, or by one of `keys` being set in the recipe.

    callback(plan) -> a transformers TrainerCallback (an instance), made on every rank; it decides where it writes.
    """

    name: str
    callback: Callable[[Plan], TrainerCallback]
    keys: tuple[str, ...] = ()
    description: str = ""
