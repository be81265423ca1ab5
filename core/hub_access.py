"""Whether the hub can be reached: asked once and quickly, where its client would try again for half a minute."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from urllib.parse import urlsplit

PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
SECONDS = 5.0


@lru_cache(maxsize=1)
def hub_reachable() -> bool:
    """Whether the hub's server takes a connection; taken for granted where a proxy stands in between."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    if any(os.environ.get(name) or os.environ.get(name.lower()) for name in PROXIES):
        return True
    address = urlsplit(constants.ENDPOINT)
    port = 80 if address.scheme == "http" else 443
    try:
        with socket.create_connection((address.hostname or "", address.port or port), timeout=SECONDS):
            return True
    except OSError:
        return False


@contextmanager
def from_cache_alone() -> Iterator[None]:
    """Within: the hub's client and `datasets` ask no server, and answer at once from what they keep."""
    from datasets import config
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE = before
