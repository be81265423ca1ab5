"""The instruction formats beside `alpaca`: questions and answers, choices, summaries, with or without a system text.

Each is a table entry: which columns it reads, and which fixed prompt they are put into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from core import DatasetFormat, Example, RowError, Segment, hookimpl, load_fragment
from core.data.formats import describe, end_of_text, optional_text_field, text_field
from plugins.formats.instruction import creative, prompts
from plugins.formats.instruction.prompts import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PLACES = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Parts:
    """What a format takes from a row."""

    instruction: str
    output: str
    input: str = ""
    system: str = ""


@dataclass(frozen=True)
class Form:
    """One format. prompts: by style, or one for all. read(row, style) -> its parts. ends: end-of-text tokens."""

    read: Callable[[Mapping[str, Any], str], Parts]
    prompts: Mapping[str, Prompt] | Prompt
    description: str
    style: str = "instruct"
    ends: int = 1


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the values in their `{places}`, in one pass: braces in the values stay as they are."""
    pieces = _pieces(text)
    return "".join([*(between + values.get(name, f"{{{name}}}") for between, name in pieces[:-1]), pieces[-1][0]])


@lru_cache(maxsize=256)
def _pieces(text: str) -> list[tuple[str, str]]:
    """(text, name of the place after it), to the last piece, which has no place after it."""
    parts = _PLACES.split(text)
    return list(zip(parts[::2], [*parts[1::2], ""], strict=True))


def prompt_text(prompt: Prompt, parts: Parts) -> str:
    """The prompt of a row, up to where its answer begins."""
    system = parts.system or (prompt.intro if parts.input else prompt.intro_without_input)
    turn = prompt.turn if parts.input else prompt.turn_without_input
    values = {"instruction": parts.instruction, "input": parts.input}
    return (fill(prompt.system, {"system": system}) if system else "") + fill(turn, values)


def example(prompt: str, output: str, end: str, *, train_on_inputs: bool = False) -> Example:
    """The prompt, the answer and the end of text as an example."""
    return Example(
        [
            Segment(prompt, trained=train_on_inputs),
            Segment(output, trained=True, answer=True),
            Segment(end, trained=True),
        ]
    )


def columns(instruction: str, output: str, input: str | None = None, system: str | None = None) -> Any:
    """Reads these columns as they are; `input` and `system` may be missing or empty."""

    def read(row: Mapping[str, Any], style: str) -> Parts:
        return Parts(
            instruction=text_field(row, instruction),
            output=text_field(row, output),
            input=optional_text_field(row, input) if input else "",
            system=optional_text_field(row, system) if system else "",
        )

    return read


def _choices(row: Mapping[str, Any], style: str) -> Parts:
    given = row["choices"]
    if not isinstance(given, list) or not given or not all(isinstance(choice, str) for choice in given):
        raise RowError(f"field 'choices' is {describe(given)}, not a list of texts", field="choices")
    answer = "solution" if "solution" in row else "explanation"
    listed = "\n".join(f'- "{choice}"' for choice in given)
    return Parts(text_field(row, "question"), text_field(row, answer), listed)


def _jeopardy(row: Mapping[str, Any], style: str) -> Parts:
    return Parts(text_field(row, "question"), "what is " + text_field(row, "answer"), text_field(row, "category"))


def _context(row: Mapping[str, Any], style: str) -> Parts:
    return Parts(f"{text_field(row, 'article')}\n===\n{text_field(row, 'question')}", text_field(row, "answer"))


def _context_v2(row: Mapping[str, Any], style: str) -> Parts:
    asked = f"Context: {text_field(row, 'context')}\nQuestion: {text_field(row, 'question')}\n"
    return Parts(asked, "Answer: " + text_field(row, "answer"))


def _unanswerable(row: Mapping[str, Any], style: str) -> Parts:
    asked = text_field(row, "unanswerable_question")
    return Parts(f"{text_field(row, 'article')}\n===\n{asked}", prompts.NO_ANSWER)


def _reflection(row: Mapping[str, Any], style: str) -> Parts:
    named = {name: text_field(row, name) for name in ("output", "reflection", "corrected")}
    answer = fill(prompts.REFLECTION_ANSWERS[style], named)
    return Parts(text_field(row, "instruction"), answer, optional_text_field(row, "input"))


def _revised(row: Mapping[str, Any], style: str) -> Parts:
    return Parts(text_field(row, "instruction"), text_field(row, "revision"))


def _critique(row: Mapping[str, Any], style: str) -> Parts:
    values = creative.asked(row)
    return Parts(fill(creative.CRITIQUE, values), values["evaluation"])


def _revision(row: Mapping[str, Any], style: str) -> Parts:
    return Parts(fill(creative.REVISE, creative.asked(row)), text_field(row, "revision"))


_ALPACA = columns("instruction", "output", "input")
_WITH_SYSTEM = columns("instruction", "output", "input", "system")
_ORCA = columns("question", "response", system="system_prompt")
FORMS: Mapping[str, Form] = {
    "alpaca_chat": Form(_ALPACA, prompts.ALPACA, "As alpaca, in the style of a chat.", "chat"),
    "alpaca_chat.load_concise": Form(_ALPACA, prompts.CONCISE, "As alpaca_chat, asking for concise answers.", "chat"),
    "alpaca_chat.load_qa": Form(columns("question", "answer"), prompts.CONCISE, "Rows of question and answer.", "chat"),
    "alpaca_chat.load_camel_ai": Form(
        columns("message_1", "message_2"), prompts.CONCISE, "Rows of message_1 and message_2.", "chat"
    ),
    "alpaca_chat.load_no_prompt": Form(_ALPACA, prompts.STYLES, "As alpaca_chat, without an introduction.", "chat"),
    "alpaca_instruct": Form(_ALPACA, prompts.ALPACA, "As alpaca."),
    "alpaca_instruct.load_no_prompt": Form(_ALPACA, prompts.STYLES, "As alpaca, without an introduction."),
    "alpaca_w_system": Form(_WITH_SYSTEM, prompts.STYLES, "As alpaca, each row with its own system text.", "chat"),
    "alpaca_w_system.load_chat": Form(_WITH_SYSTEM, prompts.STYLES, "As alpaca_w_system.", "chat"),
    "alpaca_w_system.load_instruct": Form(_WITH_SYSTEM, prompts.STYLES, "As alpaca_w_system, in the style of alpaca."),
    "alpaca_w_system.load_open_orca": Form(
        _ORCA, prompts.OPEN_ORCA, "Rows of system_prompt, question and response (OpenOrca)."
    ),
    "alpaca_w_system.load_open_orca_chatml": Form(
        _ORCA, prompts.STYLES["chatml"], "Rows of system_prompt, question and response, in ChatML."
    ),
    "context_qa": Form(_context, prompts.CONTEXT, "Rows of article, question and answer.", "chat"),
    "context_qa.load_v2": Form(_context_v2, prompts.AS_IT_IS, "Rows of context, question and answer."),
    "context_qa.load_404": Form(
        _unanswerable, prompts.CONTEXT, "Rows of article and unanswerable_question; learns to say so.", "chat"
    ),
    "creative_acr.load_answer": Form(_revised, prompts.CREATIVE_ANSWER, "Rows of instruction and revision."),
    "creative_acr.load_critique": Form(
        _critique, prompts.USER, "Rows of instruction, answer, scores and critiques; learns to score and to criticise."
    ),
    "creative_acr.load_revise": Form(
        _revision, prompts.USER, "Rows of instruction, answer, scores, critiques and revision; learns to revise."
    ),
    "explainchoice": Form(_choices, prompts.EXPLAIN_CHOICE, "Rows of question, choices and solution or explanation."),
    "concisechoice": Form(_choices, prompts.CONCISE_CHOICE, "As explainchoice, asking for concise answers."),
    "summarizetldr": Form(columns("article", "summary"), prompts.SUMMARIZE, "Rows of article and summary."),
    "jeopardy": Form(_jeopardy, prompts.ALPACA, "Rows of category, question (the clue) and answer."),
    "oasst": Form(columns("INSTRUCTION", "RESPONSE"), prompts.ALPACA, "Rows of INSTRUCTION and RESPONSE."),
    "gpteacher": Form(
        columns("instruction", "response", "input"), prompts.ALPACA, "Rows of instruction, input and response."
    ),
    "reflection": Form(
        _reflection, prompts.REFLECTION, "Rows of instruction, input, output, reflection and corrected."
    ),
    "orcamini": Form(_ORCA, prompts.ORCA_MINI, "Rows of system_prompt, question and response (Orca Mini)."),
    "metharme": Form(
        columns("prompt", "generation"), prompts.AS_IT_IS, "Rows of prompt and generation, put together.", ends=3
    ),
}


def make_format(name: str, form: Form) -> DatasetFormat:
    """The format of a table entry; one whose prompt comes in several styles has the option `prompt_style`."""
    options = load_fragment("instruction")
    styles = {} if isinstance(form.prompts, Prompt) else form.prompts
    if styles:
        options["prompt_style"] = {**options["prompt_style"], "enum": list(styles), "default": form.style}
    else:
        del options["prompt_style"]

    def render(row: Mapping[str, Any], options: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Example]:
        style = options.get("prompt_style") or form.style
        prompt = form.prompts if isinstance(form.prompts, Prompt) else form.prompts[style]
        parts = form.read(row, style)
        end = end_of_text(tokenizer) * form.ends
        text = prompt_text(prompt, parts)
        return [example(text, parts.output, end, train_on_inputs=bool(options.get("train_on_inputs")))]

    return DatasetFormat(name, render, options_schema=options, description=form.description)


@hookimpl
def dataset_formats() -> list[DatasetFormat]:
    return [make_format(name, form) for name, form in FORMS.items()]
