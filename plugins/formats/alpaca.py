"""The `alpaca` format: an instruction, perhaps an input, and the output to learn.

The two prompts are those of Stanford Alpaca, ending in a line break as axolotl has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, RowError, Segment, hookimpl, load_fragment
from core.data.formats import end_of_text, optional_text_field, text_field

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The prompt, the output (the answer, trained) and the end of text (trained)."""
    instruction = text_field(row, options.get("field_instruction", "instruction"))
    input_field = options.get("field_input", "input")
    if input_field != "input" and input_field not in row:
        raise RowError(f"row has no field {input_field!r}; it has: {', '.join(row)}", field=input_field)
    context = optional_text_field(row, input_field)
    output = text_field(row, options.get("field_output", "output"))
    # one pass over the template, so that braces in the row's own text are left alone
    prompt = (WITH_INPUT if context else WITHOUT_INPUT).format(instruction=instruction, input=context)
    return [
        Example(
            [
                Segment(prompt, trained=bool(options.get("train_on_inputs"))),
                Segment(output, trained=True, answer=True),
                Segment(end_of_text(tokenizer), trained=True),
            ]
        )
    ]


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [
        DatasetFormat(
            "alpaca",
            render,
            options_schema=load_fragment("alpaca"),
            description="Rows of instruction, input (may be empty) and output.",
        )
    ]
