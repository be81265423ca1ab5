"""Prepared data on disk, found again by everything that decides what it is."""

from __future__ import annotations

from core.data.cache.entries import (
    CacheEntry,
    abandoned,
    cache_entries,
    prepared_folder,
    read_entry,
    remove_folder,
    take_entry,
)
from core.data.cache.key import key_inputs, key_of
from core.models.gguf import cache_folder

__all__ = [
    "CacheEntry",
    "abandoned",
    "cache_entries",
    "cache_folder",
    "key_inputs",
    "key_of",
    "prepared_folder",
    "read_entry",
    "remove_folder",
    "take_entry",
]
