"""Contents that are lists of parts, as files for OpenAI's interface and for models with pictures have them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from core import RowError
from plugins.formats.chat_template.rendering import mark_of, renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Joint(NamedTuple):
    """How a template puts parts of text together. trims: without the space around each."""

    between: str
    trims: bool = False


# what servers put between the parts for a template that knows texts alone
USUAL_JOINT = Joint("\n")


def text_of(content: Any) -> Any:
    """A content of one part of text as that text; any other content as it is."""
    parts = texts_of(content)
    return parts[0] if parts is not None and len(parts) == 1 else content


def texts_of(content: Any) -> list[str] | None:
    """The texts of a content that is a list of parts of text; None for any other."""
    if not isinstance(content, list) or not content:
        return None
    texts = []
    for given in content:
        part = {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else {}
        if part.keys() != {"type", "text"} or part["type"] != "text" or not isinstance(part["text"], str):
            return None
        texts.append(part["text"])
    return texts


def joined(texts: list[str], template: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Parts of text as the one text that the template would write of them."""
    if len(texts) == 1:
        return texts[0]
    joint = _joint(template, tokenizer)
    return joint.between.join([text.strip() for text in texts] if joint.trims else texts)


@lru_cache(maxsize=64)
def _joint(template: str, tokenizer: PreTrainedTokenizerBase) -> Joint:
    first, second = mark_of(0), mark_of(1)
    parts = [{"type": "text", "text": f" {mark} "} for mark in (first, second)]
    try:
        text = renderer(template, tokenizer)(
            [{"role": "user", "content": parts}, {"role": "assistant", "content": "yes"}]
        )
    except RowError:
        return USUAL_JOINT
    between = text.partition(first)[2].partition(second)[0]
    if second not in text or "text" in between:  # it writes the list itself, as Python or JSON does
        return USUAL_JOINT
    if len(between) > 1 and between[0] == between[-1] == " ":
        return Joint(between[1:-1])
    return Joint(between, trims=True)


def kinds_of(content: Any) -> str:
    """What the parts are that no text can be made of; nothing where that is not what is wrong."""
    kinds = [part.get("type") for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    others = [repr(kind) for kind in dict.fromkeys(kinds) if isinstance(kind, str) and kind != "text"]
    return f" with parts of type {' and '.join(others)}" if others else ""
