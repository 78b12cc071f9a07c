"""Reading and writing whole files: one sentence for what fails, nothing half-written."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import zlib
from pathlib import Path

from plancast.json_text import plain_text
from plancast.planner.model.domain import BadRequest

_OPEN = re.compile(r"/dev/(std(in|out|err)|fd/\d+)|/proc/[^/]+/fd/\d+")
"""What names a file that a process has open: it goes on writing to it, whatever takes its name."""


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The whole content of a file; what is gzip (by its first bytes) is unpacked.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    BadRequest
        Where it is missing, a directory, unreadable, or a damaged gzip.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise BadRequest(f"{path}: there is no such file; check the name") from None
    except IsADirectoryError:
        raise BadRequest(f"{path}: is a directory; name a file in it") from None
    except OSError as error:
        raise BadRequest(f"{path}: cannot be read: {error.strerror or error}") from None
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise BadRequest(f"{path}: is a truncated gzip file; fetch or make it again") from None
    except (OSError, zlib.error):
        raise BadRequest(f"{path}: is a damaged gzip file; fetch or make it again") from None


def read_text(path: str | os.PathLike[str]) -> str:
    """The whole content of a UTF-8 text file, without a byte-order mark; as ``read_bytes``."""
    content = read_bytes(path)
    try:
        return plain_text(content)
    except ValueError as error:
        raise BadRequest(f"{path}: {error}") from None


def write_text_atomic(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all; missing folders are made.

    Parameters
    ----------
    path : path-like
    content : str or bytes
        Text is written as UTF-8; all is packed where the name ends in ``.gz``.

    Raises
    ------
    BadRequest
        Where it cannot be written; what stood there before is left as it was.

    Notes
    -----
    A temporary file in the same folder, so that the rename stays within one file system. A link
    stays one and a file keeps its permissions; a device or pipe (``/dev/stdout``) is written to.
    """
    target = Path(path)
    data = content.encode("utf-8") if isinstance(content, str) else content
    if target.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    try:
        if _is_stream(target):
            with target.open("ab") as stream:
                stream.write(data)
            return
        target = Path(os.path.realpath(target))
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if target.is_file():
                shutil.copymode(target, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise BadRequest(f"{path}: cannot be written: {error.strerror or error}") from None


def _is_stream(path: Path) -> bool:
    """Whether a rename would put a file where a device or a pipe is."""
    known = path.exists() and not path.is_dir()
    return known and (not path.is_file() or bool(_OPEN.fullmatch(str(path.absolute()))))
