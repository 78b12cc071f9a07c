"""How kernels are compiled: numba's compiler, without what they do not need of it.

What a kernel calls becomes part of it. On its own no machine code is made of it, nor kept, unless
Python calls it too: that took a quarter of the time. LLVM optimises each such part once; where
short, it is there for its callers to be inlined, where long it joins the kernel at the end. numba
hands all of it to each caller, to be optimised again. A part that makes no arrays counts no
references to them: its callers hold them meanwhile. Functions of numba's own are parts, too.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from operator import itemgetter
from typing import Any, ClassVar, cast

import llvmlite.binding as llvm
import numba
from numba import types
from numba.core import cgutils, config, errors, ir
from numba.core import typed_passes as passes
from numba.core import untyped_passes as untyped
from numba.core.codegen import JITCodeLibrary, _parse_refprune_flags
from numba.core.compiler import Compiler, Flags
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Environment, Lower
from numba.core.typed_passes import NativeLowering, NopythonRewrites

LONG = 100
"""A part of more lines of LLVM's code than that, less its arguments, is not inlined."""


def compiled(function: Callable[..., Any], compiler: type, **options: Any) -> Any:
    """A function as numba compiles it with one of the compilers below."""
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


_LEFT_OUT = {
    passes.DumpParforDiagnostics, passes.InlineOverloads, passes.NoPythonSupportedFeatureValidation,
    untyped.FindLiterallyCalls, untyped.InlineClosureLikes, untyped.InlineInlinables,
    untyped.LiteralPropagationSubPipelinePass, untyped.LiteralUnroll,
    untyped.MakeFunctionToJitFunction, untyped.WithLifting,
}  # fmt: skip
"""Passes of numba for what no kernel has: closures, comprehensions, ``with`` and the like."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _ArrayRewrites(NopythonRewrites):
    """Joins operations on whole arrays, where there are any."""

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            for one in block.find_insts(ir.Assign):
                if (
                    isinstance(one.value, ir.Expr)
                    and one.value.op in ("unary", "binop", "inplace_binop", "call")
                    and isinstance(state.typemap[one.target.name], types.Array)
                ):
                    return cast(bool, super().run_pass(state))
        return False


class _Lower(Lower):
    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        """Room for a variable; numba would ask LLVM for its size, for debuggers."""
        return cgutils.alloca_once(self.builder, lltype, name=name, zfill=False)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    lowering_class = _Lower


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(_Lowering):
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
        manager, builder = codegen._module_pass_manager(loop_vectorize=False, opt=0, cost="cheap")
        manager.run(self._final_module, builder)
        wanted = llvm.create_pipeline_tuning_options(speed_level=2)
        wanted.loop_vectorization = wanted.loop_unrolling = wanted.loop_interleaving = False
        builder = llvm.create_pass_builder(codegen._tm, wanted)
        manager = builder.getModulePassManager()
        manager.add_refprune_pass(_parse_refprune_flags())
        manager.run(self._final_module, builder)

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


class PartCompiler(Compiler):
    """Compiles what only kernels call, up to what is linked into theirs."""

    lowering: type = _PartLowering

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
        """Compile in less time than numba takes for any other function."""
        with _in_haste():
            return super().compile_extra(function)

    def define_pipelines(self) -> Any:
        """Numba's passes, as far as they are needed."""
        _make_part(self.state)
        return self.shortened(_define_pipelines(self))

    def shortened(self, pipelines: Any) -> Any:
        """Pipelines without what no kernel needs."""
        ours = {NativeLowering: self.lowering, NopythonRewrites: _ArrayRewrites}
        for made in pipelines:
            # What lives where was worked out anew after each pass; those that need it do so.
            made._ENFORCING = False
            made.passes = [(ours.get(p, p), said) for p, said in made.passes if p not in _LEFT_OUT]
        return pipelines


class EntryCompiler(PartCompiler):
    """Compiles what Python calls."""

    lowering = _Lowering
    kernel: Any
    """Whose function it is."""

    def define_pipelines(self) -> Any:
        """The same, and all that is called is compiled with it."""
        state = self.state
        if state.library is None:
            state.library = self._library(state.func_id.func_name)
        return self.shortened(_define_pipelines(self))

    def compile_extra(self, function: Callable[..., Any]) -> Any:
        """Compile it, or, where kernels have called it already, Python's way into it alone."""
        part = self.kernel.part.overloads.get(tuple(self.state.args))
        made = super().compile_extra(function) if part is None else self._entered(part)
        for environment in made._find_referenced_environments():
            made.library.codegen.set_env(environment.env_name, environment)
        return made

    def _entered(self, part: Any) -> Any:
        context, library = self.state.targetctx, self._library(part.fndesc.qualname)
        library.add_linking_library(part.library)
        described = copy(part.fndesc)
        described.env_name += ".entry"  # else kept with each kernel that calls the part
        environment = Environment.from_fndesc(described)
        with context.push_code_library(library):
            context.create_cpython_wrapper(
                library, described, environment, part.call_helper, release_gil=True
            )
            entry = context.get_executable(library, described, environment)
        return part._replace(
            library=library, entry_point=entry, target_context=context, fndesc=described,
            environment=environment, metadata={},
        )  # fmt: skip

    def _library(self, name: str) -> _Whole:
        library = _Whole(self.state.targetctx.codegen(), name)
        library.enable_object_caching()
        return library


def _make_part(state: Any) -> None:
    """Have a function compiled up to what is linked into kernels."""
    state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = True
    if state.library is None:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_name)


_define_pipelines = Compiler.define_pipelines


def _define_pipelines_of_part(self: Any) -> Any:
    """How numba's own functions are compiled that a kernel calls: as parts of it."""
    if type(self) is Compiler:
        _make_part(self.state)
    return _define_pipelines(self)


@contextmanager
def _in_haste() -> Iterator[None]:
    """Without what numba's compiler does to no end while it compiles kernels.

    Entered with numba's lock of compilers.
    """
    if Compiler.define_pipelines is _define_pipelines_of_part:
        yield  # a kernel that another one calls
        return
    colours: Any = errors.termcolor()
    was_on = gc.isenabled()
    gc.disable()  # it took a tenth of the time
    Compiler.define_pipelines = _define_pipelines_of_part
    types.Function.get_call_type = _call_type
    # Thousands of errors are composed that lead to nothing, each with colours for a terminal.
    colours._markup = lambda text, *colour: text
    try:
        yield
    finally:
        del types.Function.get_call_type, colours._markup
        Compiler.define_pipelines = _define_pipelines
        if was_on:
            gc.enable()


def _call_type(self: Any, context: Any, args: Any, kws: Any) -> Any:
    """The type of a call to one of numba's functions; worked out once where numbers are given."""
    resolve = super(types.Function, self).get_call_type
    if kws or not all(isinstance(one, _NUMBERS) for one in args):
        return resolve(context, args, kws)
    known = self.__dict__.setdefault("_known", {})
    if args not in known:
        known[args] = resolve(context, args, kws)
    return known[args]


_NUMBERS = (types.Boolean, types.Number)
