"""Addresses of data elsewhere: which there are, and what they need installed. Light."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from core.secrets import masked_address

MARK = "://"
LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Store:
    """A kind of address. module: what reads it; extra: the extra of this distribution that brings it."""

    module: str
    package: str
    extra: str


_AZURE = Store("adlfs", "adlfs", "azure")
_GOOGLE = Store("gcsfs", "gcsfs", "gcs")
STORES = {
    "s3": Store("s3fs", "s3fs", "s3"),
    "gs": _GOOGLE,
    "gcs": _GOOGLE,
    "az": _AZURE,
    "abfs": _AZURE,
    "abfss": _AZURE,
    "hf": Store("huggingface_hub", "huggingface_hub", ""),
}
KNOWN = "https://, s3://, gs://, az:// and hf://datasets/"


def is_address(text: str) -> bool:
    """Whether `text` is an address rather than a path or the name of a data set."""
    return MARK in text


def scheme_of(text: str) -> str:
    """The part of an address before `://`."""
    return text.partition(MARK)[0].lower()


def refusal(address: str) -> tuple[str, str] | None:
    """(what is wrong, what to do) with an address that cannot be read anywhere; None if it can."""
    scheme = scheme_of(address)
    try:
        host = urlsplit(address).hostname
    except ValueError as error:
        return f"{masked_address(address)!r} is no address: {str(error).lower()}", "check it"
    if scheme == "http" and host not in LOOPBACK:
        return f"{masked_address(address)!r} is not secure: http is refused", "use https, or fetch the file yourself"
    if scheme not in ("http", "https", *STORES):
        return f"{masked_address(address)!r}: {scheme}:// is no address that data are read from", f"there are {KNOWN}"
    if not host:
        return f"{masked_address(address)!r} names no server or bucket", "write scheme://server-or-bucket/path"
    return None


def missing_package(address: str) -> tuple[str, str] | None:
    """(the package, the command that installs it) that reading `address` lacks; None if nothing."""
    store = STORES.get(scheme_of(address))
    if store is None or find_spec(store.module) is not None:
        return None
    return store.package, f'pip install "tunesmith[{store.extra}]"'
