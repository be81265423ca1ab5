"""The prompts of a column: the training prompt as it is, or the best prompt for a model that was not tuned.

Such a model is shown an instruction and worked examples (shots) from the training rows. Where its tokenizer has a chat
template they become turns of a chat, which is how such a model is best asked; otherwise they are put before the item's
own prompt as text, each example exactly as it would be trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from core.evaluation.shots import Shot, as_conversation, draw_shots, nearest_shots
from core.types import Conversation, Data, Item, Options, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

DEFAULT_SHOTS = 5
Turn = Mapping[str, str]


@dataclass(frozen=True)
class Prompts:
    """One prompt per item. form: how they are made, in words. shots: the places of the worked examples that all items
    are shown. count: how many examples each item is meant to be shown. shortened: how many items are shown fewer, so
    that their prompt fits. wanted: how many examples the recipe asks for, be there training rows enough or not."""

    texts: tuple[str, ...]
    form: str
    shots: tuple[str, ...] = ()
    count: int = 0
    shortened: int = 0
    wanted: int = 0


def zero_shot(items: Sequence[Item]) -> Prompts:
    """Each item's own prompt, exactly as in training."""
    return Prompts(tuple(item.prompt for item in items), "as in training")


def few_shot(
    plan: Plan,
    options: Options,
    data: Data,
    items: Sequence[Item],
    tokenizer: Tokenizer,
    *,
    column: str = "prompted",
    default_shots: int = DEFAULT_SHOTS,
    fits: Callable[[str], bool] | None = None,
) -> Prompts:
    """Prompts with `options["shots"]` worked examples and `options["instruction"]`, if given.

    `options["choose"]`: `random` (the same for all items, by seed) or `nearest` (to each item's wording).
    `options["form"]`: `chat`, `text`, or `auto` (chat turns where the tokenizer has a chat template and no row brings
    special tokens of its own). fits: whether a prompt is short enough; one that is not loses examples, the first (and
    least near) ones first. Raises `UserError` if there is no training row to show, or no chat template for `chat`.
    """
    wanted = int(options.get("shots", default_shots))
    instruction = options.get("instruction") or None
    asked = [_ask_item(plan, item) for item in items]
    near = options.get("choose") == "nearest" and wanted > 0
    if near:
        shots = nearest_shots(plan, data, items, asked, tokenizer, wanted)
    else:
        shots = [draw_shots(plan, data, items, tokenizer, wanted)] * len(items)
    chat = _takes_turns(options.get("form", "auto"), column, tokenizer, asked, shots)
    texts, shortened = [], 0
    for item, one, shown in zip(items, asked, shots, strict=True):
        left = list(shown)
        text = _written(tokenizer, instruction, left, one, item, chat=chat)
        while left and fits is not None and not fits(text):
            left.pop(0)
            text = _written(tokenizer, instruction, left, one, item, chat=chat)
        shortened += len(left) < len(shown)
        texts.append(text)
    return Prompts(
        tuple(texts),
        _form(instruction, len(shots[0]) if shots else 0, chat=chat, near=near),
        () if near or not shots else tuple(shot.place for shot in shots[0]),
        len(shots[0]) if shots else 0,
        shortened,
        wanted,
    )


def _form(instruction: str | None, count: int, *, chat: bool, near: bool) -> str:
    shown = f"{count} {'nearest ' if near else ''}worked example{'' if count == 1 else 's'}"
    parts = ["instruction"] if instruction else []
    if count:
        parts.append(shown if chat else f"{shown} as in training")
    return f"{'chat turns' if chat else 'text'}: {', '.join([*parts, 'question'])}"


def _takes_turns(
    form: str, column: str, tokenizer: Tokenizer, asked: Sequence[Conversation], shots: Sequence[Sequence[Shot]]
) -> bool:
    """Whether the prompts are turns of a chat."""
    if form == "chat" and not tokenizer.chat_template:
        raise UserError(
            f"the column {column!r} asks for chat turns, but the tokenizer has no chat template",
            help="set form: text in that column of evaluation.compare",
        )
    if form != "auto" or not tokenizer.chat_template:
        return form == "chat"
    specials = tuple(token for token in tokenizer.all_special_tokens if token)
    shown = {shot.place: shot for one in shots for shot in one}
    conversations = (*asked, *(shot.asked for shot in shown.values()))
    contents = [turn["content"] for one in conversations for turn in one.turns]
    return not any(token in text for text in contents for token in specials)


def _ask_item(plan: Plan, item: Item) -> Conversation:
    for dataset in plan.evaluation.datasets:
        asked = as_conversation(dataset, item.row, item.prompt)
        if len(plan.evaluation.datasets) == 1 or all(turn["content"] in item.prompt for turn in asked.turns):
            return asked
    return Conversation(None, ({"role": "user", "content": item.prompt},))


def _written(
    tokenizer: Tokenizer,
    instruction: str | None,
    shots: Sequence[Shot],
    asked: Conversation,
    item: Item,
    *,
    chat: bool,
) -> str:
    if chat:
        return _chat_of(tokenizer, instruction, shots, asked)
    return _plain(tokenizer, instruction, shots, item)


# ---------------------------------------------------------------- the two forms


def _chat_of(tokenizer: Tokenizer, instruction: str | None, shots: Sequence[Shot], asked: Conversation) -> str:
    """An item as a chat: the instruction, the shots as earlier turns, the item's own turns."""
    told = instruction or asked.instruction
    turns: list[Turn] = []
    for shot in shots:
        own = shot.asked.instruction
        spoken = own is not None and instruction is None and own != told
        turns += _led_by(own if spoken else None, shot.asked.turns)
        turns.append({"role": "assistant", "content": shot.answer})
    return _chat(tokenizer, told, [*turns, *asked.turns])


def _led_by(instruction: str | None, turns: Sequence[Turn]) -> list[Turn]:
    """The turns, with `instruction` (if any) said in the first of them."""
    if instruction is None:
        return list(turns)
    return [{**turns[0], "content": f"{instruction}\n\n{turns[0]['content']}"}, *turns[1:]]


def _chat(tokenizer: Tokenizer, instruction: str | None, turns: list[Turn]) -> str:
    from jinja2.exceptions import TemplateError

    def render(messages: Sequence[Turn]) -> str:
        conversation: Any = [dict(message) for message in messages]
        return str(tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True))

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
