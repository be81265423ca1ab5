"""The key of prepared rows: one hash over everything that decides what they become.

The content of the data, the tokenizer, its chat template, the code of formats and checks, the versions of the libraries
that do the work, and every option: where one of them differs, the key does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.lock.hashes import code_hash, file_hash, text_hash, tokenizer_hash
from core.types import DatasetPlan, Plan

if TYPE_CHECKING:
    from core.types import Tokenizer

LAYOUT = 2  # raise it when the files of an entry change their form
# keys of the recipe that decide what is kept, and what the audit says; the rest stand in the options
RECIPE_KEYS = (
    "sequence_len",
    "excess_length_strategy",
    "on_bad_row",
    "max_bad_rows",
)
# options of a data set that decide no more than how often a row is trained on; like the seed and the split, which are
# in no key, they are used anew at every start
USED_ANEW = ("weight",)
# they read, render, tokenise and compare: another version may do so otherwise
LIBRARIES = ("tunesmith", "tokenizers", "transformers", "jinja2", "datasets", "pyarrow", "rensa", "py3langid", "numpy")
OWN_CODE = ("core.data", "core.audit", "plugins.formats", "plugins.checks")


def key_inputs(plan: Plan, tokenizer: Tokenizer) -> dict[str, Any] | None:
    """Everything that the key is made of, JSON-ready; None where the content of a data set cannot be told.

    The tokenizer has to have the recipe's chat template already. Raises `OSError` for a file that cannot be read.
    """
    from core.check.wording import dotted

    datasets = (*plan.datasets, *plan.validation, *plan.evaluation.datasets)
    content = {dotted(dataset.key): _content(dataset) for dataset in datasets}
    if None in content.values():
        return None
    functions = [dataset.format.render for dataset in datasets] + [planned.check.check for planned in plan.checks]
    return {
        "layout": LAYOUT,
        "data": content,
        "datasets": {dotted(dataset.key): _described(dataset) for dataset in datasets},
        "tokenizer": {"class": type(tokenizer).__name__, "sha256": tokenizer_hash(tokenizer)},
        "chat_template": tokenizer.chat_template,
        "recipe": {key: plan.recipe[key] for key in RECIPE_KEYS},
        "checks": {planned.check.name: [planned.level, dict(planned.options)] for planned in plan.checks},
        "code": dict(_code(functions)),
        "libraries": _versions(),
    }


def key_of(inputs: Mapping[str, Any]) -> str:
    """The key for these inputs."""
    return text_hash(json.dumps(inputs, sort_keys=True, default=str))[:32]


def _content(dataset: DatasetPlan) -> dict[str, Any] | None:
    from core.lock.inputs import data_content

    if Path(dataset.path).is_absolute() and not Path(dataset.path).exists():
        return None  # reading it says what is wrong
    if dataset.options.get("streaming"):
        return None  # nobody reads all of it
    content = data_content(dataset)
    return None if None in content.values() else content


def _described(dataset: DatasetPlan) -> dict[str, Any]:
    """The format and the options, with the content of files that they name; the path, because places are told by it."""
    from core.data.sources import shown

    named = {
        name: file_hash(Path(value))
        for name, value in dataset.options.items()
        if isinstance(value, str) and name.endswith("jinja") and "\n" not in value and _is_file(value)
    }
    options = {name: _untold(value) for name, value in dataset.options.items() if name not in USED_ANEW}
    path = _untold(dataset.path) if "://" in dataset.path else shown(dataset.path)
    return {"path": path, "format": dataset.format.name, "options": options, "files": named}


def _untold(value: Any) -> Any:
    """A value without the passwords and tokens of addresses, which would be kept with what was prepared."""
    from core.data.addresses import is_address
    from core.secrets import masked_address

    if isinstance(value, list):
        return [_untold(entry) for entry in value]
    if isinstance(value, str) and is_address(value) and masked_address(value) != value:
        return f"{masked_address(value)} {text_hash(value)[:12]}"
    return value


def _is_file(text: str) -> bool:
    try:
        return Path(text).expanduser().is_file()
    except OSError:
        return False  # longer than a path can be


def _code(functions: list[Callable[..., Any]]) -> Iterator[tuple[str, str]]:
    """The hash of the code that takes part: ours, and all of every plugin's package that a function comes from."""
    for name in OWN_CODE:
        yield name, _code_hash(_place(name))
    for module in sorted({function.__module__ for function in functions}):
        top = module.partition(".")[0]
        if not module.startswith(OWN_CODE):
            yield top, _code_hash(_place(top))


def _place(name: str) -> Path | None:
    module = sys.modules.get(name) or import_module(name)
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    return Path(file).parent if Path(file).name == "__init__.py" else Path(file)


def _code_hash(place: Path | None) -> str:
    return "none" if place is None else code_hash([place])


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found
