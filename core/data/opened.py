"""Files of rows, opened: here or elsewhere, decompressed, as bytes or as text; never read whole into memory."""

from __future__ import annotations

import io
import shutil
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TextIO, cast

from core.errors import DataError

CHUNK = 1 << 16
ZSTD_COMMAND = 'pip install "tunesmith[zstd]"'
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
# how files begin that are no text, whatever they are called
MAGIC = (
    (b"\x1f\x8b", "a gzip file", "end its name in .gz"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "end its name in .zst"),
    (b"BZh", "a bzip2 file", "end its name in .bz2"),
    (b"\xfd7zXZ\x00", "an xz file", "end its name in .xz"),
    (b"PAR1", "a Parquet file", "set ds_type: parquet"),
    (b"ARROW1", "an Arrow file", "set ds_type: arrow"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)", "unpack it, or save the sheet as CSV"),
    (b"SQLite format 3", "an SQLite database", "write its table as CSV or JSON lines"),
    (b"%PDF", "a PDF document", "write its text as JSON lines"),
    (b"\x89PNG", "a picture", "give a file of rows"),
    (b"\xff\xd8\xff", "a picture", "give a file of rows"),
    (b"\x80\x04\x95", "a Python pickle", "write its rows as JSON lines"),
    (b"\x80\x05\x95", "a Python pickle", "write its rows as JSON lines"),
    (b"version https://git-lfs", "a pointer of Git LFS to the data", "fetch them: git lfs pull"),
)
ODD_LEAST, ODD_SHARE = 8, 0.05  # control characters in the first bytes of a text; binary files have more
PAGES = (b"<!doctype html", b"<html")
WIDE = {1: "UTF-16LE", 0: "UTF-16BE"}  # by the place of the NUL in each pair of bytes of an English text


@dataclass(frozen=True)
class SourceFile:
    """A file of rows. name: as messages show it. open() -> its bytes as they stand there; the caller closes them."""

    name: str
    open: Callable[[], BinaryIO]


def local_file(path: Path) -> SourceFile:
    """The file at `path`."""
    return SourceFile(display(path), lambda: path.open("rb"))


def display(path: Path) -> str:
    """`path` as messages show it: relative where it lies below the current folder."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def compression_of(name: str) -> str:
    """The ending of `name` that says how it is compressed; empty if it is not."""
    suffix = PurePosixPath(name.lower()).suffix
    return suffix if suffix in COMPRESSIONS else ""


@contextmanager
def opened(file: SourceFile, *, seekable: bool = False) -> Iterator[BinaryIO]:
    """The bytes of `file`, decompressed. seekable: copied to the disk first where they can be read forwards alone.

    Raises `DataError` for bytes that cannot be read or decompressed, also while they are read.
    """
    packed = compression_of(file.name)
    try:
        with file.open() as raw:
            stream = decompressed(raw, packed) if packed else raw
            if seekable and not stream.seekable():
                with tempfile.TemporaryFile() as spool:
                    shutil.copyfileobj(stream, spool)
                    spool.seek(0)
                    yield cast(BinaryIO, spool)
            else:
                yield stream
    except PermissionError as error:
        raise DataError(f"no permission to read {file.name}", help="check the file's owner and mode") from error
    except EOFError as error:
        raise DataError(
            f"{file.name} is cut off: its compressed data end too early", help="copy or fetch the file again"
        ) from error
    except _broken_compression() as error:
        if not packed:
            raise DataError(f"{file.name} cannot be read: {_reason(error)}", help="check the file") from error
        raise DataError(
            f"{file.name} cannot be decompressed: {_reason(error)}",
            help=f"check that it is whole, and really a {packed} file",
        ) from error


@contextmanager
def opened_text(file: SourceFile, decode_error: Callable[[SourceFile], DataError]) -> Iterator[TextIO]:
    """The text of `file` (UTF-8, without a byte order mark), line ends as they stand there.

    decode_error(file) -> what to raise for a byte that is not UTF-8.
    """
    with opened(file) as source:
        # the wrapper would close what it wraps, which `opened` does
        with_buffer: Any = source if hasattr(source, "read1") else io.BufferedReader(cast(Any, source), CHUNK)
        text = io.TextIOWrapper(with_buffer, encoding="utf-8-sig", newline="")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise decode_error(file) from error


def decompressed(raw: BinaryIO, packed: str) -> BinaryIO:
    """The bytes of `raw` unpacked; `packed` is one of COMPRESSIONS. Raises `DataError` if that needs a package."""
    if packed == ".gz":
        import gzip

        return cast(BinaryIO, gzip.GzipFile(fileobj=raw))
    if packed == ".bz2":
        import bz2

        return cast(BinaryIO, bz2.BZ2File(raw))
    if packed == ".xz":
        import lzma

        return cast(BinaryIO, lzma.LZMAFile(raw))
    make = zstd_decompressor()
    if make is None:
        raise DataError("Zstandard files (.zst) need the package zstandard", help=f"install it: {ZSTD_COMMAND}")
    return cast(BinaryIO, io.BufferedReader(_Zstd(raw, make), CHUNK))


def zstd_decompressor() -> Callable[[], Any] | None:
    """Makes decompressors of one frame, with `decompress`, `eof` and `unused_data`; None if no package is there."""
    try:
        from compression import zstd  # type: ignore[import-not-found]  # Python 3.14

        return cast(Callable[[], Any], zstd.ZstdDecompressor)
    except ImportError:
        pass
    try:
        import zstandard
    except ImportError:
        return None
    return lambda: zstandard.ZstdDecompressor().decompressobj()


class _Zstd(io.RawIOBase):
    """Zstandard frames unpacked. The package's own reader does not tell where data end in the middle of a frame."""

    def __init__(self, raw: BinaryIO, make: Callable[[], Any]) -> None:
        self._raw, self._make = raw, make
        self._frame: Any = None
        self._packed, self._ready = b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._raw.read(CHUNK)
            self._packed = b""
            if not packed:
                if self._frame is not None:
                    raise EOFError
                return 0
            self._frame = self._frame or self._make()
            self._ready = self._frame.decompress(packed)
            if self._frame.eof:
                self._packed, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count


def refuse_other_kind(file: SourceFile, kind: str) -> None:
    """Raise `DataError` if `file`, which is to be read as text, is something else by its first bytes."""
    with opened(file) as source:
        head = source.read(1024)
    for magic, what, advice in MAGIC:
        if head.startswith(magic):
            twice = advice.startswith("end its name") and compression_of(file.name)
            raise DataError(
                f"{file.name} is {what}{' inside' if twice else ''}, not {kind}",
                help="it was compressed twice: decompress it once" if twice else advice,
            )
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"<?xml") and b"<html" not in start:
        raise DataError(f"{file.name} is XML, not {kind}", help="write its rows as JSON lines")
    if start.startswith((*PAGES, b"<?xml")):
        raise DataError(
            f"{file.name} is a page of the web, not {kind}",
            help="fetch the data again: a server that asks for a login or finds nothing answers with a page",
        )
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or not head:
        return  # text in another encoding, which is told when it is read
    for odd, encoding in WIDE.items():
        if len(head) > 1 and head[odd::2].count(0) > 0.8 * len(head[odd::2]) and head[1 - odd :: 2].count(0) == 0:
            path = Path(file.name)
            raise DataError(
                f"{file.name} looks like {encoding}, not UTF-8",
                help=f"convert it first: iconv -f {encoding} -t UTF-8 {path.name} > {path.stem}-utf8{path.suffix}",
            )
    odd_ones = sum(byte < 9 or 13 < byte < 27 or 27 < byte < 32 for byte in head)
    if odd_ones > max(ODD_LEAST, ODD_SHARE * len(head)):
        raise DataError(
            f"{file.name} is no text: {odd_ones:,} of its first {len(head):,} bytes are control characters",
            help="give a file of rows, or name its true kind with ds_type",
        )


def _broken_compression() -> tuple[type[Exception], ...]:
    """The errors of decompressors, and of the system while a file is read."""
    import lzma

    broken: list[type[Exception]] = [OSError, zlib.error, lzma.LZMAError]
    try:
        import zstandard

        broken.append(zstandard.ZstdError)
    except ImportError:
        pass
    try:
        from compression import zstd  # Python 3.14

        broken.append(zstd.ZstdError)
    except ImportError:
        pass
    return tuple(broken)


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split()) or type(error).__name__
    return text[:1].lower() + text[1:]
