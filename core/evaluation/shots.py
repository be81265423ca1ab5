"""Worked examples for prompts: training rows, drawn by seed for all items alike, or the nearest ones for each item."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from core.data.items import answer_span, prompt_end
from core.data.rows import one_of_each_place
from core.errors import RowError, UserError
from core.types import Conversation, Data, DatasetPlan, Example, Item, Plan, Row

if TYPE_CHECKING:
    from core.types import Tokenizer

POOL = 64  # rows looked at per shot, so that answers can differ without reading all rows into memory
NEAREST_POOL = 50_000  # rows among which the nearest are looked for


@dataclass(frozen=True)
class Shot:
    """A training row used as a worked example: as a conversation with its answer, and as the text it is trained on."""

    asked: Conversation
    answer: str
    text: str
    place: str


def draw_shots(plan: Plan, data: Data, items: Sequence[Item], tokenizer: Tokenizer, wanted: int) -> list[Shot]:
    """`wanted` training rows drawn by the recipe's seed, with different answers as far as there are any.

    Only rows that are trained on: neither held out nor worded like a test item. Raises `UserError` if there is none.
    """
    if not wanted:
        return []
    chosen: list[Shot] = []
    spare: list[Shot] = []
    answers: set[str] = set()
    for shot in _usable(plan, data, items, tokenizer, max(POOL * wanted, 512)):
        (spare if shot.answer in answers else chosen).append(shot)
        answers.add(shot.answer)
        if len(chosen) == wanted:
            break
    chosen = (chosen + spare)[:wanted]
    if not chosen:
        raise _nothing_to_show()
    return chosen


def nearest_shots(
    plan: Plan, data: Data, items: Sequence[Item], asked: Sequence[Conversation], tokenizer: Tokenizer, wanted: int
) -> list[list[Shot]]:
    """For each item the `wanted` training rows whose question is nearest in wording, the nearest last.

    Nearness is the cosine of character trigrams weighted by rarity; of equally near rows the one drawn first by the
    seed comes first. Of more than `NEAREST_POOL` training rows so many are drawn by the seed.
    """
    from core.evaluation.similarity import nearest

    if not wanted:
        return [[] for _ in items]
    pool = list(_usable(plan, data, items, tokenizer, NEAREST_POOL))
    if not pool:
        raise _nothing_to_show()
    found = nearest([_question(one) for one in asked], [_question(shot.asked) for shot in pool], wanted)
    return [[pool[index] for index in reversed(indices)] for indices in found]


def split_example(example: Example) -> tuple[str, str | None]:
    """(text before the last answer, the last answer), as a test item would have them; no answer is None."""
    start, end = answer_span(example.segments)
    texts = [segment.text for segment in example.segments]
    asked = prompt_end(example.segments, start)
    return ("", None) if start == end else ("".join(texts[:asked]), "".join(texts[start:end]))


def as_conversation(dataset: DatasetPlan, row: Row, prompt: str) -> Conversation:
    """The row as its format puts it to a chat model; else its rendered prompt as a whole is the question."""
    known = dataset.format.conversation(row, dataset.options) if dataset.format.conversation else None
    return known or Conversation(None, ({"role": "user", "content": prompt},))


def _usable(plan: Plan, data: Data, items: Sequence[Item], tokenizer: Tokenizer, limit: int) -> Iterator[Shot]:
    """Shots of at most `limit` training rows, in the order that the seed draws them."""
    numbers = one_of_each_place(data.train)
    random.Random(plan.recipe["seed"] or 0).shuffle(numbers)
    drawn = data.train.select_columns(["place"]).select(numbers[:limit].tolist())["place"]
    pool = {place: rank for rank, place in enumerate(drawn)}
    rows = sorted(rows_at(plan.datasets, pool), key=lambda found: pool[found[2]])
    held_out = {item.prompt for item in items}
    for dataset, row, place in rows:
        shot = _shot(dataset, row, place, tokenizer, held_out)
        if shot is not None:
            yield shot


def rows_at(datasets: Sequence[DatasetPlan], places: Mapping[str, int]) -> Iterator[tuple[DatasetPlan, Row, str]]:
    """The rows of `datasets` that stand at one of `places`, in the order of the data."""
    from core.data import read_rows

    for dataset in datasets:
        for row in read_rows(dataset):
            if row.place in places:
                yield dataset, row.values, row.place


def _shot(dataset: DatasetPlan, row: Row, place: str, tokenizer: Tokenizer, held_out: set[str]) -> Shot | None:
    """The row as a shot; None for a row that came tokenised, has no answer, or asks what a test item asks."""
    try:
        examples = dataset.format.render(row, dataset.options, tokenizer)
    except (RowError, KeyError):
        return None  # counted and reported when the data were prepared
    for example in examples:
        prompt, answer = split_example(example)
        if answer is not None and prompt not in held_out:
            text = "".join(segment.text for segment in example.segments)
            return Shot(as_conversation(dataset, row, prompt), answer, text, place)
    return None


def _question(asked: Conversation) -> str:
    return "\n".join(turn["content"] for turn in asked.turns)


def _nothing_to_show() -> UserError:
    return UserError(
        "there is no training row that could be shown as a worked example",
        help="set shots: 0 in that column of evaluation.compare, or leave the column out",
    )
