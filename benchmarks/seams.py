"""How many rows get other token ids when the prompt and the answer are tokenised apart.

    python benchmarks/seams.py --data FOLDER [--tokenizer FOLDER ...] [--quick] [--json FILE]

FOLDER holds the data sets as docs/seams.md lists them. For every row: the ids as Tunesmith makes them, the ids of the
whole text, and the ids as a trainer makes them that tokenises the prompt, then the answer, and puts them together (as
axolotl does for instruction formats). Prints the table of docs/seams.md.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core import Example
from core.data import tokenize_examples
from core.host import load_host
from core.models.gguf import cache_folder

QUICK = 200  # rows of each
ALPACA = "alpaca"
SHAREGPT = {"field_messages": "conversations", "message_property_mappings": {"role": "from", "content": "value"}}
WRITTEN_OUT = {"field_instruction": "instruction", "field_output": "output"}


def alpaca_rows(folder: Path) -> list[Mapping[str, Any]]:
    """1,100 instructions with their answers."""
    return list(json.loads((folder / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8")))


def maths_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Questions and worked answers."""
    lines = (folder / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return [{"instruction": row["question"], "input": "", "output": row["answer"]} for row in rows]


def label_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Requests and one of 77 labels."""
    with (folder / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        return [{"instruction": row["text"], "input": "", "output": row["category"]} for row in csv.DictReader(file)]


def slot_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Commands and the JSON of their slots."""
    rows = []
    for path in sorted((folder / "snips").glob("validate_*.json")):
        ((_, listed),) = json.loads(path.read_text(encoding="utf-8")).items()
        for entry in listed:
            text = "".join(piece["text"] for piece in entry["data"])
            slots = {piece["entity"]: piece["text"] for piece in entry["data"] if "entity" in piece}
            rows.append({"instruction": text, "input": "", "output": json.dumps(slots, ensure_ascii=False)})
    return rows


def decision_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Questions with their contexts, and yes, no or maybe."""
    listed = json.loads((folder / "pubmedqa" / "ori_pqal.json").read_text(encoding="utf-8")).values()
    return [
        {"instruction": row["QUESTION"], "input": "\n".join(row["CONTEXTS"]), "output": row["final_decision"]}
        for row in listed
    ]


def chat_rows(folder: Path) -> list[Mapping[str, Any]]:
    """500 conversations."""
    path = folder / "chat_sharegpt_fastchat" / "dummy_conversation.json"
    return list(json.loads(path.read_text(encoding="utf-8")))


def call_rows(folder: Path) -> list[Mapping[str, Any]]:
    """Requests with tools, and the call that answers."""
    rows = []
    for name in ("BFCL_v4_simple_python.json", "BFCL_v4_multiple.json"):
        asked = (folder / "bfcl_toolcall" / name).read_text(encoding="utf-8").splitlines()
        known = (folder / "bfcl_toolcall" / "possible_answer" / name).read_text(encoding="utf-8").splitlines()
        for question, answer in zip(map(json.loads, asked), map(json.loads, known), strict=True):
            content = json.dumps(answer["ground_truth"][0])
            rows.append({"messages": [*question["question"][0], {"role": "assistant", "content": content}]})
    return rows


# name -> (rows, format, its options)
CASES: Mapping[str, tuple[Any, str, Mapping[str, Any]]] = {
    "instructions, alpaca": (alpaca_rows, ALPACA, {}),
    "instructions, alpaca:chat": (alpaca_rows, ALPACA, {"prompt_style": "chat"}),
    "instructions, type as a map, default format": (alpaca_rows, "user_defined", WRITTEN_OUT),
    "maths, alpaca": (maths_rows, ALPACA, {}),
    "maths, alpaca:chat": (maths_rows, ALPACA, {"prompt_style": "chat"}),
    "77 labels, alpaca:chat": (label_rows, ALPACA, {"prompt_style": "chat"}),
    "slots as JSON, alpaca": (slot_rows, ALPACA, {}),
    "slots as JSON, alpaca:chat": (slot_rows, ALPACA, {"prompt_style": "chat"}),
    "yes, no or maybe, alpaca": (decision_rows, ALPACA, {}),
    "conversations, chat_template": (chat_rows, "chat_template", SHAREGPT),
    "tool calls, chat_template": (call_rows, "chat_template", {}),
}


def apart(example: Example, tokenizer: Any) -> list[int]:
    """The ids of a trainer that tokenises the prompt, and then the rest, each by itself."""
    first = next(index for index, segment in enumerate(example.segments) if segment.trained)
    prompt = "".join(segment.text for segment in example.segments[:first])
    rest = "".join(segment.text for segment in example.segments[first:])
    return [*_ids(prompt, tokenizer), *_ids(rest, tokenizer)]


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False))


def measured(
    rows: Sequence[Mapping[str, Any]], type: str, options: Mapping[str, Any], tokenizer: Any
) -> dict[str, int]:
    """How many rows there are, and in how many the ids differ."""
    made = load_host().formats[type]
    defaults = {name: schema["default"] for name, schema in made.options_schema.items() if "default" in schema}
    examples = [example for row in rows for example in made.render(row, {**defaults, **options}, tokenizer)]
    counts = {"rows": len(rows), "not_whole": 0, "apart": 0, "straddling": 0}
    for example, tokens in zip(examples, tokenize_examples(examples, tokenizer), strict=True):
        whole = _ids("".join(segment.text for segment in example.segments), tokenizer)
        ids = list(tokens.input_ids)
        counts["not_whole"] += ids[len(ids) - len(whole) :] != whole
        counts["apart"] += apart(example, tokenizer) != whole
        counts["straddling"] += bool(tokens.straddling)
    return counts


def tokenizers(folders: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Each tokenizer with its name; SmolLM2's where none is named and the quickstart has converted it."""
    from transformers import AutoTokenizer

    for folder in folders or sorted((cache_folder() / "gguf").glob("*-v*[0-9]")):
        if (folder / "tokenizer.json").is_file():
            yield ("SmolLM2" if not folders else folder.name), AutoTokenizer.from_pretrained(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the data sets")
    parser.add_argument("--tokenizer", type=Path, action="append", default=[], help="the folder of a tokenizer")
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK} rows of each")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, dict[str, dict[str, int]]] = {}
    for name, tokenizer in tokenizers(arguments.tokenizer):
        print(
            f"\n{name}\n\n| rows, format | number | ours, not as the whole text "
            "| apart, not as the whole text | with a token over a seam |"
        )
        print("|---|---:|---:|---:|---:|")
        for case, (read, type, options) in CASES.items():
            rows = read(arguments.data)[: QUICK if arguments.quick else None]
            found = figures.setdefault(name, {})[case] = measured(rows, type, options, tokenizer)
            shares = (
                f"{found[key]:,} ({found[key] / found['rows']:.1%})" for key in ("not_whole", "apart", "straddling")
            )
            print(f"| {case} | {found['rows']:,} | {' | '.join(shares)} |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
