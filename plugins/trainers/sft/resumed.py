"""Whether a checkpoint fits the model that the recipe makes now: asked before anything is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from core import Problem, RecipeError, UserError

ADAPTER_CONFIG = "adapter_config.json"
# what decides the shapes and the scale of an adapter, as peft names it -> the recipe's key
SETTINGS = {
    "peft_type": "adapter",
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "target_modules": "lora_target_modules",
    "target_parameters": "lora_target_parameters",
    "modules_to_save": "lora_modules_to_save",
    "layers_to_transform": "peft_layers_to_transform",
    "use_rslora": "peft_use_rslora",
    "use_dora": "peft_use_dora",
}
HELP = "go on with what the checkpoint was trained with, or start anew with --overwrite"


def refuse_other_model(model: Any, checkpoint: Path) -> None:
    """Raise `RecipeError` where adapter or weights in `checkpoint` are not those of `model`, with both values, and
    `UserError` where a file of the checkpoint is missing or broken off."""
    _refuse_damaged(checkpoint)
    configs = getattr(model, "peft_config", None)
    saved = checkpoint / ADAPTER_CONFIG
    if saved.is_file() != (configs is not None):
        kinds = ("an adapter", "a whole model")
        held, made = kinds if saved.is_file() else kinds[::-1]
        problems = [_problem("adapter", f"{str(checkpoint)!r} holds {held}, and the recipe trains {made}")]
    elif configs is not None:
        config = configs.get("default") or next(iter(configs.values()))
        before = json.loads(saved.read_text(encoding="utf-8"))
        problems = list(_settings(before, config.to_dict(), checkpoint))
    else:
        problems = []
    problems = problems or list(_shapes(model, checkpoint))
    if problems:
        raise RecipeError(problems)


def _refuse_damaged(checkpoint: Path) -> None:
    from safetensors import SafetensorError

    broken = ""
    try:
        weights = [name for name, _ in _saved_shapes(checkpoint)]
        # shards and other trainers' files lie in folders of their own
        if not weights and not any(entry.is_dir() or entry.suffix == ".bin" for entry in checkpoint.iterdir()):
            broken = "it has no file of weights (*.safetensors)"
        for file in (checkpoint / ADAPTER_CONFIG, checkpoint / "trainer_state.json"):
            broken = broken or _not_json(file)
    except SafetensorError as error:
        broken = f"its weights cannot be read: {error}"
    for pattern in ("*.pt", "*.pth"):
        for file in sorted(checkpoint.glob(pattern)):
            # torch writes archives, whose list of contents comes last
            broken = broken or ("" if is_zipfile(file) else f"{file.name} is not whole")
    if broken:
        help = "go on from an earlier one with --resume FOLDER/checkpoint-N, or start anew with --overwrite"
        raise UserError(f"checkpoint {str(checkpoint)!r} is damaged: {broken}", help=help)


def _not_json(file: Path) -> str:
    try:
        if file.is_file():
            json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return f"{file.name} is not whole"
    return ""


def _settings(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> Iterator[Problem]:
    for name, key in SETTINGS.items():
        was, is_ = _plain(before.get(name)), _plain(now.get(name))
        if name in before and name in now and was != is_:
            message = f"{str(checkpoint)!r} was trained with {key} {_shown(was)}, the recipe says {_shown(is_)}"
            yield _problem(key, message)


def _shapes(model: Any, checkpoint: Path) -> Iterator[Problem]:
    """The first tensor of another shape, for what no setting explains."""
    own = {_saved_name(name): tuple(parameter.shape) for name, parameter in model.named_parameters()}
    packed = {_saved_name(name) for name, parameter in model.named_parameters() if hasattr(parameter, "quant_state")}
    for name, shape in _saved_shapes(checkpoint):
        if name in own and name not in packed and 0 not in own[name] and own[name] != shape:
            message = f"{str(checkpoint)!r} has {name} in the shape {shape}, the model of this recipe in {own[name]}"
            yield _problem("base_model", message)
            return


def _saved_shapes(checkpoint: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    from safetensors import safe_open

    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  no map
                yield name, tuple(tensors.get_slice(name).get_shape())


def _saved_name(name: str) -> str:
    """A parameter's name as peft writes it: without the name of the adapter."""
    return name.replace(".modules_to_save.default", "").replace(".default", "")


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple, set)):
        return sorted(map(str, value))
    return value or None if value is not False else None


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else "nothing" if value is None else str(value)


def _problem(key: str, message: str) -> Problem:
    return Problem(message, key=(key,), at="value", help=HELP)
