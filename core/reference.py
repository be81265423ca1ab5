"""`python -m core.reference FOLDER` writes the reference pages `recipe.md` and `hooks.md` from schemas and hooks."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from core import hookspecs, probes, results, types
from core.audit import facts
from core.host import GROUP, Host, load_host
from core.types import Schema

NOTE = "<!-- written by `python -m core.reference docs/reference`; a test keeps it equal to the code -->"
COMPONENTS = (
    types.DatasetFormat,
    types.Adapter,
    types.Trainer,
    types.Evaluator,
    types.Generator,
    types.GenerationRequest,
    probes.Probe,
    probes.Instruction,
    types.Logger,
    facts.DataCheck,
    facts.DataFacts,
    facts.CheckedExample,
    facts.Finding,
    types.Segment,
    types.Example,
    types.Conversation,
    types.Item,
    types.Training,
    results.TrainResult,
)


def pages() -> dict[str, str]:
    """The text of every page by its file name; only what this distribution itself brings."""
    host = load_host(disabled=[entry.name for entry in entry_points(group=GROUP)])
    return {"recipe.md": "\n".join(_recipe_page(host)) + "\n", "hooks.md": "\n".join(_hooks_page()) + "\n"}


def _recipe_page(host: Host) -> Iterator[str]:
    yield from ("# Recipe keys", "", NOTE, "")
    yield "Every key of a recipe, by the plugin that owns it. A key that is absent or null takes its default."
    for plugin in host.plugins:
        if keys := {key: host.recipe_keys[key] for key in plugin.offers.get("recipe_keys", ())}:
            yield from ("", f"## {_title(host, plugin.name)}", "", *_table(keys))
    yield from (
        "",
        "# Data set formats",
        "",
        "The `type` of an entry of `datasets`, with the keys it adds to the entry.",
    )
    for name, format in sorted(host.formats.items()):
        yield from ("", f"## `{name}`", "", _sentence(format.description), "", *_table(format.options_schema))
    yield from (
        "",
        "# Metrics",
        "",
        "The `type` of an entry of `evaluation.metrics`, with the keys it adds to the entry.",
    )
    for name, evaluator in sorted(host.evaluators.items()):
        yield from ("", f"## `{name}`", "", _sentence(evaluator.description), "", *_table(evaluator.options_schema))
    yield from ("", "# Probes", "", "The `probe` of `evaluation.forgetting`.", "")
    for name, probe in sorted(host.probes.items()):
        yield f"- `{name}`: {_sentence(probe.description)}"


def _title(host: Host, plugin: str) -> str:
    names = [name for (_, name), owner in sorted(host.component_owners.items()) if owner == plugin]
    return f"{', '.join(f'`{name}`' for name in names)} ({plugin})" if names else f"Every run ({plugin})"


def _table(properties: Mapping[str, Schema]) -> Iterator[str]:
    if not properties:
        yield "No keys of its own."
        return
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    for path, schema in _flat(properties):
        default = f"`{json.dumps(schema['default'], ensure_ascii=False)}`" if "default" in schema else ""
        cells = (f"`{path}`", _type(schema), default, str(schema.get("description", "")))
        yield "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _flat(properties: Mapping[str, Schema], prefix: str = "") -> Iterator[tuple[str, Schema]]:
    """Every key, and those of the maps below it, as `outer.inner` or `outer[].inner`."""
    for key, schema in properties.items():
        yield prefix + key, schema
        yield from _flat(schema.get("properties", {}), f"{prefix}{key}.")
        items = schema.get("items")
        if isinstance(items, dict):
            yield from _flat(items.get("properties", {}), f"{prefix}{key}[].")


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(value)}`" for value in schema["enum"] if value is not None)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(_type(choice) for choice in schema[word]))
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    named = schema.get("type", "any")
    names = [name for name in ([named] if isinstance(named, str) else named) if name != "null"]
    items = schema.get("items")
    inner = f" of {_type(items)}" if isinstance(items, dict) and ("type" in items or "enum" in items) else ""
    return " or ".join(name + (inner if name == "array" else "") for name in names) + _bounds(schema)


def _bounds(schema: Schema) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    return "".join(f" {sign} {schema[word]}" for word, sign in signs.items() if word in schema)


def _hooks_page() -> Iterator[str]:
    yield from ("# Hooks", "", NOTE, "", _text(hookspecs))
    for name, function in vars(hookspecs).items():
        if hasattr(function, "tunesmith_spec"):
            yield from ("", f"## `{name}{_signature(function)}`", "", _text(function))
    yield from ("", "# What the hooks return", "", "Frozen dataclasses, all importable from `core`.")
    for kind in COMPONENTS:
        yield from ("", f"## `{kind.__name__}`", "", _text(kind), "", "| field | type | default |", "|---|---|---|")
        for field in dataclasses.fields(kind):
            yield f"| `{field.name}` | `{str(field.type).replace('|', chr(92) + '|')}` | {_default(field)} |"


def _signature(function: Callable[..., Any]) -> str:
    # annotations are strings in these modules; the quotes only disturb here
    return str(inspect.signature(function)).replace("'", "")


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "" if field.default_factory is dataclasses.MISSING else f"`{field.default_factory()!r}`"


def _text(documented: ModuleType | type | Callable[..., Any]) -> str:
    return inspect.getdoc(documented) or ""


def _sentence(text: str) -> str:
    return text if text.endswith(".") or not text else f"{text}."


def main(argv: list[str]) -> int:
    """Write the pages to the folder named in `argv`."""
    folder = Path(argv[0] if argv else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
