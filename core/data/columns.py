"""Proposes the recipe lines for a row whose fields are not those the format reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

QUESTIONS = ("instruction", "question", "prompt", "query", "input", "problem", "text", "sentence", "document")
ANSWERS = ("output", "answer", "response", "completion", "target", "label", "category", "solution", "summary")
CONTEXTS = ("input", "context", "contexts", "passage")
TEXTS = ("text", "content", "body")


def propose(row: Mapping[str, Any]) -> str:
    """What to write under `datasets` for rows with the fields of `row`; in any case something to do next."""
    lines = proposal(row)
    if lines:
        return "for these fields, write in the recipe:" + "".join(f"\n    {key}: {lines[key]}" for key in lines)
    if len(row) == 1 and "," in next(iter(row)):
        return "the columns are parted by commas: set ds_type: csv"
    if len(row) == 1 and any(mark in next(iter(row)) for mark in ";\t|"):
        return "the columns are parted by another character: write the file with commas, or with tabs and ds_type: tsv"
    if len(row) == 1 and isinstance(rows := next(iter(row.values())), list) and rows and isinstance(rows[0], dict):
        return f"the rows seem to be the list under {next(iter(row))!r}: write that list to a file of its own"
    return "choose the type that fits these fields, or rename them in the file"


def proposal(row: Mapping[str, Any]) -> dict[str, str] | None:
    """The format, with its options, for rows with the fields of `row`; None where none is plain to see."""
    by_name = {str(field).lower(): str(field) for field in row}
    for field, value in row.items():
        mapping = _chat_mapping(value)
        if mapping is not None:
            lines = {"type": "chat_template"}
            if field != "messages":
                lines["field_messages"] = str(field)
            return lines | mapping
    if _is_list_of(row.get("segments"), "label", "text"):
        return {"type": "input_output"}
    if isinstance(row.get("input_ids"), list):
        return {"type": "pretokenised"}
    question = next((by_name[name] for name in QUESTIONS if name in by_name), None)
    answer = next((by_name[name] for name in ANSWERS if name in by_name and by_name[name] != question), None)
    if question is not None and answer is not None:
        context = next(
            (by_name[name] for name in CONTEXTS if by_name.get(name, question) not in (question, answer)), None
        )
        fields = {"field_instruction": question, "field_input": context, "field_output": answer}
        plain = {"field_instruction": "instruction", "field_input": "input", "field_output": "output"}
        named = {key: value for key, value in fields.items() if value is not None and value != plain[key]}
        return {"type": "alpaca"} | named
    text = next((by_name[name] for name in TEXTS if name in by_name), None)
    if text is not None:
        return {"type": "completion"} | ({"field": text} if text != "text" else {})
    return None


def _chat_mapping(value: Any) -> dict[str, str] | None:
    """The mapping that chat messages of this form need; None if `value` is not a list of messages."""
    for role, content in (
        ("role", "content"),
        ("from", "value"),
        ("role", "value"),
        ("role", "text"),
        ("sender", "text"),
    ):
        if _is_list_of(value, role, content):
            if (role, content) == ("role", "content"):
                return {}
            return {"message_property_mappings": f"{{role: {role}, content: {content}}}"}
    return None


def _is_list_of(value: Any, *fields: str) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and all(f in value[0] for f in fields)
