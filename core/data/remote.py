"""Data elsewhere: https servers, and object stores through fsspec. Read as a stream: nothing has to fit here."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from http.client import HTTPException, HTTPResponse
from typing import IO, Any, BinaryIO, cast
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from core.data.addresses import missing_package, refusal, scheme_of
from core.data.opened import CHUNK, SourceFile
from core.errors import DataError
from core.secrets import masked_address

PAUSE_SECONDS = 60.0  # the longest silence of a server
BLOCK = 8 << 20  # bytes that an object store is asked for at once
GLOB = "*?["


def is_web(address: str) -> bool:
    """Whether a web server has it, which cannot be asked what else there is."""
    return scheme_of(address) in ("http", "https")


def files_at(address: str, suffixes: Callable[[str], bool]) -> list[SourceFile]:
    """The files at `address`: one, those that a pattern names, or those of a folder whose names `suffixes` takes.

    Raises `DataError` for an address that is refused, a package that is missing, and what is not there.
    """
    _refuse(address)
    if is_web(address):
        return [SourceFile(_name_of(address), lambda: _open_web(address))]
    system, path = _system(address)
    scheme = scheme_of(address)
    try:
        if any(mark in path for mark in GLOB):
            paths = sorted(map(str, system.glob(path)))
        elif system.isfile(path):
            paths = [path]
        else:
            paths = [entry for entry in sorted(map(str, system.find(path, maxdepth=1))) if suffixes(entry)]
    except Exception as error:
        # clients of stores raise errors of many kinds (credentials, network, bucket), all of them the user's
        raise _unreachable(address, error) from error
    if not paths:
        raise DataError(
            f"no data at {masked_address(address)!r}",
            help="check the bucket and the path: it is a file, a pattern, or a folder with files of rows in it",
        )
    return [SourceFile(f"{scheme}://{path}", partial(_open_stored, system, path, address)) for path in paths]


def matching(address: str, patterns: list[str], suffixes: Callable[[str], bool]) -> list[SourceFile]:
    """The files below `address` that `patterns` name, in the order of the patterns."""
    return [
        file
        for pattern in patterns
        for file in files_at(pattern if "://" in pattern else f"{address.rstrip('/')}/{pattern}", suffixes)
    ]


def holds(address: str, name: str) -> bool:
    """Whether the folder at `address` has a file called `name`."""
    if is_web(address):
        return False
    _refuse(address)
    system, path = _system(address)
    try:
        return bool(system.isfile(f"{path.rstrip('/')}/{name}"))
    except Exception as error:
        raise _unreachable(address, error) from error


def contents(address: str, suffixes: Callable[[str], bool]) -> dict[str, str | None]:
    """What tells the content of each file at `address` from an earlier one; None where the server does not say."""
    if is_web(address):
        _refuse(address)
        with cast(Any, _request(address)) as response:
            headers = response.headers
            said = [headers.get("ETag"), headers.get("Last-Modified"), headers.get("Content-Length")]
        return {_name_of(address): " ".join(map(str, said)) if said[0] or said[1] else None}
    files = files_at(address, suffixes)
    system, _ = _system(address)
    try:
        return {file.name: str(system.ukey(file.name.partition("://")[2])) for file in files}
    except Exception as error:
        raise _unreachable(address, error) from error


def _refuse(address: str) -> None:
    if found := refusal(address):
        raise DataError(found[0], help=found[1])
    if lack := missing_package(address):
        raise DataError(
            f"{masked_address(address)!r} needs the package {lack[0]}, which is not installed",
            help=f"install it: {lack[1]}",
        )


def _name_of(address: str) -> str:
    """What messages call the file: its address without what follows a `?`, so that its ending can be read."""
    parts = urlsplit(masked_address(address))
    return f"{parts.scheme}://{parts.netloc}{unquote(parts.path)}"


def _system(address: str) -> tuple[Any, str]:
    """The file system of `address`, and its path there."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except Exception as error:
        raise _unreachable(address, error) from error
    return system, str(path)


def _open_stored(system: Any, path: str, address: str) -> BinaryIO:
    try:
        source = system.open(path, "rb", block_size=BLOCK)
    except Exception as error:
        raise _unreachable(address, error) from error
    return cast(BinaryIO, io.BufferedReader(_Guarded(source, address), CHUNK))


def _open_web(address: str) -> BinaryIO:
    response = _request(address)
    length = response.headers.get("Content-Length") or ""
    guarded = _Guarded(response, address, int(length) if length.isdigit() else None)
    return cast(BinaryIO, io.BufferedReader(guarded, CHUNK))


class _SameSafety(HTTPRedirectHandler):
    """Follows a server that is asked by https to other https addresses only."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        if refusal(newurl) or (req.full_url.startswith("https://") and not newurl.startswith("https://")):
            raise URLError(f"the server sends on to {masked_address(newurl)}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _request(address: str) -> HTTPResponse:
    parts = urlsplit(address)
    if parts.username or parts.password:
        raise DataError(
            f"{masked_address(address)!r} holds a user name or a password",
            help="serve the file without, or fetch it yourself",
        )
    try:
        request = Request(address, headers={"User-Agent": "tunesmith"})
        return cast(HTTPResponse, build_opener(_SameSafety()).open(request, timeout=PAUSE_SECONDS))
    except HTTPError as error:
        raise DataError(
            f"{masked_address(address)!r} cannot be fetched: {error.code} {error.reason}", help="check the address"
        ) from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise _unreachable(address, error) from error


class _Guarded(io.RawIOBase):
    """A stream from elsewhere whose failures are told as what they are to the user; length: how long it has to be."""

    def __init__(self, source: Any, address: str, length: int | None = None) -> None:
        self._source, self._address, self._length, self._read = source, address, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return not is_web(self._address)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._source.seek(offset, whence))

    def tell(self) -> int:
        return int(self._source.tell()) if self.seekable() else self._read

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._source.read(len(buffer))
        except Exception as error:
            # what a store's client raises is as varied as its errors of opening
            raise _unreachable(self._address, error) from error
        if not data and self._length is not None and self._read < self._length:
            raise DataError(
                f"{masked_address(self._address)!r}: the connection ended after {self._read:,} of "
                f"{self._length:,} bytes",
                help="try again",
            )
        buffer[: len(data)] = data
        self._read += len(data)
        return len(data)

    def close(self) -> None:
        self._source.close()
        super().close()


def _unreachable(address: str, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"no data at {masked_address(address)!r}", help="check the bucket and the path")
    reason = str(getattr(error, "reason", None) or error).strip() or type(error).__name__
    reason = " ".join(reason.splitlines()[0].split())
    help = "check the address and the network"
    if isinstance(error, PermissionError) or "credential" in f"{type(error).__name__} {reason}".lower():
        help = _CREDENTIALS.get(scheme_of(address), "check the rights to read it")
    return DataError(f"{masked_address(address)!r} cannot be read: {masked_address(reason)}", help=help)


_CREDENTIALS = {
    "s3": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; FSSPEC_S3_ANON=true for a public bucket",
    "gs": "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "gcs": "log in with `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS",
    "az": "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or AZURE_STORAGE_CONNECTION_STRING",
    "hf": "log in with `hf auth login`",
}
