"""Finding what a name means, and the nearest name where it means nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from core.host import Host
from core.types import DatasetFormat

# suffixes that pick a format's ordinary form, as in `chat_template.default`
_ORDINARY = ("default", "load")

# what other tools call our keys; looked up before the spelling is compared
SYNONYMS = {
    "model": "base_model",
    "model_name": "base_model",
    "model_id": "base_model",
    "model_name_or_path": "base_model",
    "model_path": "base_model",
    "data": "datasets",
    "dataset": "datasets",
    "train_data": "datasets",
    "dataset_path": "datasets",
    "epochs": "num_epochs",
    "num_train_epochs": "num_epochs",
    "n_epochs": "num_epochs",
    "lr": "learning_rate",
    "per_device_train_batch_size": "micro_batch_size",
    "train_batch_size": "micro_batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "grad_accum_steps": "gradient_accumulation_steps",
    "gradient_accumulation": "gradient_accumulation_steps",
    "lr_scheduler_type": "lr_scheduler",
    "scheduler": "lr_scheduler",
    "optim": "optimizer",
    "max_seq_length": "sequence_len",
    "max_seq_len": "sequence_len",
    "max_length": "sequence_len",
    "cutoff_len": "sequence_len",
    "output": "output_dir",
    "save_dir": "output_dir",
    "packing": "sample_packing",
    "lora_rank": "lora_r",
    "rank": "lora_r",
    "target_modules": "lora_target_modules",
    "lora_target": "lora_target_modules",
    "modules_to_save": "lora_modules_to_save",
    "use_dora": "peft_use_dora",
    "use_rslora": "peft_use_rslora",
    "finetuning_type": "adapter",
    "tuner_type": "adapter",
    "template": "chat_template",
    "adam_eps": "adam_epsilon",
    "format": "type",
    "validation_split": "val_set_size",
    "val_size": "val_set_size",
    "metrics": "evaluation",
    "max_grad_clip": "max_grad_norm",
    "gradient_clipping": "max_grad_norm",
    "logging_interval": "logging_steps",
}


def find_format(name: str, host: Host) -> DatasetFormat | None:
    """The data set format called `name`, also as `name.default` or `name:style`; None if there is none."""
    name, style = parted_style(name)
    base, _, suffix = name.rpartition(".")
    found = host.formats.get(name) or (host.formats.get(base) if suffix in _ORDINARY else None)
    if found and style and style not in found.options_schema.get("prompt_style", {}).get("enum", ()):
        return None
    return found


def parted_style(name: str) -> tuple[str, str]:
    """`alpaca:chat` as the format's name and the style of its prompt; the style is empty where none is named."""
    base, _, style = name.partition(":")
    return base, style


def suggest(word: str, candidates: Iterable[str], default: Any = None) -> str | None:
    """The candidate that `word` most likely means, or None if none is near.

    default: the one to name where a word is near the beginning of several, as `adamm` is to `adamw_torch`.
    """
    known = sorted(set(candidates))
    plain = {candidate.lower().replace("-", "_"): candidate for candidate in known}
    written = word.lower().replace("-", "_").replace(" ", "_")
    if written in plain:
        return plain[written]
    if SYNONYMS.get(written) in known:
        return SYNONYMS[written]
    close = [(distance(written, name), name) for name in plain if abs(len(name) - len(written)) <= 3]
    limit = 1 + len(written) // 6 if len(written) > 3 else 1
    best = min(close, default=(limit + 1, ""))
    if best[0] <= limit and best[0] < len(written):
        return plain[best[1]]
    near = difflib.get_close_matches(written, plain, n=1, cutoff=0.75)
    if near:
        return plain[near[0]]
    parts = set(written.split("_"))
    holding = [name for name in plain if len(written) > 3 and parts <= set(name.split("_"))]
    if not holding and len(written) > 4:
        holding = [name for name in plain if "_" in name and distance(written, name.partition("_")[0]) == 1]
    return default if default in holding else plain[min(holding, key=len)] if holding else None


def distance(left: str, right: str) -> int:
    """Edits (insert, delete, replace, swap two neighbours) between two words: optimal string alignment."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        previous, row, older = row, [i], before
        for j, b in enumerate(right, start=1):
            cost = min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        before = previous
    return row[-1]


def did_you_mean(word: Any, candidates: Iterable[str], default: Any = None) -> str | None:
    """`did you mean 'x'?`, or None; `default` as for `suggest`."""
    found = suggest(str(word), candidates, default)
    return f"did you mean {found!r}?" if found else None
