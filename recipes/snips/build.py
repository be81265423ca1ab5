"""Build the rows of recipes/snips.yml: a voice command in, its intent and slots as JSON out.

Reads the `train_*_full.json` and `validate_*.json` files of the SNIPS benchmark of 2017 and writes `train.jsonl`,
`validation.jsonl`, `test.jsonl` and `answer.schema.json` beside this file (or into the folder given with `--out`).
From the folder that holds `recipes`:

    python -m recipes.snips.build --source FOLDER
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from recipes.drawing import draw, lot, read_source, trigrams, write_rows, write_text

# intent: the first letters of the sha256 of its train and its validate file
SOURCES = {
    "AddToPlaylist": ("fee1b4645352e70e", "14cc9ee49ae477b1"),
    "BookRestaurant": ("7677e82cd6e9a819", "4f7258ccc768b777"),
    "GetWeather": ("86f414b2ad8a9931", "60c095e193655d6c"),
    "PlayMusic": ("901ddbe9781d1fdb", "922212775e26259d"),
    "RateBook": ("bb43e4b74134300d", "c1f8b4114da0bb5e"),
    "SearchCreativeWork": ("87b3432de48c71c2", "8a5e830eddb185d3"),
    "SearchScreeningEvent": ("5447e9440c02e2fb", "81e1445713e03c7c"),
}
PER_INTENT = {"train": 160, "validation": 15, "test": 30}
INSTRUCTION = (
    'Give the intent and the slots of this voice command. Answer with JSON only: {"intent": "name", "slot": "words"}'
)


def main() -> None:
    """Build the four files and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with the fourteen JSON files")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to (default: here)")
    arguments = parser.parse_args()
    train, test = {}, {}
    for intent, (sha_train, sha_test) in SOURCES.items():
        train[intent] = read(read_source(arguments.source, f"train_{intent}_full.json", sha_train), intent)
        test[intent] = read(read_source(arguments.source, f"validate_{intent}.json", sha_test), intent)
    chosen: dict[str, list[tuple[str, str]]] = {name: [] for name in PER_INTENT}
    for intent, texts in test.items():
        chosen["test"] += [(text, intent) for text in draw(texts, PER_INTENT["test"], ())[0]]
    held_out = [trigrams(text) for text, _ in chosen["test"]]
    for intent, texts in train.items():
        chosen["validation"] += [(text, intent) for text in draw(texts, PER_INTENT["validation"], held_out)[0]]
    held_out += [trigrams(text) for text, _ in chosen["validation"]]
    dropped = 0
    for intent, texts in train.items():
        drawn, passed_over = draw(texts, PER_INTENT["train"], held_out)
        chosen["train"] += [(text, intent) for text in drawn]
        dropped += passed_over
    for name, pairs in chosen.items():
        source = test if name == "test" else train
        rows = [
            {
                "instruction": INSTRUCTION,
                "input": text,
                "output": answer(intent, source[intent][text]),
                "intent": intent,
            }
            for text, intent in sorted(pairs, key=lambda pair: lot(name, *pair))
        ]
        write_rows(arguments.out / f"{name}.jsonl", rows)
        print(f"{name}: {len(rows)} rows")
    print(f"passed over in drawing train rows, near duplicates of a held-out one: {dropped}")
    write_text(arguments.out / "answer.schema.json", json.dumps(schema([train, test]), indent=1) + "\n")


def read(data: bytes, intent: str) -> dict[str, dict[str, str]]:
    """The slots of each command; commands with a slot twice, and those that stand there with two readings, are left
    out."""
    # one character of train_PlayMusic_full.json is written as two halves of UTF-16 (CESU-8)
    text = data.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass").decode("utf-16")
    found: dict[str, dict[str, str]] = {}
    twice: set[str] = set()
    for row in json.loads(text)[intent]:
        command = " ".join("".join(part["text"] for part in row["data"]).split())
        parts = [(part["entity"], " ".join(part["text"].split())) for part in row["data"] if "entity" in part]
        slots = dict(parts)
        if len(slots) < len(parts) or found.get(command, slots) != slots:
            twice.add(command)
        found[command] = slots
    return {command: slots for command, slots in found.items() if command not in twice}


def answer(intent: str, slots: dict[str, str]) -> str:
    """The expected answer: the intent first, then its slots in the order of the command."""
    return json.dumps({"intent": intent, **slots}, ensure_ascii=False)


def schema(sources: list[dict[str, dict[str, dict[str, str]]]]) -> dict[str, Any]:
    """The JSON Schema of an answer: an intent, and of the slots those that the intent has."""
    slots = {
        intent: sorted({slot for source in sources for found in source[intent].values() for slot in found})
        for intent in SOURCES
    }
    every = sorted({slot for names in slots.values() for slot in names})
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A voice command",
        "type": "object",
        "properties": {
            "intent": {"enum": list(SOURCES)},
            **{slot: {"type": "string", "minLength": 1} for slot in every},
        },
        "required": ["intent"],
        "additionalProperties": False,
        "allOf": [
            {
                "if": {"properties": {"intent": {"const": intent}}},
                "then": {"propertyNames": {"enum": ["intent", *names]}},
            }
            for intent, names in slots.items()
        ],
    }


if __name__ == "__main__":
    main()
