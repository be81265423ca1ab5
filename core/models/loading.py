"""What every load from transformers shares: no noise where nobody watches, and errors a user can act on."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import UserError

REASON_LENGTH = 300
# bitsandbytes reports each optional kernel it does not find, which changes nothing but speed
NOISY_LOGGERS = ("bitsandbytes",)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars (unless stderr is a terminal) and the reports of transformers that we replace by our own."""
    from transformers.utils import logging as transformers_logging

    levels = {name: logging.getLogger(name).level for name in NOISY_LOGGERS}
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    transformers_logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def explained(what: str, address: str) -> Iterator[None]:
    """Turn the ways in which `what` at `address` can be unloadable into a `UserError` with the library's own reason."""
    from safetensors import SafetensorError

    try:
        yield
    except UserError:
        raise
    # KeyError and TypeError are what transformers raises for a config or tokenizer file of the wrong shape
    except (OSError, ValueError, ImportError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise UserError(
            f"{what} {address!r} cannot be loaded: {shortened(error)}", help=_next_step(error, address)
        ) from error
    except RuntimeError as error:
        # weights whose shapes contradict the config come as a plain RuntimeError; any other is not the user's
        if "size mismatch" not in str(error) and "mismatched" not in str(error):
            raise
        raise UserError(
            f"{what} {address!r} cannot be loaded: {shortened(error)}",
            help="its weights do not fit its config.json; get an intact copy of the model",
        ) from error


def shortened(error: BaseException) -> str:
    """The error's text on one line, at most about 300 characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= REASON_LENGTH else text[:REASON_LENGTH].rsplit(" ", 1)[0] + " ..."


def _next_step(error: BaseException, address: str) -> str:
    text = str(error)
    if "trust_remote_code" in text:
        return "the model brings its own code: read it, then allow it with --trust-remote-code"
    if "gated" in text or "401" in text or "403" in text:
        return "accept the model's licence on its hub page and run `hf auth login`, or name a local folder"
    if isinstance(error, ImportError):
        return "install the package it asks for"
    if address.startswith("/"):
        return "check that the folder holds a complete model in the Hugging Face layout"
    return "check the spelling and the network (offline, only models already in the hub cache load), or name a local folder"
