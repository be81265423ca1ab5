"""Where a base is: a file beside the recipe, a file of an installed package, of a hub repository, or of a web server.

Everything that can be refused by its address alone is refused here; reading comes after.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from core.errors import UserError
from core.sharing.files import exists, read_text, recipes_in
from core.sharing.packages import PACKAGE_SCHEME, package_file

if TYPE_CHECKING:
    from core.recipe import Source

HUB_SCHEME = "hf://"
_HUB = re.compile(r"hf://(?P<kind>datasets/)?(?P<repo>[\w.-]+/[\w.-]+)/(?P<path>[^@]+)@(?P<commit>[^@/]+)")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_KINDS = "write a file, package://<package>/<file>, hf://<org>/<repo>/<file>@<commit>, or {url: https://…, sha256: …}"


@dataclass(frozen=True)
class Located:
    """A base that may be read. identity: as `Source.identity`; file: what messages call it."""

    identity: str
    file: str
    read: Callable[[], Source]


def locate(asked: str | dict[str, Any], source: Source) -> Located:
    """What one entry of `extends` in `source` stands for. Raises `UserError` for an address that is refused."""
    if not _printable(asked):
        raise UserError(f"'extends' holds a character that no address has: {asked!r}", help="remove the character")
    if isinstance(asked, dict):
        return _web(asked)
    if "${" in asked:
        raise UserError(f"variables are not allowed in 'extends': {asked!r}", help="write the address out")
    if asked.startswith(PACKAGE_SCHEME):
        file, root = package_file(asked)
        return _local(file, str(file), root)
    if asked.startswith(HUB_SCHEME):
        return _hub(asked)
    if asked.startswith(("https://", "http://")):
        _refuse_insecure(asked)
        raise UserError(
            f"an https base needs the sha256 of its content: {asked!r}",
            help=f"write {{url: {asked}, sha256: <64 digits>}}; `curl -fsSL URL | sha256sum` prints them",
        )
    if "://" in asked:
        scheme = asked.partition("://")[0]
        raise UserError(f"{asked!r} is no address of a recipe: {scheme}:// is not known", help=_KINDS)
    return _beside(asked, source)


def _beside(text: str, source: Source) -> Located:
    """A relative address: from the folder, the package or the repository of the file that has it."""
    if source.folder is None:
        return _beside_fetched(text, source)
    if source.root is not None and (text.startswith("~") or not _within(source.root, source.folder / text)):
        raise UserError(
            f"{text!r} points outside the package {source.root.name!r}",
            help="a packaged recipe extends files of its own package, or package://, hf:// and https:// addresses",
        )
    try:
        relative = Path(text).expanduser()
    except RuntimeError:  # the home of a user who does not exist
        relative = Path(text)
    file = os.path.normpath(Path(source.file).parent / relative)
    path = Path(os.path.normpath(source.folder / relative))
    if not exists(path):
        near = recipes_in(path.parent) if exists(path.parent) else ""
        help = f"recipes in that folder: {near}" if near else "an address starts at the folder of the file that has it"
        raise UserError(f"no such recipe: {text!r}", help=help)
    return _local(path, file, source.root)


def _beside_fetched(text: str, source: Source) -> Located:
    found = _HUB.fullmatch(source.address or "")
    if not found:
        raise UserError(
            f"{text!r} has no folder to start from: {source.file} was fetched",
            help="write the whole address with its sha256",
        )
    path = os.path.normpath(Path(found["path"]).parent / text)
    if path.startswith(("..", "/")) or text.startswith("~"):
        raise UserError(f"{text!r} points outside the repository {found['repo']!r}", help="name a file of it")
    return _hub(f"{HUB_SCHEME}{found['kind'] or ''}{found['repo']}/{path}@{found['commit']}")


def _local(path: Path, file: str, root: Path | None) -> Located:
    def read() -> Source:
        from core.recipe import Source

        return Source(file, read_text(path, file, regular=True), path.parent, root)

    return Located(os.path.realpath(file), file, read)


def _hub(text: str) -> Located:
    found = _HUB.fullmatch(text)
    if not found:
        pinned = "@" in text
        raise UserError(
            f"{text!r} is no address of a file on the hub" if pinned else f"{text!r} names no commit",
            help="write hf://<org>/<repo>/<file>.yml@<commit>, with the 40 digits of a commit",
        )
    if not _COMMIT.fullmatch(found["commit"]):
        raise UserError(
            f"{found['commit']!r} is no commit: a branch or tag can change under a recipe",
            help="write the 40 digits of the commit, as the repository's history shows them",
        )
    if ".." in found["path"].split("/") or found["path"].startswith("/"):
        raise UserError(f"{text!r} points outside the repository", help="name a file of it")
    kind = "dataset" if found["kind"] else "model"
    return Located(text, text, partial(_read_hub, text, found["repo"], found["path"], found["commit"], kind))


def _read_hub(text: str, repo: str, path: str, commit: str, kind: str) -> Source:
    from core.recipe import Source
    from core.sharing.fetch import hub_file

    return Source(text, read_text(hub_file(text, repo, path, commit, kind), text), None, address=text)


def _web(asked: dict[str, Any]) -> Located:
    url, digest = asked.get("url"), asked.get("sha256")
    unknown = [key for key in asked if key not in ("url", "sha256")]
    if unknown:
        raise UserError(f"unknown key {unknown[0]!r} in 'extends'", help="the keys are: url, sha256")
    if not isinstance(url, str) or not url:
        raise UserError("'extends' has no url", help="write {url: https://…, sha256: …}")
    _refuse_insecure(url)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(f"{url!r} is no https address: {str(error).lower()}", help=_KINDS) from error
    if parts.scheme != "https" or not parts.hostname:
        raise UserError(f"{url!r} is no https address", help=_KINDS)
    if parts.username or parts.password:
        raise UserError(
            f"the address at {parts.hostname} holds a user name or password",
            help="a recipe is shared: serve the file without a password, or put it into a package",
        )
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
        given = f"{digest!r} is no sha256" if digest else f"an https base needs the sha256 of its content: {url!r}"
        raise UserError(given, help="`curl -fsSL URL | sha256sum` prints its 64 digits")
    identity = f"{url}#sha256={digest.lower()}"
    return Located(identity, url, partial(_read_web, url, digest.lower(), identity))


def _read_web(url: str, digest: str, identity: str) -> Source:
    from core.recipe import Source
    from core.sharing.fetch import web_content
    from core.sharing.files import decode

    return Source(url, decode(web_content(url, digest), url), None, address=identity)


def _printable(asked: str | dict[str, Any]) -> bool:
    return all(
        text.isprintable() for text in (asked.values() if isinstance(asked, dict) else [asked]) if isinstance(text, str)
    )


def _refuse_insecure(url: str) -> None:
    if url.startswith("http://"):
        raise UserError(f"{url!r} is not secure: http is refused", help="use https, and the sha256 of the content")


def _within(root: Path, path: Path) -> bool:
    """Compared without following links: package managers link files in from a store outside the package."""
    return Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root))
