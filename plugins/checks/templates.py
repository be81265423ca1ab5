"""Checks of the way from text to tokens: nothing is lost, and a served model is asked as it was trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from core import CheckedExample, DataCheck, DataFacts, Finding, hookimpl
from core.data.chat_templates import resolve_chat_template
from core.data.tokenise import encode_prompts, leading_ids
from core.types import Options
from plugins.checks.learning import counted

BATCH = 1000


def _batches(examples: Sequence[CheckedExample]) -> Iterator[Sequence[CheckedExample]]:
    for start in range(0, len(examples), BATCH):
        yield examples[start : start + BATCH]


def _decode(batch: Sequence[CheckedExample], skip: int, tokenizer: Any) -> list[str]:
    ids = [example.input_ids[skip:].tolist() for example in batch]
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in ids]
    return list(backend.decode_batch(ids, skip_special_tokens=False))


def round_trip(facts: DataFacts, options: Options) -> list[Finding]:
    """Text that its tokens do not give back, and prompts that are tokenised or written otherwise when served."""
    rows = [e for e in (*facts.train, *facts.validation) if e.kept and not e.cut and e.example.segments]
    prefix = leading_ids(facts.tokenizer)
    lost, other = [], []
    for batch in _batches(rows):
        # ids that the tokenizer itself puts in front stand for no text
        for example, whole, bare in zip(
            batch,
            _decode(batch, 0, facts.tokenizer),
            _decode(batch, len(prefix), facts.tokenizer) if prefix else [""] * len(batch),
            strict=True,
        ):
            text = example.text
            if text not in (whole, bare) and text.lstrip(" ") not in (whole.lstrip(" "), bare.lstrip(" ")):
                lost.append(example)
        asked = [example for example in batch if example.answer and not example.straddling]
        for example, ids in zip(asked, encode_prompts([e.prompt for e in asked], facts.tokenizer), strict=True):
            if example.input_ids[: len(ids)].tolist() != ids:
                other.append(example)
    findings = []
    if lost:
        message = f"the tokens of {len(lost):,} of {counted(len(rows))} do not decode to their text"
        help = "the tokenizer cannot write some of their characters: look at one with tunesmith data RECIPE --row"
        findings.append(Finding(message, [e.place for e in lost], help=help))
    if other:
        message = f"the prompts of {counted(len(other))} are tokenised otherwise when the answer is not there yet"
        findings.append(Finding(message, [e.place for e in other], help="let prompts end in a line break, not a space"))
    return findings + _generation_prompt(facts)


def _generation_prompt(facts: DataFacts) -> list[Finding]:
    """Chats whose prompt does not end as the template ends a prompt that asks for an answer."""
    found: list[str] = []
    endings: dict[tuple[str | None, str | None], str] = {}
    for example in (*facts.train, *facts.test):
        options = example.dataset.options
        if not example.answer or "chat_template" not in example.dataset.format.options_schema:
            continue
        key = (options.get("chat_template"), options.get("chat_template_jinja"))
        if key not in endings:
            endings[key] = _ending(resolve_chat_template(facts.tokenizer, *key), facts.tokenizer)
        if not example.prompt.endswith(endings[key]):
            found.append(example.place)
    if not found:
        return []
    message = f"the prompts of {counted(len(found))} do not end as the chat template asks for an answer"
    help = "a server that uses the template asks otherwise than was trained: compare its add_generation_prompt part"
    return [Finding(message, found, help=help)]


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


def special_tokens(facts: DataFacts, options: Options) -> list[Finding]:
    """Special tokens written in the rows themselves, where only the format should put them."""
    tokenizer = facts.tokenizer
    added = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    names = sorted({token for token in (*tokenizer.all_special_tokens, *added) if len(token) > 2})
    rows = [*facts.train, *facts.validation]
    found: dict[str, list[str]] = {}
    for example in rows:
        for name in _inside(example, names):
            found.setdefault(name, []).append(example.place)
    places = list(dict.fromkeys(place for listed in found.values() for place in listed))
    # where most rows have them, the rows are written out with their marks
    if not places or len(places) * 2 > len(rows):
        return []
    which = ", ".join(f"{name} {len(listed):,}" for name, listed in found.items())
    message = f"special tokens stand in the text of {counted(len(places))} ({which}): the model learns to write them"
    return [Finding(message, places, help="take them out of these rows")]


def _inside(example: CheckedExample, names: Sequence[str]) -> Iterator[str]:
    texts = list(_strings(example.row))
    joined = "\n".join(texts)
    return (name for name in names if name in joined)


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
        DataCheck("round_trip", round_trip, description="Tokens that decode otherwise; prompts that serving changes."),
        DataCheck("special_tokens", special_tokens, description="Special tokens in the rows' own text."),
    ]
