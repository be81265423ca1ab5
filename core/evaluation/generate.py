"""Batched greedy generation for scoring: prompts in, answers out in the same order, on all ranks together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.errors import DataError
from core.evaluation.answers import KeptAnswers
from core.evaluation.batches import Batching, dealt
from core.evaluation.greedy import Decoder, greedy, innermost, share_prefix
from core.results import Generation
from core.types import Item, Plan

if TYPE_CHECKING:
    from core.types import Module, Tokenizer

MIN_SHARED_TOKENS = 8  # a shorter common prefix is not worth a call of its own
SHOWN_ITEMS = 10
SETTLED_EVERY = 4  # tokens between two looks at whether an answer may end


@dataclass(frozen=True)
class Decoding:
    """How every column is decoded: greedily, until one of `stop_ids` or `max_new_tokens`."""

    stop_ids: frozenset[int]
    pad_id: int
    max_new_tokens: int
    batch_size: int | None = None
    batching: Batching = field(default_factory=Batching)

    def __post_init__(self) -> None:
        self.batching.asked = self.batch_size


def make_decoding(plan: Plan, model: Module, tokenizer: Tokenizer) -> Decoding:
    """The decoding of `plan`, with every token that may end an answer."""
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Decoding(
        stop_ids=frozenset(stop_ids(plan, model, tokenizer)),
        pad_id=int(pad_id or 0),
        max_new_tokens=plan.evaluation.max_new_tokens,
        batch_size=plan.evaluation.batch_size,
    )


def stop_ids(plan: Plan, model: Module, tokenizer: Tokenizer) -> set[int]:
    """Ids that end an answer: end of text of tokenizer and model, end of turn of chat template and recipe."""
    found: set[int] = set()
    inner = innermost(model)
    named: list[Any] = [tokenizer.eos_token_id]
    named += [
        getattr(source, "eos_token_id", None) for source in (inner.config, getattr(inner, "generation_config", None))
    ]
    for value in named:
        if value is not None:
            found.update(value if isinstance(value, (list, tuple)) else [value])
    for token in (*(plan.recipe["eot_tokens"] or ()), end_of_turn(tokenizer)):
        ids = tokenizer.encode(token, add_special_tokens=False) if token else []
        if len(ids) == 1:
            found.add(ids[0])
    return found


def end_of_turn(tokenizer: Tokenizer) -> str | None:
    """The special token that the tokenizer's chat template puts after an assistant's turn, if there is one."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    from jinja2.exceptions import TemplateError

    mark = "tunesmith-answer"
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
    try:
        text = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except TemplateError:  # a template that refuses so plain a chat has no end of turn that could be learned from it
        return None
    rest = text.rpartition(mark)[2].lstrip()
    special = sorted(tokenizer.added_tokens_encoder, key=len, reverse=True)
    return next((token for token in special if rest.startswith(token)), None)


def generate(
    decoder: Decoder,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    decoding: Decoding,
    kept: KeptAnswers | None = None,
    settled: Callable[[int, str], bool] | None = None,
) -> list[Generation]:
    """One answer per prompt (token ids), in order, the same on every rank.

    Batches are cut from the prompts sorted by length, longest first, and whole batches are dealt to the ranks: a batch
    holds the same rows whatever the number of ranks, so its answers are the same too. kept: answers of an earlier
    attempt, which are taken over batch by batch, and where those of this one are added. settled: told the position of a
    prompt and its answer so far; where it says True, the answer ends there.
    """
    done = kept.tokens if kept else {}
    shared = common_prefix(prompts) if decoder.shareable and len(done) < len(prompts) else []
    prefix = share_prefix(decoder, shared) if len(shared) >= MIN_SHARED_TOKENS else None
    cut = len(prefix.ids) if prefix else 0

    def answer(indices: Sequence[int]) -> list[list[int]]:
        return greedy(
            decoder,
            [prompts[index][cut:] for index in indices],
            stop_ids=decoding.stop_ids,
            pad_id=decoding.pad_id,
            max_new_tokens=decoding.max_new_tokens,
            prefix=prefix,
            watch=_watching(indices, settled, tokenizer),
        )

    def keep(indices: Sequence[int], new: Sequence[Sequence[int]]) -> None:
        if kept is not None:
            kept.add(indices, new, [to_generation(ids, tokenizer, decoding).text for ids in new])

    lengths = [len(prompt) + decoding.max_new_tokens for prompt in prompts]
    new = dealt(decoder, lengths, decoding.batching, answer, done=done, keep=keep)
    by_index = {**done, **new}
    return [to_generation(by_index[index], tokenizer, decoding) for index in range(len(prompts))]


def _watching(
    indices: Sequence[int], settled: Callable[[int, str], bool] | None, tokenizer: Tokenizer
) -> Callable[[int, Sequence[int]], bool] | None:
    """Whether a row of a batch may end, by its number and tokens so far; asked of every few tokens only."""
    if settled is None:
        return None

    def watch(number: int, tokens: Sequence[int]) -> bool:
        if len(tokens) % SETTLED_EVERY:
            return False
        text = str(tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        # a character of several tokens may be incomplete
        return not text.endswith("\ufffd") and settled(indices[number], text)

    return watch


def to_generation(new: Sequence[int], tokenizer: Tokenizer, decoding: Decoding) -> Generation:
    """The answer as text; special tokens other than the one that ended it stay visible."""
    stopped = bool(new) and new[-1] in decoding.stop_ids
    ids = list(new[:-1] if stopped else new)
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    settled = not stopped and len(new) < decoding.max_new_tokens
    return Generation(text=str(text), tokens=len(new), stopped=stopped, settled=settled)


def common_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The longest run of ids that starts every prompt, leaving each at least one id of its own."""
    if not prompts:
        return []
    low, high = min(map(list, prompts)), max(map(list, prompts))  # the two that differ earliest
    limit = min(len(prompt) for prompt in prompts) - 1
    length = next((i for i in range(min(len(low), len(high))) if low[i] != high[i]), min(len(low), len(high)))
    return list(low[: max(0, min(length, limit))])


def context_length(config: Any) -> int | None:
    """How many tokens the model can attend to, prompt and answer together; None where the model names no limit."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    value = getattr(text, "max_position_embeddings", None)
    return int(value) if value else None


def refuse_long_prompts(
    column: str,
    items: Sequence[Item],
    prompts: Sequence[Sequence[int]],
    context: int | None,
    max_new_tokens: int,
    *,
    asked: bool = False,
) -> None:
    """Raise `DataError` if a prompt leaves no room for `max_new_tokens` in the context, naming the longest.

    asked: the prompts hold an instruction and worked examples, which could be fewer.
    """
    if context is None:
        return
    room = context - max_new_tokens
    beyond = [(len(prompt), item.place) for prompt, item in zip(prompts, items, strict=True) if len(prompt) > room]
    long = sorted(beyond, key=lambda one: -one[0])
    if not long:
        return
    shown = ", ".join(f"{place} ({length} tokens)" for length, place in long[:SHOWN_ITEMS])
    more = f" and {len(long) - SHOWN_ITEMS} more" if len(long) > SHOWN_ITEMS else ""
    advice = "lower evaluation.max_new_tokens, or leave these rows out"
    if asked:
        advice = "use fewer shots or a shorter instruction in evaluation.compare, or lower evaluation.max_new_tokens"
    raise DataError(
        f"{len(long)} of {len(prompts)} prompts of the column {column!r} are too long: the context of {context} tokens "
        f"less max_new_tokens {max_new_tokens} leaves {room}: {shown}{more}",
        help=advice,
    )
