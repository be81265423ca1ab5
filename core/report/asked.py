"""What each column was asked, and how its answers were scored: what makes the figures comparable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from core.report.figures import column_label

SHOWN = 60  # characters of an option


def asked(values: Mapping[str, Any]) -> list[dict[str, str]]:
    """Per column its label, how its prompts are made and answered in words, and the prompt of the first item; nothing
    for runs that do not tell."""
    return [
        {
            "label": column_label(values, name),
            "words": ". ".join(_words(values["columns"][name])) + ".",
            "sample": values["columns"][name]["prompt_sample"],
        }
        for name in values["evaluation"]
        if values["columns"].get(name, {}).get("prompt_sample")
    ]


def scored_by(values: Mapping[str, Any]) -> str:
    """The metrics with their options, in words; every column is scored alike."""
    from core.check.columns import metric_names

    recipe = values["recipe"]
    written = (recipe["values"].get("evaluation") or {}).get("metrics")
    entries = written or (recipe["defaults"].get("evaluation") or {}).get("metrics") or []
    said = []
    for name, entry in zip(metric_names(entries), entries, strict=True):
        options = [f"{key}: {_short(value)}" for key, value in entry.items() if key != "type"]
        said.append(name.replace("_", " ") + (f" ({', '.join(options)})" if options else ""))
    return f"All columns are scored alike: {'; '.join(said)}." if said else ""


def _words(facts: Mapping[str, Any]) -> Iterator[str]:
    yield f"Prompts {facts['prompt_form']}" if facts["prompt_form"].startswith("as ") else f"As {facts['prompt_form']}"
    if facts.get("shots"):
        yield f"Examples: {', '.join(facts['shots'])}"
    if facts.get("decoding") == "greedy":
        yield f"Decoded greedily, up to {facts['max_new_tokens']} tokens"
    elif facts.get("decoding"):
        yield f"Decoding: {facts['decoding']}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
