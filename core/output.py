"""The output folder: never overwritten unasked, and cleared only when the run that replaces it is ready to train."""

from __future__ import annotations

import shutil
from pathlib import Path

from core.errors import UserError
from core.types import Plan

# what a run tells about itself
RECORDS = (
    "run.json",
    "report.html",
    "predictions.jsonl",
    "answers",
    "evaluations",
    "training.json",
    "metrics.jsonl",
    "README.md",
    "recipe.lock.yml",
    "reproduction.json",
)
# What a run leaves behind. --overwrite replaces only these, so that a mistyped output_dir cannot empty a home folder.
RUN_FILES = (
    *RECORDS,
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
# a folder called `runs` may hold more than TensorBoard's files
TENSORBOARD = ("runs/*/events.out.tfevents.*", "runs/events.out.tfevents.*")
OTHER_MODELS = ("checkpoint-*", "repeat-*", ".partial-*")
RUN_PATTERNS = (*TENSORBOARD, "model*.safetensors", *OTHER_MODELS)
# what people and loggers put beside a model
BESIDE_MODELS = (".log", ".out", ".err", ".md", ".html")


def refuse_existing_run(plan: Plan) -> None:
    """Raise `UserError` where the output folder holds a run and neither overwriting nor resuming was asked for.

    Called before the processes meet, so that no rank can mistake the first file of this run for an earlier one.
    """
    folder = plan.output_dir
    try:
        in_the_way = folder.exists() and not folder.is_dir()
    except OSError as error:  # a name too long, or a folder on the way that may not be entered
        raise UserError(
            f"output_dir {str(folder)!r} cannot be used: {error.strerror}", help="choose another output_dir"
        ) from error
    if in_the_way:
        raise UserError(f"output_dir {str(folder)!r} is a file", help="choose another output_dir")
    if folder.resolve() in (Path(folder.anchor), Path.home().resolve()):
        raise UserError(
            f"output_dir {str(folder)!r} is the root or the home folder", help="choose a folder of its own for the run"
        )
    # the lock and the answers of the untuned model are what is left by training that ended before its first step
    existing = [entry for entry in run_files(folder) if entry.name not in ("recipe.lock.yml", "answers")]
    if existing and not plan.overwrite and plan.resume_from is None:
        more = len(existing) - 1
        beside = f" and {more} more {'entry' if more == 1 else 'entries'}" if more else ""
        raise UserError(
            f"output_dir {str(folder)!r} already holds a run ({existing[0].name}{beside})",
            help="choose another output_dir, or add --resume to go on with it, or --overwrite to replace it",
        )
    if plan.overwrite and plan.resume_from is None:
        _refuse_to_clear_sources(plan)


def _refuse_to_clear_sources(plan: Plan) -> None:
    """Raise `UserError` where --overwrite would remove what this very run is made from."""
    datasets = (*plan.datasets, *plan.validation, *plan.evaluation.datasets)
    # a hub id is no absolute path, and so never one of the files
    paths = (plan.base_model, *(dataset.path for dataset in datasets))
    sources = [Path(text).resolve() for text in paths if Path(text).is_absolute()]
    folder = plan.output_dir.resolve()
    for entry in run_files(folder):
        for source in sources:
            if source in (folder, entry) or entry in source.parents:
                raise UserError(
                    f"--overwrite would remove {entry.name!r} of output_dir {str(plan.output_dir)!r}, "
                    f"and this run reads {str(source)!r}",
                    help="choose another output_dir",
                )


def claim_output_dir(plan: Plan) -> None:
    """Make the output folder ready: the main process clears an earlier run if asked to, all others wait.

    Raises `UserError` on every rank where the folder cannot be written.
    """
    from core.processes import barrier, gather_objects, is_main

    failures: list[str] = []
    if is_main():
        try:
            _clear_and_probe(plan)
        except OSError as error:
            failures.append(error.strerror or str(error))
    barrier()
    for reason in gather_objects(failures):
        raise UserError(
            f"output_dir {str(plan.output_dir)!r} cannot be written: {reason}", help="choose another output_dir"
        )


def _clear_and_probe(plan: Plan) -> None:
    if plan.overwrite and plan.resume_from is None:
        for entry in run_files(plan.output_dir):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
                _remove_empty(entry.parent, plan.output_dir)
    plan.output_dir.mkdir(parents=True, exist_ok=True)
    probe = plan.output_dir / ".partial-probe"
    probe.touch()
    probe.unlink()


def _remove_empty(folder: Path, output_dir: Path) -> None:
    """Remove `folder`, and those around it inside the output folder, as far as nothing is left in them."""
    while folder != output_dir and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


def model_files(folder: Path) -> dict[str, Path]:
    """Every file that the model (or adapter) in `folder` may be read from, by its path inside, whatever it is called.

    Left out is what a run writes about itself, other models in folders of their own, logs, and what is hidden.
    """
    found = {}
    for entry in sorted(folder.iterdir()):
        other = any(entry.match(pattern) for pattern in OTHER_MODELS)
        if entry.name == "runs" or other:
            continue
        for file in sorted(entry.rglob("*")) if entry.is_dir() else [entry]:
            inside = file.relative_to(folder)
            told = any(part.startswith(".") or part in RECORDS for part in inside.parts)
            if file.is_file() and not told and file.suffix not in BESIDE_MODELS:
                found[inside.as_posix()] = file
    return found


def run_files(folder: Path) -> list[Path]:
    """What an earlier run left in `folder`, sorted by name."""
    named = {folder / name for name in RUN_FILES if (folder / name).exists()}
    return sorted(named | {entry for pattern in RUN_PATTERNS for entry in folder.glob(pattern)})
