"""Bases from the network: small, over https, and exactly the content that the recipe names by hash or commit."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from core.errors import UserError
from core.sharing.files import MAX_BYTES, too_large

PAUSE_SECONDS = 10.0  # the longest silence of a server
TOTAL_SECONDS = 30.0
CHUNK = 65_536


def web_content(url: str, sha256: str) -> bytes:
    """The content at `url`, from the cache where it was fetched before.

    Raises `UserError` if it cannot be had, is larger than a recipe may be, or is not what `sha256` says.
    """
    from core.models.gguf import cache_folder

    kept = cache_folder() / "recipes" / sha256
    if kept.is_file() and kept.stat().st_size <= MAX_BYTES:
        content = kept.read_bytes()
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    content = _download(url)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"the content of {url} has changed: its sha256 is {found}, the recipe says {sha256}",
            help="look at what it says now, and put the new sha256 into the recipe only if it is right",
        )
    _keep(kept, content)
    return content


class _SecureRedirects(HTTPRedirectHandler):
    """Follows a server to other https addresses only."""

    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise URLError(f"the server sends on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str) -> bytes:
    deadline = time.monotonic() + TOTAL_SECONDS
    content = bytearray()
    try:
        with build_opener(_SecureRedirects()).open(Request(url), timeout=PAUSE_SECONDS) as response:
            announced = response.headers.get("Content-Length", "")
            if announced.isdigit() and int(announced) > MAX_BYTES:
                raise _too_large(url, int(announced))
            while chunk := response.read1(CHUNK):
                content += chunk
                if len(content) > MAX_BYTES:
                    raise _too_large(url, len(content))
                if time.monotonic() > deadline:
                    raise TimeoutError
    except HTTPError as error:
        raise UserError(f"{url} cannot be fetched: {error.code} {error.reason}", help="check the address") from error
    except TimeoutError as error:
        raise UserError(f"{url} cannot be fetched: the server is too slow", help="try again later") from error
    except (URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(f"{url} cannot be fetched: {reason}", help="check the address and the network") from error
    return bytes(content)


def _too_large(url: str, size: int) -> UserError:
    message, help = too_large(size)
    return UserError(f"{url}: {message}", help=help)


def _keep(path: Path, content: bytes) -> None:
    """Write the cache entry whole or not at all; a cache that cannot be written is no reason to stop."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".partial-", delete=False) as partial:
            try:
                partial.write(content)
                partial.flush()
                os.replace(partial.name, path)
            except BaseException:
                with suppress(OSError):
                    os.unlink(partial.name)
                raise
    except OSError as error:
        from core.console import say_error

        say_error(f"note: {path} cannot be written, so it is fetched anew each time: {error.strerror}")


def hub_file(text: str, repo: str, path: str, commit: str, kind: str) -> Path:
    """The file `path` of a hub repository at `commit`, from the hub's cache where it is there already.

    Raises `UserError` if it cannot be had or is larger than a recipe may be.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache

    try:
        kept = try_to_load_from_cache(repo, path, revision=commit, repo_type=kind)
        if isinstance(kept, str):
            return Path(kept)
        size = get_hf_file_metadata(hf_hub_url(repo, path, repo_type=kind, revision=commit), timeout=PAUSE_SECONDS).size
        if size is None or size <= MAX_BYTES:
            return Path(hf_hub_download(repo, path, repo_type=kind, revision=commit, etag_timeout=PAUSE_SECONDS))
    except Exception as error:  # whatever the hub's client and the HTTP library of its choice raise
        reason, help = _hub_reason(error)
        raise UserError(f"{text} cannot be fetched: {reason}", help=help) from error
    raise _too_large(text, size)


def _hub_reason(error: Exception) -> tuple[str, str]:
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "the repository asks for permission", "ask for it on the hub, and log in with `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository", "check its name; a private one needs `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return "the repository has no such commit", "check the commit"
    if isinstance(error, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled)):
        return "the hub cannot be reached", "fetch it once while online; it is kept from then on"
    if isinstance(error, errors.EntryNotFoundError):
        return "the repository has no such file at this commit", "check the path"
    first = next(iter(str(error).splitlines()), type(error).__name__)
    return first, "check the address and the network; a file fetched once is kept from then on"
