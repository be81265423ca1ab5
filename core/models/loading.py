"""What every load from transformers shares: no noise where nobody watches, and errors a user can act on."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.hub_access import hub_reachable

REASON_LENGTH = 300
IN_TURN = "HF_DEACTIVATE_ASYNC_LOAD"  # transformers' own switch; else four tensors are read ahead in both formats
# bitsandbytes reports each optional kernel it does not find, the hub each of its retries
NOISY_LOGGERS = ("bitsandbytes", "huggingface_hub")
# What transformers says at length, and what it means: (part of its text, message, help).
KNOWN_REASONS = (
    (
        "ignore_mismatched_sizes",
        "the shapes of its weights contradict its config.json",
        "get an intact copy of the model",
    ),
    (
        "does not recognize this architecture",
        "this version of transformers does not know its model_type",
        "upgrade transformers; a model that brings its own code needs --trust-remote-code",
    ),
    (
        "Couldn't instantiate the backend tokenizer",
        "it has no tokenizer files that can be read here",
        "add its tokenizer.json, or name a folder or hub id that has it as tokenizer_config",
    ),
    (
        "trust_remote_code",
        "it brings its own code, which has not been allowed to run",
        "read that code, then allow it with --trust-remote-code",
    ),
    (
        "couldn't connect",
        "the hub cannot be reached and its files are not in the hub cache",
        "check the spelling and the network, or name a local folder",
    ),
    (
        "couldn't find them in the cached files",
        "the hub cannot be reached and its files are not in the hub cache",
        "check the spelling and the network, or name a local folder",
    ),
    ("gated repo", "its licence has to be accepted first", "accept it on the model's hub page and run `hf auth login`"),
)


def load_arguments(address: str, *, revision: str | None, trust_remote_code: bool) -> dict[str, Any]:
    """The arguments that every `from_pretrained` gets.

    With no network, the hub's cache is asked at once, instead of after half a minute of retries for each file.
    """
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if Path(address).is_absolute():
        return arguments
    return arguments | {"revision": revision or "main", "local_files_only": not hub_reachable()}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars (unless stderr is a terminal), the libraries' notices of coming changes, and the reports of
    transformers that we replace by our own."""
    from transformers import utils

    transformers_logging: Any = utils.logging

    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    transformers_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def read_apart(*, in_turn: bool) -> Iterator[None]:
    """Within: transformers reads each tensor of a safetensors file into memory of its own; in_turn: one at a time.

    As a view of the mapped file, one tensor that stays as it is (an embedding beside packed layers) would keep
    the pages of all that was read for as long as the model lives.
    """
    from transformers import modeling_utils

    module: Any = modeling_utils
    opened = module.safe_open

    def open_apart(*args: Any, **kwargs: Any) -> Any:
        # releases of transformers that name no backend know none
        return opened(*args, **(kwargs | {"backend": "pread"} if "backend" in kwargs else kwargs))

    asked = os.environ.get(IN_TURN)
    if in_turn:
        os.environ[IN_TURN] = "1"
    module.safe_open = open_apart
    try:
        yield
    finally:
        module.safe_open = opened
        if asked is None:
            os.environ.pop(IN_TURN, None)
        else:
            os.environ[IN_TURN] = asked


@contextmanager
def explained(what: str, address: str) -> Iterator[None]:
    """Turn the ways in which `what` at `address` can be unloadable into a `UserError` with the library's own reason."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    unreadable = (OSError, ValueError, ImportError, SafetensorError, StrictDataclassError, KeyError)
    try:
        yield
    except UserError:
        raise
    # KeyError, TypeError and AttributeError are what a config or tokenizer file of the wrong shape comes to
    except (*unreadable, TypeError, AttributeError) as error:
        raise _explanation(what, address, error) from error
    except RuntimeError as error:
        # weights whose shapes contradict the config come as a plain RuntimeError; any other is not the user's
        if "ignore_mismatched_sizes" not in str(error):
            raise
        raise _explanation(what, address, error) from error


def shortened(error: BaseException) -> str:
    """The error's text on one line, at most about 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= REASON_LENGTH else text[:REASON_LENGTH].rsplit(" ", 1)[0] + " ..."


def _explanation(what: str, address: str, error: BaseException) -> UserError:
    text = str(error)
    for part, reason, help in KNOWN_REASONS:
        if part in text:
            return UserError(f"{what} {address!r} cannot be loaded: {reason}", help=help)
    if isinstance(error, ImportError):
        help = "install the package it asks for"
    elif address.endswith(".gguf"):
        help = "check that the file is a whole GGUF model; if its download was cut short, fetch it again"
    elif Path(address).is_absolute():
        help = "check that it is a complete model in the Hugging Face layout"
    else:
        help = "check the spelling and the network, or name a local folder"
    return UserError(f"{what} {address!r} cannot be loaded: {shortened(error)}", help=help)
