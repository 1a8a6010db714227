"""Files from outside, as they are read: decompressed, hashed and bounded."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import zlib
from pathlib import Path
from typing import IO, Any, Self

from netlab.errors import UnsupportedError, UsageError

CHUNK = 1 << 20
_LARGEST = 64 << 30
"""Bytes of a layer, unpacked."""
_RATIO, _UNSUSPICIOUS = 200, 64 << 20
"""How many times its size a file may grow, once it is that large: what grows more holds nothing but repetition."""


class Plain:
    """The uncompressed bytes of a file, forwards: enough of a file object for tarfile. `digest` is of what was read.

    Raises `UsageError` for a file that is damaged, grows beyond all measure, or has a header larger than a chunk.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._size = path.stat().st_size
        self._position = 0
        self._hash = hashlib.sha256()
        self._file = _opened(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if not 0 <= size <= CHUNK:
            raise UsageError(f"{self._path.name}: a header of it is larger than any that makes sense")
        try:
            data = self._file.read(size)
        except (OSError, EOFError, zlib.error, _decompression_error()) as error:
            raise UsageError(f"{self._path.name} is damaged: {error}") from None
        self._position += len(data)
        self._hash.update(data)
        most = max(_UNSUSPICIOUS, min(_LARGEST, self._size * _RATIO))
        if self._position > most:
            raise UsageError(f"{self._path.name} grows to more than {most} bytes when it is unpacked, and is refused")
        return data

    def tell(self) -> int:
        """How many bytes were read."""
        return self._position

    def seek(self, position: int) -> None:
        """Skip what lies before a position."""
        while self._position < position and self.read(min(CHUNK, position - self._position)):
            pass

    def digest(self) -> str:
        """The SHA-256 of all of it, read to its end."""
        while self.read(CHUNK):
            pass
        return self._hash.hexdigest()


def digest(path: Path) -> str:
    """The SHA-256 of a file as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _opened(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return gzip.open(path)  # type: ignore[return-value]  # it reads like any file
    if magic == b"\x28\xb5\x2f\xfd":
        return _zstd().open(path)  # type: ignore[no-any-return]
    return path.open("rb")


def _zstd() -> Any:
    """Python's own module (3.14), or the library of the same shape."""
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UnsupportedError("the image is compressed by zstd: `pip install backports.zstd`, or use Python 3.14")


def _decompression_error() -> type[Exception]:
    try:
        kind: type[Exception] = _zstd().ZstdError
    except UnsupportedError:
        return zlib.error
    return kind
