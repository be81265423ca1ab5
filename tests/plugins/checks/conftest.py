from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from core import Finding
from core.host import load_host
from core.testing.data import make_facts
from core.testing.tiny import make_tiny_tokenizer

Run = Callable[..., list[Finding]]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    make_tiny_tokenizer(folder)
    return AutoTokenizer.from_pretrained(str(folder))


@pytest.fixture(scope="session")
def run(tokenizer: Any) -> Run:
    """`run(check, rows, **facts)`: what a built-in check finds in these rows, read as `type` (default alpaca)."""
    host = load_host()

    def run(name: str, train: Sequence[Any], *, type: str = "alpaca", given: Any = None, **facts: Any) -> list[Finding]:
        check = host.data_checks[name]
        options = {key: schema["default"] for key, schema in check.options_schema.items()} | (given or {})
        made = make_facts(train, tokenizer=tokenizer, format=host.formats[type], **facts)
        found = check.check(made, options)
        assert isinstance(found, list)
        return found

    return run
