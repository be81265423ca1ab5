"""The `alpaca` format: an instruction, perhaps an input, and the output to learn.

The two prompts are those of Stanford Alpaca, ending in a line break as axolotl has them. `alpaca:chat` and the like
write the same texts in another style, see `prompt_style`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core import Conversation, DatasetFormat, Example, RowError, hookimpl, load_fragment
from core.data.formats import end_of_text, optional_text_field, text_field
from plugins.formats.instruction import Parts, example, prompt_text
from plugins.formats.instruction.prompts import ALPACA

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The prompt, the output (the answer, trained) and the end of text (trained)."""
    instruction = text_field(row, options.get("field_instruction", "instruction"))
    input_field = options.get("field_input", "input")
    if input_field != "input" and input_field not in row:
        raise RowError(f"row has no field {input_field!r}; it has: {', '.join(row)}", field=input_field)
    context = optional_text_field(row, input_field)
    output = text_field(row, options.get("field_output", "output"))
    prompt = ALPACA[options.get("prompt_style") or "instruct"]
    text = prompt_text(prompt, Parts(instruction, output, context))
    return [example(text, output, end_of_text(tokenizer), train_on_inputs=bool(options.get("train_on_inputs")))]


def conversation(row: Mapping[str, Any], options: Mapping[str, Any]) -> Conversation | None:
    """The instruction, and the input as the question; without an input the instruction is the question."""
    instruction = row.get(options.get("field_instruction") or "instruction")
    given = row.get(options.get("field_input") or "input")
    if not isinstance(instruction, str):
        return None
    if isinstance(given, str) and given.strip():
        return Conversation(instruction, ({"role": "user", "content": given},))
    return Conversation(None, ({"role": "user", "content": instruction},))


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [
        DatasetFormat(
            "alpaca",
            render,
            options_schema=load_fragment("alpaca"),
            description="Rows of instruction, input (may be empty) and output.",
            conversation=conversation,
        )
    ]
