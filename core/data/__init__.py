"""Rows into token ids and labels. Importing it stays light; the libraries load when data is read."""

from __future__ import annotations

from core.data.files import SourceRow
from core.data.items import item_of
from core.data.prepare import prepare
from core.data.sources import read_rows
from core.data.tokenise import Tokenized, encode_prompt, tokenize_example, tokenize_examples

__all__ = [
    "SourceRow",
    "Tokenized",
    "encode_prompt",
    "item_of",
    "prepare",
    "read_rows",
    "tokenize_example",
    "tokenize_examples",
]
