"""What is measured against each other: our preparation of data, and TRL's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SEQUENCE_LEN = 2048


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
