"""The text that a chat template gives for a conversation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from core import RowError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from plugins.formats.chat_template.messages import Message

Render = Callable[..., str]


def renderer(
    template: str, tokenizer: PreTrainedTokenizerBase, tools: Sequence[Mapping[str, Any]] | None = None
) -> Render:
    """A function of messages that gives their text; with `generate`, up to where a model is asked to go on. It raises
    `RowError` where the template refuses them."""
    from jinja2 import TemplateError, TemplateSyntaxError

    def render(messages: Sequence[Message], *, generate: bool = False) -> str:
        try:
            text = tokenizer.apply_chat_template(
                list(messages),
                tools=cast(Any, tools),
                chat_template=template,
                tokenize=False,
                add_generation_prompt=generate,
            )
        except TemplateSyntaxError as error:
            raise UserError(
                f"the chat template is not valid jinja: line {error.lineno}: {error.message}", help="correct it"
            ) from error
        except (TemplateError, TypeError) as error:
            raise RowError(f"the chat template refuses it: {error}") from error
        return str(text)

    return render


def mark_of(index: int) -> str:
    """Text that no template changes and that occurs nowhere else."""
    return f"TunesmithMark{index}Here"


def prompt_of(messages: Sequence[Message], render: Render) -> str | None:
    """The text a model is asked to go on from after `messages`; None if the template refuses them."""
    try:
        return render(messages, generate=True)
    except RowError:
        return None
