"""Checks of the way from text to tokens: nothing is lost, and a served model is asked as it was trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.audit import Watch
from core.audit.watching import TRAINED, Marks, each_once, sorting
from core.data.chat_templates import resolve_chat_template
from core.data.seams import token_bytes
from core.data.tokenise import leading_ids, prompt_ids
from core.types import Options
from plugins.checks.learning import counted, watching

Numbered = tuple[int, CheckedExample]


def _decode(batch: Sequence[CheckedExample], skip: int, tokenizer: Any) -> list[bytes]:
    known = token_bytes(tokenizer)
    if known is not None:
        return [b"".join(known[example.input_ids[skip:]].tolist()) for example in batch]
    ids = [example.input_ids[skip:].tolist() for example in batch]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        texts = [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids]
    else:
        texts = backend.decode_batch(ids, skip_special_tokens=False)
    return [text.encode() for text in texts]


def round_trip(facts: DataFacts, options: Options) -> Watch:
    """Text that its tokens do not give back, and prompts that are tokenised or written otherwise when served."""
    tokenizer = facts.tokenizer
    lost, other, unasked = Marks(), Marks(), Marks()
    endings: dict[tuple[str | None, str | None, str], str] = {}

    def see(part: str, first: int, examples: Sequence[CheckedExample]) -> None:
        numbered = list(enumerate(examples, first))
        if part != "test":
            rows = [(n, e) for n, e in numbered if e.kept and not e.cut and e.example.segments]
            lost.seen += len(rows)
            lost.numbers.extend(_lost(rows, tokenizer))
            other.numbers.extend(_otherwise(rows, tokenizer))
        if part != "validation":
            unasked.numbers.extend(n for n, e in numbered if not _asks(e, endings, tokenizer))

    def findings(facts: DataFacts) -> list[Finding]:
        found = []
        if len(lost):
            message = f"the tokens of {len(lost):,} of {counted(lost.seen)} do not decode to their text"
            help = "the tokenizer cannot write some of their characters: look at one with tunesmith data RECIPE --row"
            found.append(Finding(message, facts.places(lost.numbers), help=help))
        if len(other):
            message = f"the prompts of {counted(len(other))} are tokenised otherwise when the answer is not there yet"
            help = "let prompts end in a line break, not a space"
            found.append(Finding(message, facts.places(other.numbers), help=help))
        if len(unasked):
            message = f"the prompts of {counted(len(unasked))} do not end as the chat template asks for an answer"
            help = "a server that uses the template asks otherwise than was trained: compare its add_generation_prompt"
            found.append(Finding(message, facts.places(unasked.numbers), help=f"{help} part"))
        return found

    return Watch(see, findings)


def _lost(rows: Sequence[Numbered], tokenizer: Any) -> Iterator[int]:
    """The numbers of those whose tokens do not decode to their text."""
    examples = [example for _, example in rows]
    prefix = leading_ids(tokenizer)
    wholes = _decode(examples, 0, tokenizer)
    # ids that the tokenizer itself puts in front stand for no text
    bares = _decode(examples, len(prefix), tokenizer) if prefix else wholes
    for (number, example), whole, bare in zip(rows, wholes, bares, strict=True):
        text = example.text.encode()
        if text not in (whole, bare) and text.lstrip(b" ") not in (whole.lstrip(b" "), bare.lstrip(b" ")):
            yield number


def _otherwise(rows: Sequence[Numbered], tokenizer: Any) -> Iterator[int]:
    """The numbers of those whose prompt alone has other tokens than in front of the answer."""
    asked = [(number, example) for number, example in rows if example.answer and not example.straddling]
    prompts = prompt_ids([example.prompt for _, example in asked], tokenizer)
    for (number, example), ids in zip(asked, prompts, strict=True):
        if example.input_ids[: len(ids)].tobytes() != ids.tobytes():
            yield number


def _asks(example: CheckedExample, endings: dict[tuple[str | None, str | None, str], str], tokenizer: Any) -> bool:
    """Whether a chat's prompt ends as the template ends a prompt that asks for an answer."""
    if not example.answer or "chat_template" not in example.dataset.format.options_schema:
        return True
    options = example.dataset.options
    variables = options.get("chat_template_kwargs")
    key = (options.get("chat_template"), options.get("chat_template_jinja"), repr(variables))
    if key not in endings:
        endings[key] = _ending(resolve_chat_template(tokenizer, *key[:2], variables), tokenizer)
    return example.prompt.endswith(endings[key])


def _ending(template: str, tokenizer: Any) -> str:
    """What the template adds to ask for an answer; empty where it cannot be told."""
    from jinja2.exceptions import TemplateError

    asked = [{"role": "user", "content": "x"}]
    try:
        plain, full = (
            str(tokenizer.apply_chat_template(asked, chat_template=template, tokenize=False, add_generation_prompt=add))
            for add in (False, True)
        )
    except TemplateError:
        return ""
    return full.removeprefix(plain) if full.startswith(plain) else ""


def special_tokens(facts: DataFacts, options: Options) -> Watch:
    """Special tokens written in the rows themselves, where only the format should put them."""
    tokenizer = facts.tokenizer
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = sorted({token for token in (*tokenizer.all_special_tokens, *added) if len(token) > 2})
    first = sorted({name[0] for name in names})  # few, and rare in texts
    seen = 0

    def kinds_of(example: CheckedExample) -> list[str]:
        nonlocal seen
        seen += 1
        joined = "\n".join(_strings(example.row))
        return [name for name in names if name in joined] if any(mark in joined for mark in first) else []

    def say(facts: DataFacts, kinds: dict[str, Marks]) -> list[Finding]:
        places = each_once(facts, kinds)
        # where most rows have them, the rows are written out with their marks
        if not places or len(places) * 2 > seen:
            return []
        which = ", ".join(f"{name} {len(kinds[name]):,}" for name in kinds)
        message = (
            f"special tokens stand in the text of {counted(len(places))} ({which}): the model learns to write them"
        )
        return [Finding(message, places, help="take them out of these rows")]

    return sorting(kinds_of, say, parts=TRAINED)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry)


@hookimpl
def data_checks() -> list[DataCheck]:
    return [
        watching("round_trip", round_trip, description="Tokens that decode otherwise; prompts that serving changes."),
        watching("special_tokens", special_tokens, description="Special tokens in the rows' own text."),
    ]
