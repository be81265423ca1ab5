"""The prompts of a column: the training prompt as it is, or the best prompt for the untuned base.

The prompted column shows the base an instruction and worked examples (shots) drawn from the training rows. Where the
tokenizer has a chat template they become turns of a chat, which is how such a model is best asked; otherwise they are
put before the item's own prompt as text, each example exactly as it would be trained on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.data.items import answer_span
from core.errors import RowError, UserError
from core.types import Data, DatasetPlan, Example, Item, Options, Plan, Row

if TYPE_CHECKING:
    from core.types import Tokenizer

DEFAULT_SHOTS = 5
POOL = 64  # rows looked at per shot, so that answers can differ without reading all rows into memory
SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
Turn = dict[str, str]


@dataclass(frozen=True)
class Prompts:
    """One prompt per item. form: how they are made, in words. shots: the places of the worked examples."""

    texts: tuple[str, ...]
    form: str
    shots: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """A row as a conversation: what to do, the turns up to the question, and the expected answer."""

    instruction: str | None
    turns: tuple[Turn, ...]
    answer: str


@dataclass(frozen=True)
class Shot:
    """A training row used as a worked example: as a conversation, and as the text it is trained on."""

    asked: Asked
    text: str
    place: str


def zero_shot(items: Sequence[Item]) -> Prompts:
    """Each item's own prompt, exactly as in training."""
    return Prompts(tuple(item.prompt for item in items), "as in training")


def few_shot(plan: Plan, options: Options, data: Data, items: Sequence[Item], tokenizer: Tokenizer) -> Prompts:
    """Prompts with `options["shots"]` worked examples (default 5) and `options["instruction"]`, if given.

    `options["form"]`: `chat`, `text`, or `auto` (chat turns where the tokenizer has a chat template and no row brings
    special tokens of its own). Raises `UserError` if there is no training row to show, or no chat template for `chat`.
    """
    wanted = int(options.get("shots", DEFAULT_SHOTS))
    instruction = options.get("instruction") or None
    shots = draw_shots(plan, data, items, tokenizer, wanted)
    asked = [_ask_item(plan, item) for item in items]
    specials = tuple(token for token in tokenizer.all_special_tokens if token)
    contents = [turn["content"] for one in (*asked, *(shot.asked for shot in shots)) for turn in one.turns]
    shown = f"{len(shots)} worked example{'' if len(shots) == 1 else 's'}"
    form = options.get("form", "auto")
    if form == "chat" and not tokenizer.chat_template:
        raise UserError(
            "the column 'prompted' asks for chat turns, but the tokenizer has no chat template",
            help="set form: text under prompted in evaluation.compare",
        )
    marked = any(token in text for text in contents for token in specials)
    if form == "chat" or (form == "auto" and tokenizer.chat_template and not marked):
        texts = _chats(tokenizer, instruction, shots, asked)
        form = f"chat turns: instruction, {shown}, question"
    else:
        texts = tuple(_plain(tokenizer, instruction, shots, item) for item in items)
        form = f"text: instruction, {shown} as in training, question"
    return Prompts(texts, form if instruction else form.replace("instruction, ", ""), tuple(s.place for s in shots))


# ---------------------------------------------------------------- shots


def draw_shots(plan: Plan, data: Data, items: Sequence[Item], tokenizer: Tokenizer, wanted: int) -> list[Shot]:
    """`wanted` training rows drawn by the recipe's seed, with different answers as far as there are any.

    Only rows that are trained on: neither held out nor worded like a test item.
    """
    if not wanted:
        return []
    places = list(dict.fromkeys(data.train["place"]))
    random.Random(plan.recipe["seed"] or 0).shuffle(places)
    pool = {place: rank for rank, place in enumerate(places[: max(POOL * wanted, 512)])}
    rows = sorted(_rows_at(plan.datasets, pool), key=lambda found: pool[found[2]])
    held_out = {item.prompt for item in items}
    chosen: list[Shot] = []
    spare: list[Shot] = []
    answers: set[str] = set()
    for dataset, row, place in rows:
        shot = _shot(dataset, row, place, tokenizer, held_out)
        if shot is None:
            continue
        (spare if shot.asked.answer in answers else chosen).append(shot)
        answers.add(shot.asked.answer)
        if len(chosen) == wanted:
            break
    chosen = (chosen + spare)[:wanted]
    if not chosen:
        raise UserError(
            "there is no training row that could be shown as a worked example in the column 'prompted'",
            help="set shots: 0 under prompted in evaluation.compare, or leave the column out",
        )
    return chosen


def _rows_at(datasets: Sequence[DatasetPlan], places: Mapping[str, int]) -> Iterator[tuple[DatasetPlan, Row, str]]:
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
            return Shot(_ask(dataset, row, prompt, answer), text, place)
    return None


def split_example(example: Example) -> tuple[str, str | None]:
    """(text before the last answer, the last answer), as a test item would have them; no answer is None."""
    start, end = answer_span(example.segments)
    texts = [segment.text for segment in example.segments]
    return ("", None) if start == end else ("".join(texts[:start]), "".join(texts[start:end]))


# ---------------------------------------------------------------- rows as conversations


def _ask_item(plan: Plan, item: Item) -> Asked:
    for dataset in plan.evaluation.datasets:
        asked = _known_shape(dataset, item.row, item.references[0])
        if asked is not None and len(plan.evaluation.datasets) == 1:
            return asked
        if asked is not None and all(turn["content"] in item.prompt for turn in asked.turns):
            return asked
    return Asked(None, ({"role": "user", "content": item.prompt},), item.references[0])


def _ask(dataset: DatasetPlan, row: Row, prompt: str, answer: str) -> Asked:
    known = _known_shape(dataset, row, answer)
    return known or Asked(None, ({"role": "user", "content": prompt},), answer)


def _known_shape(dataset: DatasetPlan, row: Row, answer: str) -> Asked | None:
    """The row as a conversation, for the two families of formats whose fields say so; None for all others, whose
    rendered prompt is the question as a whole."""
    if dataset.format.name == "alpaca":
        return _from_fields(row, dataset.options, answer)
    if dataset.format.name == "chat_template":
        return _from_messages(row, dataset.options, answer)
    return None


def _from_fields(row: Row, options: Options, answer: str) -> Asked | None:
    instruction = row.get(options.get("field_instruction") or "instruction")
    given = row.get(options.get("field_input") or "input")
    if not isinstance(instruction, str):
        return None
    if isinstance(given, str) and given.strip():
        return Asked(instruction, ({"role": "user", "content": given},), answer)
    return Asked(None, ({"role": "user", "content": instruction},), answer)


def _from_messages(row: Row, options: Options, answer: str) -> Asked | None:
    messages = row.get(options.get("field_messages") or "messages")
    names = {"role": "role", "content": "content", **(options.get("message_property_mappings") or {})}
    if not isinstance(messages, Sequence) or isinstance(messages, str):
        return None
    turns: list[Turn] = []
    for message in messages:
        role, content = message.get(names["role"]), message.get(names["content"])
        if not isinstance(role, str) or not isinstance(content, str):
            return None  # tool calls and parts have no plain wording
        turns.append({"role": SPEAKERS.get(role, role), "content": content})
    while turns and turns[-1]["role"] != "assistant":
        turns.pop()
    system = turns.pop(0)["content"] if turns and turns[0]["role"] == "system" else None
    return Asked(system, tuple(turns[:-1]), answer) if len(turns) > 1 else None


# ---------------------------------------------------------------- the two forms


def _chats(
    tokenizer: Tokenizer, instruction: str | None, shots: Sequence[Shot], asked: Sequence[Asked]
) -> tuple[str, ...]:
    """Every item as a chat: the instruction, the shots as earlier turns, the item's own turns."""
    texts = []
    for one in asked:
        told = instruction or one.instruction
        turns: list[Turn] = []
        for shot in shots:
            own = shot.asked.instruction
            spoken = own is not None and instruction is None and own != told
            turns += _led_by(own if spoken else None, shot.asked.turns)
            turns.append({"role": "assistant", "content": shot.asked.answer})
        texts.append(_chat(tokenizer, told, [*turns, *one.turns]))
    return tuple(texts)


def _led_by(instruction: str | None, turns: Sequence[Turn]) -> list[Turn]:
    """The turns, with `instruction` (if any) said in the first of them."""
    if instruction is None:
        return list(turns)
    return [{**turns[0], "content": f"{instruction}\n\n{turns[0]['content']}"}, *turns[1:]]


def _chat(tokenizer: Tokenizer, instruction: str | None, turns: list[Turn]) -> str:
    from jinja2.exceptions import TemplateError

    def render(messages: list[Turn]) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    if not instruction:
        return render(turns)
    try:
        text = render([{"role": "system", "content": instruction}, *turns])
    except TemplateError:
        text = ""  # a template without a system turn
    if instruction.strip() in text:
        return text
    return render(_led_by(instruction, turns))


def _plain(tokenizer: Tokenizer, instruction: str | None, shots: Sequence[Shot], item: Item) -> str:
    """The instruction, the shots as they are trained on, the item's own prompt, with one beginning of text at most."""
    bos = tokenizer.bos_token or ""
    pieces = [*([instruction.strip()] if instruction else []), *(shot.text.strip() for shot in shots), item.prompt]
    bare: list[Any] = [piece.removeprefix(bos) if bos else piece for piece in pieces]
    had_bos = bool(bos) and item.prompt.startswith(bos)
    return (bos if had_bos else "") + "\n\n".join(bare)
