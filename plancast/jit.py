"""The decorators of kernels, and where their machine code is kept; one ``Kernels`` a package.

numba's cache does not notice that a function of another file has changed. So the machine code
lies in a folder named by a digest of all files with kernels, or with records that kernels may
take: whatever changes in one of them, everything is compiled anew, once, and kernels may call
kernels of other files. Equal sources share a folder, wherever they are installed.

The folder is ``$NUMBA_CACHE_DIR/planner-<digest>``, or lies in the user's cache folder. Kernels
are kept as pickles, so it must belong to the user and to nobody else; where no such folder can be
made nothing is kept, and one line says so.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property, update_wrapper
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile

from plancast import jit_compiler
from plancast.jit_compiler import EntryCompiler, PartCompiler, compiled

KEPT, KEPT_S = 4, 86_400
"""So many digests are kept, the latest used, and all that were used within so many seconds."""
SMALL = 10_000
"""Arrays that together hold up to so many numbers are small."""
NOTED = "PLANCAST_KERNEL_CACHE_NOTED"
"""Set once the user knows that nothing is kept, so that child processes do not repeat it."""

_HAS_KERNELS = re.compile(
    r"^from \S*\bjit import .*\b(?:brief|inner|kernel)\b|^class \w+\(NamedTuple\)", re.MULTILINE
)
"""Of a file that defines kernels, or records: a kernel reads their fields by place, not by name."""
_lock = threading.Lock()


class Kernels:
    """The kernels of one package.

    Parameters
    ----------
    package : Path
        Its folder.
    """

    def __init__(self, package: Path) -> None:
        self.package = package
        self.interpreting = 0
        """How many ``interpreted`` blocks are open."""

    def kernel(self, function: Callable[..., Any]) -> Any:
        """Compile a function that Python calls; it runs without the interpreter's lock."""
        return _Kernel(function, self)

    def brief(self, function: Callable[..., Any]) -> Any:
        """The same for one that goes over its arrays a few times and draws no random numbers.

        While small problems are ``interpreted``, it runs small arrays uncompiled, with the same
        result.
        """
        return Brief(function, self)

    def inner(self, function: Callable[..., Any]) -> Any:
        """Compile a function that only kernels call; called from Python it runs as it stands."""
        return _Inner(function)

    @contextmanager
    def interpreted(self) -> Iterator[None]:
        """Run brief kernels of small arrays as Python, which takes less than compiling them."""
        with _lock:
            self.interpreting += 1
        try:
            yield
        finally:
            with _lock:
                self.interpreting -= 1

    @cached_property
    def files(self) -> list[Path]:
        """The files of the package that define kernels or records, sorted."""
        files = sorted(self.package.rglob("*.py"))
        return [path for path in files if _HAS_KERNELS.search(path.read_text(encoding="utf-8"))]

    @cached_property
    def digest(self) -> str:
        """Digest of all files with kernels or records, and of what compiles them."""
        found = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
        for file in (__file__, jit_compiler.__file__):
            found.update(Path(file).read_bytes())
        for path in self.files:
            found.update(f"\0{path.relative_to(self.package).as_posix()}\0".encode())
            found.update(path.read_bytes())
        return found.hexdigest()[:20]

    def cache_folder(self) -> Path | None:
        """Where the machine code is kept, None where it cannot be kept safely."""
        return self._folder

    @cached_property
    def _folder(self) -> Path | None:
        parent = _parent()
        folder = parent / f"{self.package.name}-{self.digest}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if (fault := _fault(folder)) is None:
                os.utime(folder)
                tempfile.TemporaryFile(dir=folder).close()
                _prune(parent, folder)
                return folder
        except OSError as error:
            fault = str(error)
        if NOTED not in os.environ:
            os.environ[NOTED] = "1"
            logging.getLogger(__name__).warning(
                "compiled kernels cannot be kept (%s), so that every start compiles them anew; "
                "set NUMBA_CACHE_DIR to a folder that you alone can write",
                fault,
            )
        return None

    @contextmanager
    def caching(self) -> Iterator[None]:
        """Let a decorator keep machine code; other libraries' decorators do not."""
        if self._folder is None:
            yield
            return
        wanted = {"CACHE_DIR": str(self._folder), "CACHE_LOCATOR_CLASSES": f"{__name__}._Locator"}
        with _lock:
            before = {name: getattr(config, name, "") for name in wanted}
            _Locator.kernels = self
            try:
                for name, value in wanted.items():
                    setattr(config, name, value)
                yield
            finally:
                for name, value in before.items():
                    setattr(config, name, value)


class _Inner:
    """A function: Python sees it as it stands, other kernels its compiled form."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        update_wrapper(self, function)

    @property
    def _numba_type_(self) -> Any:
        return self.part._numba_type_

    @cached_property
    def part(self) -> Any:
        """What numba compiles where a kernel calls it."""
        return compiled(self.function, PartCompiler)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class _Kernel(_Inner):
    """A function that Python sees in compiled form too."""

    def __init__(self, function: Callable[..., Any], kernels: Kernels) -> None:
        super().__init__(function)
        self.kernels = kernels
        entry = type("_Entry", (EntryCompiler,), {"kernel": self})
        self.compiled = compiled(function, entry)
        with kernels.caching():
            if kernels.cache_folder() is not None:
                self.compiled._cache = _Cache(function)

    def __call__(self, *args: Any) -> Any:
        return self.compiled(*args)


class Brief(_Kernel):
    """One that may run as it stands."""

    def __call__(self, *args: Any) -> Any:
        """Run it, uncompiled where that is asked for and the arrays are small."""
        if self.kernels.interpreting and _numbers(args) <= SMALL:
            return self.function(*args)
        return self.compiled(*args)


def _numbers(args: tuple[Any, ...]) -> int:
    """How many numbers the arrays among some arguments hold."""
    return sum(_numbers(a) if isinstance(a, tuple) else getattr(a, "size", 1) for a in args)


class _Files(IndexDataCacheFile):
    """Machine code of one kernel: a file for each signature, named by it and by the machine.

    numba numbers them. Of two processes that compile at once, one could write its code where an
    index says that the other's is: a kernel would take integers for floats, and might never end.
    """

    def save(self, key: Any, data: Any) -> None:
        self._save_data(self._name(key), data)

    def load(self, key: Any) -> Any:
        try:
            return self._load_data(self._name(key))
        except FileNotFoundError:
            return None

    def _name(self, key: Any) -> str:
        named = hashlib.sha256(repr((self._source_stamp, key)).encode()).hexdigest()
        return self._data_name(int(named[:16], 16))


class _Cache(FunctionCache):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file: Any = _Files(self.cache_path, self._impl.filename_base, stamp)


class _Locator:
    """Tells numba where a kernel's machine code is kept: by its module, not by its path."""

    kernels: Kernels
    """Whose decorator is at work."""

    def __init__(self, function: Callable[..., Any], path: str) -> None:
        self._py_file, self._line = path, function.__code__.co_firstlineno
        source, package = Path(path).resolve(), self.kernels.package.resolve()
        self._stamp = self.kernels.digest if source.is_relative_to(package) else ""
        place = source.relative_to(package if self._stamp else source.anchor)
        self._folder = os.path.join(
            str(self.kernels.cache_folder()), ".".join(place.with_suffix("").parts)
        )

    @classmethod
    def from_function(cls, function: Callable[..., Any], path: str) -> _Locator:
        return cls(function, path)

    def get_cache_path(self) -> str:
        return self._folder

    def ensure_cache_path(self) -> None:
        os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def get_source_stamp(self) -> str:
        # Else of a library that was imported by another thread at the very moment.
        return self._stamp or hashlib.sha256(Path(self._py_file).read_bytes()).hexdigest()

    def get_disambiguator(self) -> str:
        return str(self._line)


def _parent() -> Path:
    """The folder of all digests."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        return Path(given).absolute()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local"))
    elif sys.platform == "darwin":
        base = Path("~/Library/Caches")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = base if base.is_absolute() else Path("~/.cache")
    with suppress(RuntimeError):
        base = base.expanduser()
    return base / "plancast" / "kernels"


def _fault(folder: Path) -> str | None:
    """Why nothing may be read from a folder, None if the user alone can have written to it."""
    if not hasattr(os, "geteuid"):
        return None
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode):
        return f"{folder} is no folder"
    if facts.st_uid != os.geteuid():
        return f"{folder} belongs to another user"
    if facts.st_mode & 0o077:
        return f"others may open {folder}"
    return None


def _prune(parent: Path, current: Path) -> None:
    """Remove digests that were not used lately."""
    kind = current.name.partition("-")[0]
    others = [p for p in parent.glob(f"{kind}-*") if p != current and p.is_dir()]
    used = {}
    for path in others:
        with suppress(OSError):  # another process may be pruning too
            used[path] = path.stat().st_mtime
    latest = sorted(used, key=lambda p: used[p], reverse=True)
    for path in latest[KEPT - 1 :]:
        if used[path] < time.time() - KEPT_S:
            shutil.rmtree(path, ignore_errors=True)
