"""The decorators of kernels, and where their machine code is kept; one ``Kernels`` a package.

numba's cache does not notice that a function of another file has changed. So the machine code
lies in a folder named by a digest of all files with kernels: whatever changes in one of them,
everything is compiled anew, once, and kernels may call kernels of other files. Equal sources
share a folder, wherever they are installed.

The folder is ``$NUMBA_CACHE_DIR/planner-<digest>``, or lies in the user's cache folder. Kernels
are kept as pickles, so it must belong to the user and to nobody else; where no such folder can be
made nothing is kept, and one line says so.

What a kernel calls becomes part of it. On its own no machine code is made of it, nor kept, unless
Python calls it too: that took a quarter of the time. LLVM optimises each such part once; where
short, it is there for its callers to be inlined, where long it joins the kernel at the end. numba
hands all of it to each caller, to be optimised again. A part that makes no arrays counts no
references to them: its callers hold them meanwhile.
"""

from __future__ import annotations

import gc
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
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar, cast

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import config, ir
from numba.core.codegen import JITCodeLibrary, _parse_refprune_flags
from numba.core.compiler import Compiler, Flags
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

KEPT, KEPT_S = 4, 86_400
"""So many digests are kept, the latest used, and all that were used within so many seconds."""
SMALL = 10_000
"""Arrays that together hold up to so many numbers are small."""
LONG = 100
"""A part of more lines of LLVM's code than that, less its arguments, is not inlined."""
NOTED = "PLANCAST_KERNEL_CACHE_NOTED"
"""Set once the user knows that nothing is kept, so that child processes do not repeat it."""

_HAS_KERNELS = re.compile(r"^from \S*\bjit import .*\b(?:brief|inner|kernel)\b", re.MULTILINE)
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
        """The files of the package that define kernels, sorted."""
        files = sorted(self.package.rglob("*.py"))
        return [path for path in files if _HAS_KERNELS.search(path.read_text(encoding="utf-8"))]

    @cached_property
    def digest(self) -> str:
        """Digest of all files with kernels, and of what compiles them."""
        found = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
        found.update(Path(__file__).read_bytes())
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
        return _compiled(self.function, _PartCompiler)

    def __call__(self, *args: Any) -> Any:
        return self.function(*args)


class _Kernel(_Inner):
    """A function that Python sees in compiled form too."""

    def __init__(self, function: Callable[..., Any], kernels: Kernels) -> None:
        super().__init__(function)
        self.kernels = kernels
        with kernels.caching():
            keep = kernels.cache_folder() is not None
            self.compiled = _compiled(function, _Compiler, cache=keep)

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


def _compiled(function: Callable[..., Any], compiler: type, **options: Any) -> Any:
    if config.DISABLE_JIT:  # to look into a kernel: it runs as it stands
        return function
    made = numba.njit(nogil=True, no_cfunc_wrapper=True, pipeline_class=compiler, **options)(
        function
    )
    typed = made.get_call_template

    def typed_without_literals(args: Any, kws: Any) -> Any:
        # Else numba would compile a function once more for each number that it is handed.
        named = {name: types.unliteral(one) for name, one in kws.items()}
        return typed(tuple(types.unliteral(one) for one in args), named)

    made.get_call_template = typed_without_literals
    return made


class _Flags(Flags):
    """What a function is compiled with."""

    __slots__ = ()

    def copy(self) -> _Shared:
        """What numba looks up its own functions by, at each operation: equal ones are the same."""
        # A key of their own: numba compares flags by all options, one by one.
        key = tuple(sorted(self._values.items(), key=itemgetter(0)))
        for known, flags in _Shared.known:
            if known == key:
                return flags
        _Shared.known.append((key, _Shared(self)))
        return _Shared.known[-1][1]


class _Shared(Flags):
    """Flags that stay as they are: compared by identity first, and hashed in no time."""

    __slots__ = ()
    known: ClassVar[list[tuple[Any, _Shared]]] = []

    def copy(self) -> Flags:
        """Flags of their own, which numba changes."""
        return Flags(self)

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    def __hash__(self) -> int:
        return _HASH


_HASH = hash(Flags())
"""numba hashes the names of flags, not their values."""


class _Compiler(Compiler):
    def __init__(
        self,
        typing: Any,
        target: Any,
        library: Any,
        args: Any,
        returns: Any,
        flags: Any,
        locals_: Any,
    ) -> None:
        super().__init__(typing, target, library, args, returns, _Flags(flags), locals_)

    def compile_extra(self, function: Callable[..., Any]) -> Any:
        """Compile without the collector of cycles, which took a tenth of the time."""
        was_on = gc.isenabled()
        gc.disable()
        try:
            return super().compile_extra(function)
        finally:
            if was_on:
                gc.enable()

    def define_pipelines(self) -> Any:
        if self.state.library is None:
            self.state.library = _Whole(
                self.state.targetctx.codegen(), self.state.func_id.func_name
            )
            self.state.library.enable_object_caching()
        return super().define_pipelines()


class _PartCompiler(_Compiler):
    """Compiles what only kernels call, up to what is linked into theirs."""

    def define_pipelines(self) -> Any:
        self.state.flags.no_cpython_wrapper = True
        if self.state.library is None:
            self.state.library = _Part(self.state.targetctx.codegen(), self.state.func_id.func_name)
        pipelines = super().define_pipelines()
        for made in pipelines:
            made.passes = [
                (_Lowering if p is NativeLowering else p, said) for p, said in made.passes
            ]
        return pipelines


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """Lowers a part; without counts of references where it borrows all that it meets."""

    def run_pass(self, state: Any) -> bool:
        if _borrows(state):
            state.targetctx = state.targetctx.subtarget(enable_nrt=False)
        return cast(bool, super().run_pass(state))


_LENT = {
    "build_tuple", "cast", "exhaust_iter", "getattr", "getitem", "getiter", "iternext",
    "pair_first", "pair_second", "phi", "static_getitem",
}  # fmt: skip
"""Expressions of numba whose value lives as long as what it is taken from."""
_PLAIN = (ir.Assign, ir.Branch, ir.Del, ir.Jump, ir.Return, ir.StaticRaise)


def _borrows(state: Any) -> bool:
    """Whether a typed function makes no array or the like and hands none back."""

    def counted(value: Any) -> bool:
        # An index that is a constant is no variable, hence no array.
        return isinstance(value, ir.Var) and _is_counted(state, state.typemap[value.name])

    if state.func_ir.generator_info is not None or _is_counted(state, state.return_type):
        return False
    for block in state.func_ir.blocks.values():
        for one in block.body:
            value = getattr(one, "value", None)
            if isinstance(one, ir.SetItem | ir.StaticSetItem):
                if counted(value) or counted(getattr(one, "index", None)):
                    return False
            elif not isinstance(one, _PLAIN):
                return False
            elif isinstance(one, ir.Assign) and isinstance(value, ir.Expr):
                picked = value.op == "getitem" and counted(value.index)
                if picked or (counted(one.target) and value.op not in _LENT):
                    return False
    return True


def _is_counted(state: Any, type_: Any) -> bool:
    """Whether references to values of a type are counted."""
    return cast(bool, state.targetctx.data_model_manager[type_].contains_nrt_meminfo())


class _Linked(JITCodeLibrary):
    """LLVM's form of a function and of what it calls."""

    later: dict[_Part, None]
    """The long parts that it calls, and that those call; what is called comes first."""

    def _optimize_functions(self, module: Any) -> None:
        # All is optimised once it is linked; before that as well took a tenth of the time.
        module.data_layout = self._codegen._data_layout

    def _optimize_linked(self) -> None:
        """Link what is called, but for long parts, and optimise."""
        self._raise_if_finalized()
        self.later = {}
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            if isinstance(library, _Part):
                self.later.update(library.later)
                if library.is_long:
                    self.later[library] = None
                    continue
                module = library.alone()
            else:
                module = library._get_module_for_linking()
            self._final_module.link_in(module, preserve=True)
        self._optimize_final_module()

    def _optimize_final_module(self) -> None:
        # As numba does it, but loops are neither unrolled nor made vectors: most of ours are
        # short, and made moves a few per cent slower so, and a fifth more machine code.
        codegen = self._codegen
        passes, builder = codegen._module_pass_manager(loop_vectorize=False, opt=0, cost="cheap")
        passes.run(self._final_module, builder)
        wanted = llvm.create_pipeline_tuning_options(speed_level=2)
        wanted.loop_vectorization = wanted.loop_unrolling = wanted.loop_interleaving = False
        builder = llvm.create_pass_builder(codegen._tm, wanted)
        passes = builder.getModulePassManager()
        passes.add_refprune_pass(_parse_refprune_flags())
        passes.run(self._final_module, builder)

    def _link_later(self, module: Any) -> None:
        for part in reversed(self.later):  # callers first: what nothing calls is not linked
            module.link_in(part.alone(), preserve=True)


class _Whole(_Linked):
    """What Python calls, with all parts."""

    def finalize(self) -> None:
        self._optimize_linked()
        self._link_later(self._final_module)
        self._final_module.verify()
        self._finalize_final_module()


class _Part(_Linked):
    """LLVM's form of a function, optimised: unless it is, kernels were a tenth slower."""

    is_long: bool

    @property
    def codegen(self) -> type[_Part]:
        """Where numba sets what machine code needs of Python; there is none."""
        return _Part

    @staticmethod
    def set_env(name: str, env: Any) -> None:
        """Nothing runs here."""

    def finalize(self) -> None:
        self._optimize_linked()
        self._finalize_dynamic_globals()
        self.is_long = any(
            str(one).count("\n") - len(list(one.arguments)) > LONG
            for one in self._final_module.functions
            if not one.is_declaration and one.linkage.name == "external"
        )
        self._finalized = True

    def alone(self) -> Any:
        """The module without long parts."""
        return super()._get_module_for_linking()

    def _get_module_for_linking(self) -> Any:
        # For a function that is not of ours.
        module = self.alone().clone()
        self._link_later(module)
        return module

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0


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
