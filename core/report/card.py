"""The model card: README.md of the run folder, with the recipe in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from core.report.figures import comparison_header, comparison_rows, notes, run_rows
from core.report.templating import render


def model_card(values: Mapping[str, Any], *, peft: bool) -> str:
    """Markdown: the front matter that model hubs read, verdict, comparison, how to load the model, and the recipe.

    peft: whether an adapter in peft's layout was saved, as opposed to a whole model.
    """
    base = values["base_model"]
    on_hub = not any(mark in base for mark in ("://", ".gguf")) and not base.startswith((".", "/", "~"))
    front = {
        "library_name": "peft" if peft else "transformers",
        "tags": ["tunesmith", values["adapter"]],
        **({"base_model": base} if on_hub else {}),
    }
    header = comparison_header(values)
    return render(
        "card.md.j2",
        values=values,
        peft=peft,
        converted=base.endswith(".gguf"),
        front_matter=yaml.safe_dump(front, sort_keys=False).strip(),
        header=[header[0] or " ", *header[1:]],
        rows=comparison_rows(values) if values["evaluation"] else [],
        facts=run_rows(values),
        notes=notes(values),
        recipe=yaml.safe_dump(values["recipe"]["values"], sort_keys=False, allow_unicode=True).strip(),
    )
