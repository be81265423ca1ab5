"""Names that stand for secrets, and values shown without them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MASKED = "***"
SECRET_ENDINGS = ("_token", "_api_key", "apikey", "password", "secret", "secrets")
# variables are named by others: rather one too many
SECRET_VARIABLES = ("token", "key", "password", "passwd", "secret", "secrets", "credential", "credentials")
# tokens of the vocabulary, no passwords
TOKENS = frozenset({"bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"})


def without_secrets(value: Any, key: str = "") -> Any:
    """`value` with everything that stands under a key named like a secret masked."""
    if isinstance(value, (str, list, tuple)) and names_a_secret(key) and not _only_names(value):
        return MASKED
    if isinstance(value, Mapping):
        return {str(name): without_secrets(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def names_a_secret(key: str) -> bool:
    """Whether a recipe key is named like something that must not be shown."""
    return key.lower().endswith(SECRET_ENDINGS) and key not in TOKENS


def holds_a_secret(variable: str) -> bool:
    """Whether an environment variable is named like one that holds a secret."""
    return variable.lower().endswith(SECRET_VARIABLES)


def _only_names(value: Any) -> bool:
    """Whether a text says no more than which variable holds the secret."""
    return isinstance(value, str) and re.fullmatch(r"\$\{\w+\}", value) is not None
