"""What a run reads: base model, data, tokenizer and other files, each by its hash or its commit on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.check.paths import resolve_input_path
from core.check.wording import dotted
from core.hub_access import hub_reachable
from core.lock.hashes import MODEL_SUFFIXES, file_hash, files_by_name, folder_hashes, text_hash, tokenizer_hash
from core.types import DatasetPlan, KeyPath, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_SECONDS = 10.0


def inputs(plan: Plan, tokenizer: Tokenizer, paths: Mapping[KeyPath, str]) -> dict[str, Any]:
    """The sections `base_model`, `data`, `files`, `tokenizer` and `chat_template` of a lock.

    paths: every value of the recipe that names an input file, by its place.
    """
    template = tokenizer.chat_template
    datasets = (*plan.datasets, *plan.validation, *plan.evaluation.datasets)
    return {
        "base_model": base_model(plan),
        "data": {dotted(dataset.key): data_content(dataset) for dataset in datasets},
        "files": dict(_files(plan, paths)),
        "tokenizer": {"class": type(tokenizer).__name__, "sha256": tokenizer_hash(tokenizer)},
        "chat_template": None if template is None else text_hash(str(template)),
    }


def base_model(plan: Plan) -> dict[str, Any]:
    """The base model: the hash of a GGUF file, of each file of a folder, or the commit on the hub."""
    path = Path(plan.base_model)
    if path.is_file():
        return {"sha256": file_hash(path)}
    if path.is_dir():
        return {"files": folder_hashes(path, MODEL_SUFFIXES, deep=False)}
    return {"commit": hub_commit(plan.base_model, plan.recipe["revision_of_model"], "model")}


def data_content(dataset: DatasetPlan) -> dict[str, Any]:
    """The hash of each file of a data set, or its commit on the hub (None where nobody can say).

    Of a data set that is streamed, the size of each file: it is not read through before the run.
    """
    from core.data.files import READERS
    from core.data.sources import contents_elsewhere

    path, wanted = Path(dataset.path), dataset.options.get("data_files")
    elsewhere = contents_elsewhere(dataset.path, dataset.options)
    if elsewhere is not None:
        return {"elsewhere": None if None in elsewhere.values() else elsewhere}
    if dataset.options.get("streaming") and path.exists():
        files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
        return {"files": {file.name: f"{file.stat().st_size} bytes" for file in files}}
    if path.is_file():
        return {"sha256": file_hash(path)}
    if path.is_dir():
        return {"files": folder_hashes(path)}
    if dataset.path in READERS and wanted:
        return {"files": files_by_name(dict(_named([wanted] if isinstance(wanted, str) else wanted)))}
    return {"commit": hub_commit(dataset.path, dataset.options.get("revision"), "dataset")}


def _named(patterns: list[str]) -> Iterator[tuple[str, Path]]:
    for pattern in patterns:
        start = Path("/") if Path(pattern).is_absolute() else Path.cwd()
        for file in sorted(start.glob(pattern.lstrip("/"))):
            yield str(file.relative_to(start)), file


def _files(plan: Plan, paths: Mapping[KeyPath, str]) -> Iterator[tuple[str, Any]]:
    """The other files that the recipe names: adapters to go on from, templates, schemas of answers."""
    listed = {(*dataset.key, "path") for dataset in (*plan.datasets, *plan.validation, *plan.evaluation.datasets)}
    for key, text in paths.items():
        if key == ("base_model",) or key in listed:
            continue
        path = Path(resolve_input_path(text, plan.recipe.folder_of(key)))
        if path.is_absolute() and path.is_file():
            yield dotted(key), file_hash(path)
        elif path.is_absolute() and path.is_dir():
            yield dotted(key), folder_hashes(path, MODEL_SUFFIXES, deep=False)


def hub_commit(repo: str, revision: str | None, kind: str) -> str | None:
    """The commit of a repository on the hub that a load at `revision` (default: main) gets; None where nobody can say.

    A model's files have just been asked for, so the hub's cache knows; for data the hub itself is asked first.
    """
    revision = revision or "main"
    if COMMIT.fullmatch(revision):
        return revision
    cached = _cached_commit(repo, revision, kind)
    if (cached is not None and kind == "model") or not hub_reachable():
        return cached
    from huggingface_hub import HfApi

    try:
        return HfApi().repo_info(repo, repo_type=kind, revision=revision, timeout=HUB_SECONDS).sha or cached
    except Exception:  # whatever the client and its HTTP library raise: the load itself will tell what is wrong
        return cached


def _cached_commit(repo: str, revision: str, kind: str) -> str | None:
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.file_download import repo_folder_name

    note = Path(HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type=kind) / "refs" / revision
    return note.read_text(encoding="ascii").strip() if note.is_file() else None
