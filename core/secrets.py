"""What must not be shown: values of keys named like secrets, passwords in addresses, and tokens known by their form.

One mechanism for every output: `without_secrets` for values, `masked` for texts, `masked_address` for addresses of
data, `masked_line` for a line of a recipe.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

MASKED = "***"
SECRET_ENDINGS = ("_token", "_api_key", "apikey", "password", "secret", "secrets")
# variables are named by others: rather one too many
SECRET_VARIABLES = ("token", "key", "password", "passwd", "secret", "secrets", "credential", "credentials")
# tokens of the vocabulary, no passwords
TOKENS = frozenset({"bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token"})
SHORTEST, LONG = 4, 8

# on Azure the name before the @ is that of a container
_SCHEME = r"(?<!abfs)(?<!abfss)(?<!wasb)(?<!wasbs)://"
_USER = re.compile(rf"{_SCHEME}(?P<value>[\w.~%!$&*+,;=:-]+)@")
_USER_OF_ADDRESS = re.compile(rf"{_SCHEME}[^/@\s]*@")  # whatever it holds: nothing but an address is looked at
_QUERY = re.compile(r"(?<=[?&])(?P<name>[\w.-]+)=(?P<value>[^&\s'\"#]+)")
_QUERY_NAME = re.compile(r"token|key|sig|secret|pass|pwd|credential|auth|policy|session", re.IGNORECASE)
# how the hub and well-known services write their tokens
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{30,}|gh[opsru]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}"
    r"|sk-[\w-]{20,}|xox[abp]-[\w-]{20,}|AKIA[A-Z0-9]{16})(?![A-Za-z0-9])"
)
_NAME = re.compile(r"(?P<name>[\w.-]+)(?P<quote>['\"]?)\s*[:=]\s*")
# what a value that is no secret may be: nothing, a switch, or the name of the variable that holds it
_OPEN = re.compile(r"(?i)null|~|true|false|[|>][-+]?|\$\{\w+\}")


def without_secrets(value: Any, key: str = "") -> Any:
    """`value` with everything that stands under a key named like a secret masked, and passwords inside its texts."""
    if names_a_secret(key) and not isinstance(value, (bool, type(None))) and not _only_names(value):
        return MASKED
    if isinstance(value, Mapping):
        return {str(name): without_secrets(entry, str(name)) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(entry) for entry in value]
    return masked(value) if isinstance(value, str) else str(value) if isinstance(value, Path) else value


def masked(text: str, known: Iterable[str] = ()) -> str:
    """`text` without passwords in addresses, tokens known by their form, and the `known` secrets."""
    return _cut_out(text, _spans(text, known))


def masked_address(text: str) -> str:
    """An address without its password, and without any value after its `?`, whatever its name; other texts as they
    are."""
    if "://" not in text:
        return text
    base, mark, query = text.partition("?")
    base = masked(_USER_OF_ADDRESS.sub(f"://{MASKED}@", base))
    if not mark:
        return base
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    return f"{base}?{'&'.join(f'{name}={MASKED}' for name in names) or MASKED}"


def masked_line(line: str, column: int, known: Iterable[str] = ()) -> tuple[str, int]:
    """A line `key: value` of a recipe without the value of a key named like a secret, and what `masked` cuts out.

    Returns it with `column` (an index into `line`) moved to where the same character now stands.
    """
    spans = _merged([*_spans(line, known), *_values(line)])
    for start, end in reversed(spans):
        if column >= end:
            column -= end - start - len(MASKED)
        elif column > start:
            column = start
    return _cut_out(line, spans), column


def secrets_in(values: Any, lines: Iterable[str] = (), *, key: str = "", shortest: int = SHORTEST) -> set[str]:
    """The texts that are secrets by the name of their key: in a recipe's values, and in lines that may be broken.

    key: the one that `values` stand under. shortest: the least length; a shorter text stands in others by chance.
    """
    found = {line[start:end] for line in lines for start, end in _values(line)}
    found |= {line.strip() for value in _under_secret_keys(values, key) for line in str(value).splitlines()}
    return {text for text in found if len(text) >= shortest and not _only_names(text)}


def holds_a_mask(text: Any) -> bool:
    """Whether a value of an output stands for one that was masked there, and so means nothing by itself."""
    return isinstance(text, str) and (text == MASKED or re.search(r"://\S*(?<=[/=])\*\*\*(?![^@&#])", text) is not None)


def names_a_secret(key: str) -> bool:
    """Whether a recipe key is named like something that must not be shown."""
    return key.lower().endswith(SECRET_ENDINGS) and key not in TOKENS


def holds_a_secret(variable: str) -> bool:
    """Whether an environment variable is named like one that holds a secret."""
    return variable.lower().endswith(SECRET_VARIABLES)


def _only_names(value: Any) -> bool:
    """Whether a text says no more than which variable holds the secret."""
    return isinstance(value, str) and re.fullmatch(r"\$\{\w+\}", value) is not None


def _under_secret_keys(value: Any, key: str) -> Iterator[str | int | float]:
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _under_secret_keys(entry, key if names_a_secret(key) else str(name))
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _under_secret_keys(entry, key)
    elif names_a_secret(key) and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield value


def _spans(text: str, known: Iterable[str]) -> list[tuple[int, int]]:
    """Where the parts of `text` are that stay hidden."""
    spans = [found.span("value") for found in _USER.finditer(text)]
    spans += [found.span() for found in _TOKEN.finditer(text)]
    if "://" in text:
        found_names = [found for found in _QUERY.finditer(text) if _QUERY_NAME.search(found["name"])]
        spans += [found.span("value") for found in found_names]
    for secret in known:
        # a short one stands inside other words by chance
        pattern = re.escape(secret) if len(secret) >= LONG else rf"(?<!\w){re.escape(secret)}(?!\w)"
        spans += [found.span() for found in re.finditer(pattern, text)]
    return _merged(span for span in spans if text[slice(*span)] != MASKED)


def _values(line: str) -> list[tuple[int, int]]:
    """Where a line has the values of keys named like secrets."""
    spans = []
    for found in _NAME.finditer(line):
        if not names_a_secret(found["name"].rpartition(".")[2]):
            continue
        rest = line[found.end() :]
        if rest[:1] in ("'", '"') and (end := rest.find(rest[0], 1)) > 0:
            span = (1, end)
        elif "{" in line[: found.start()]:
            span = (0, len(re.match(r"\[[^\]]*\]?|[^,}]*", rest).group().rstrip()))  # type: ignore[union-attr]
        else:
            span = (0, len(rest.rstrip()))
        text = rest[slice(*span)]
        if text and text != MASKED and not _OPEN.fullmatch(text.partition(" #")[0].strip()):
            spans.append((found.end() + span[0], found.end() + span[1]))
    return spans


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _cut_out(text: str, spans: Collection[tuple[int, int]]) -> str:
    for start, end in sorted(spans, reverse=True):
        text = f"{text[:start]}{MASKED}{text[end:]}"
    return text
