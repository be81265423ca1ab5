"""The `user_defined` format: which columns there are and how a prompt is written stands in the recipe.

Recipes write it as a map under `type`, with these options in it, or by name with the options beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, Problem, hookimpl, load_fragment
from core.data.formats import end_of_text, optional_text_field, text_field
from plugins.formats.instruction import Parts, example, prompt_text
from plugins.formats.instruction.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from core import Recipe

NAME = "user_defined"
# which places each text has, the one it needs first
PLACES = {
    "system_format": ("system",),
    "format": ("instruction", "input"),
    "no_input_format": ("instruction",),
}


def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
    """The prompt as the options write it, the output (the answer, trained) and the end of text (trained)."""
    parts = Parts(
        instruction=text_field(row, options["field_instruction"]),
        output=text_field(row, options["field_output"]),
        input=optional_text_field(row, options["field_input"]),
        system=optional_text_field(row, options["field_system"]) or options["system_prompt"],
    )
    prompt = Prompt(options["system_format"], options["format"], options["no_input_format"])
    text, end = prompt_text(prompt, parts), end_of_text(tokenizer)
    return [example(text, parts.output, end, train_on_inputs=bool(options.get("train_on_inputs")))]


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [
        DatasetFormat(
            NAME,
            render,
            options_schema=load_fragment(NAME),
            description="Rows with columns and a prompt that the recipe describes; written as a map under `type`.",
        )
    ]


@hookimpl
def check_recipe(recipe: Recipe) -> list[Problem]:
    """Places in the texts that stand for nothing, and texts without the place they need."""
    scored = recipe.values.get("evaluation", {}).get("datasets") or ()
    return [
        problem
        for path, entries in (
            (("datasets",), recipe["datasets"] or ()),
            (("test_datasets",), recipe["test_datasets"] or ()),
            (("evaluation", "datasets"), scored),
        )
        for index, entry in enumerate(entries)
        if entry.get("type") == NAME
        for problem in _problems(entry, (*path, index))
    ]


def _problems(entry: Mapping[str, Any], place: tuple[str | int, ...]) -> Iterator[Problem]:
    if "format" in entry and "no_input_format" not in entry:
        message = "no_input_format is not set: a row without an input is written as '{instruction} '"
        yield Problem(message, key=(*place, "format"), severity="warning", help="set no_input_format")
    for name, places in PLACES.items():
        text = entry.get(name)
        if text is None:
            continue
        if f"{{{places[0]}}}" not in text:
            message = f"{name!r} leaves out {{{places[0]}}}, so rows could not be told apart"
            yield Problem(message, key=(*place, name), at="value", help=f"write {{{places[0]}}} where it belongs")
        for found in re.findall(r"\{(\w+)\}", text):
            if found not in places:
                known = " and ".join(f"{{{one}}}" for one in places)
                message = f"{name!r} has {{{found}}} in it, which stands for nothing"
                yield Problem(message, key=(*place, name), at="value", help=f"it can hold {known}")
