"""`python -m core.axolotl_page docs/axolotl.md` writes, key by key, what recipes for axolotl do here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from core.data.chat_templates import FAMILIES, NAMED
from core.host import GROUP, Host, load_host
from core.schema_files import load_fragment
from core.types import Schema

NOTE = "<!-- written by `python -m core.axolotl_page docs/axolotl.md`; a test keeps it equal to the code -->"
# keys that axolotl does not have
OURS = frozenset(
    ("evaluation", "extends", "requires", "data_checks", "on_bad_row", "trainer", "share_prefixes", "report_to")
)
# keys that act, and what is to be known beyond their description
REMARKS = {
    "deepspeed": "The file is looked up beside the recipe, then in the working folder; "
    "`check` warns where it is missing, a run is refused. A loss that is no number is refused before its optimizer "
    "moves, a gradient that is none only after. Not tested with the package itself.",
    "fsdp_config": "A launcher that was configured for something else is refused.",
    "hub_model_id": "Only the model is uploaded, once, at the end; a run without a login is refused before it starts.",
    "plugins": "See below.",
    "tf32": "Warns and falls back where the hardware lacks it.",
    "attn_implementation": "Warns and falls back to torch's own (sdpa) where the package or the hardware is missing; "
    "flash attention shares no prefixes.",
    "wandb_project": "`check` warns where the package is missing, a run is refused.",
}
EFFECTS = {
    "acts": "acts",
    "none": "no effect",
    "dead": "no effect in axolotl either",
    "unsupported": "not supported",
    "job": "another job",
}
INTRO = """\
Recipes for axolotl run here unchanged: the keys have the same names, and mean the same. `tunesmith check recipe.yml`
says the same as this page, for the keys of your recipe, with their lines.

- **acts**: does what it does in axolotl.
- **no effect**: known, and left out; what is learnt stays the same unless the note says otherwise; a warning says why.
- **no effect in axolotl either**: nothing reads it there; a warning gives the right name.
- **not supported**: would train another way; an error says what to use. Switched off (null, false, 0), it is no error.
- **another job**: asks for something else than fine-tuning on examples; the one error names it.

A key that is on no list is an error, with the nearest name. `null` means unset; `2e-5` is a number.
"""


def page() -> str:
    """The text of the page; only what this distribution itself brings."""
    host = load_host(disabled=[entry.name for entry in entry_points(group=GROUP)])
    foreign: Mapping[str, Mapping[str, Any]] = load_fragment("axolotl-keys")
    return "\n".join([*_page(host, foreign)]) + "\n"


def _page(host: Host, foreign: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from ("# Recipes for axolotl", "", NOTE, "", INTRO)
    inside = ("datasets[].", "plugins[].")
    rows = {key: _acting(key, schema) for key, schema in host.recipe_keys.items() if key not in OURS}
    rows |= {key: _foreign(entry) for key, entry in foreign.items() if not key.startswith(inside)}
    yield from ("## Keys", "", *_table("key", rows))

    options: dict[str, Schema] = dict(host.recipe_keys["datasets"]["items"]["properties"])
    for format in host.formats.values():
        options |= {key: schema for key, schema in format.options_schema.items() if key not in options}
    rows = {key: _acting(key, schema) for key, schema in options.items()}
    rows |= {
        key.removeprefix("datasets[]."): _foreign(entry)
        for key, entry in foreign.items()
        if key.startswith("datasets[].") and not key.startswith("datasets[].type: ")
    }
    yield from ("", "## Keys of an entry of `datasets`", "", *_table("key", rows))

    rows = {name: ("acts", format.description) for name, format in host.formats.items()}
    rows |= {
        key.removeprefix("datasets[].type: "): _foreign(entry)
        for key, entry in foreign.items()
        if key.startswith("datasets[].type: ")
    }
    yield from ("", "## Formats (`datasets[].type`)", "")
    yield "A map under `type` is the format `user_defined`; no `type` at all is `pretokenised`. A format with the"
    yield "option `prompt_style` takes it after a colon as well, as in `alpaca:chat`."
    yield from ("", *_table("type", rows))

    rows = {
        key.removeprefix("plugins[]."): _foreign(entry) for key, entry in foreign.items() if key.startswith(inside[1])
    }
    yield from (
        "",
        "## Entries of `plugins`",
        "",
        "None of them is loaded: a recipe runs no code.",
        "",
        *_table("entry", rows),
    )

    yield from ("", "## Chat templates", "")
    yield f"Carried here: {_listed(NAMED)}."
    yield f"Names of model families, which stand for the tokenizer's own template: {_listed(FAMILIES)}."
    yield "`tokenizer_default_fallback_<name>` takes the tokenizer's own, or else the named one; `jinja` takes"
    yield "`chat_template_jinja`."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _acting(key: str, schema: Schema) -> tuple[str, str]:
    return "acts", " ".join(filter(None, (str(schema.get("description", "")), REMARKS.get(key))))


def _foreign(entry: Mapping[str, Any]) -> tuple[str, str]:
    note = f"{entry['note'][0].upper()}{entry['note'][1:]}"
    use = f"; {entry['use']}" if entry.get("use") else ""
    if entry["effect"] == "job":
        return EFFECTS["job"], f"It asks for {entry['note']}{use}."
    return EFFECTS[entry["effect"]], f"{note}{use}."


def _table(title: str, rows: Mapping[str, tuple[str, str]]) -> Iterator[str]:
    yield from (f"| {title} | here | what it does, why not, or what to use |", "|---|---|---|")
    for name, (effect, text) in sorted(rows.items()):
        yield f"| `{name}` | {effect} | {' '.join(text.split()).replace('|', chr(92) + '|')} |"


def main(argv: list[str]) -> int:
    """Write the page to the file named in `argv`."""
    Path(argv[0] if argv else "docs/axolotl.md").write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
