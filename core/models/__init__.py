"""Base models and tokenizers: finding them, loading them, saving what became of them.

Importing this package is light; torch and transformers are imported when a function needs them.
"""

from __future__ import annotations

from core.models.base import load_base, load_untouched_base, resized_embeddings
from core.models.loading import explained, quiet, shortened
from core.models.parameters import parameter_counts
from core.models.save import open_to_others, save_model
from core.models.source import resolve_base_model
from core.models.state import full_state_dict, unwrapped
from core.models.tokenizer import added_tokens, load_tokenizer

__all__ = [
    "added_tokens",
    "explained",
    "full_state_dict",
    "load_base",
    "load_tokenizer",
    "load_untouched_base",
    "open_to_others",
    "parameter_counts",
    "quiet",
    "resized_embeddings",
    "resolve_base_model",
    "save_model",
    "shortened",
    "unwrapped",
]
