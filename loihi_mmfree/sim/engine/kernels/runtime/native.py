"""Kernels as functions in memory. numba is imported only if the disk does not hold them yet."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from loihi_mmfree.sim.engine.kernels.programs.structure import Structure
from loihi_mmfree.sim.engine.kernels.runtime.objects import MachineCode, kept_object, optimize, target_machine

_ENTRY = "entry"


class CompiledPrograms:
    """Functions of `codegen.write_programs` in memory; they live as long as this object.

    Parameters
    ----------
    structures : list of Structure
        `addresses` holds the address of a function for each.
    """

    def __init__(self, structures: list[Structure]) -> None:
        functions = {f"program_{number}": each for number, each in enumerate(dict.fromkeys(structures))}

        def make() -> bytes:
            from loihi_mmfree.sim.engine.kernels.programs.codegen import write_programs

            module = llvm.parse_assembly(write_programs(functions))
            module.verify()
            optimize(module)
            return target_machine().emit_object(module)

        self._code = MachineCode(kept_object(repr(functions), make))
        self.addresses = {each: self._code.address(name) for name, each in functions.items()}


class NativeFunction:
    """A function that numba compiled, called without numba and without the interpreter's lock, by one thread.

    Parameters
    ----------
    code : MachineCode
        From `compile_function`.
    arguments : int
        How many it takes, all int64.
    """

    def __init__(self, code: MachineCode, arguments: int) -> None:
        self._code = code
        # numba's convention: where the result goes, where an exception goes, then the arguments.
        places = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * arguments]
        self._function = ctypes.CFUNCTYPE(ctypes.c_int32, *places)(code.address(_ENTRY))
        self._result, self._exception = ctypes.c_int8(), ctypes.c_void_p()
        self._answers = ctypes.addressof(self._result), ctypes.addressof(self._exception)

    def __call__(self, *arguments: int) -> bool:
        """Call the function."""
        status = self._function(*self._answers, *arguments)
        if status:
            raise RuntimeError(f"a compiled kernel ended with status {status}")
        return bool(self._result.value)


TAKE_PART_ARGUMENTS = 6


def load_take_part() -> NativeFunction:
    """Return `network.take_part`, for the thread that asks."""
    return NativeFunction(_take_part_code(), TAKE_PART_ARGUMENTS)


@cache
def _take_part_code() -> MachineCode:
    from importlib.metadata import version

    return MachineCode(kept_object(f"take_part numba {version('numba')}", _compile_take_part))


def _compile_take_part() -> bytes:
    with _compiling():
        from loihi_mmfree.sim.engine.kernels.runtime.network import take_part

        return compile_function(take_part, TAKE_PART_ARGUMENTS)


@contextmanager
def _compiling() -> Iterator[None]:
    """Compile even where NUMBA_DISABLE_JIT is set: there is nothing that could be run instead."""
    if not os.environ.get("NUMBA_NUM_THREADS", "1"):
        del os.environ["NUMBA_NUM_THREADS"]  # Empty is as if it were not set, but numba would complain.
    from numba import config

    before, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        yield
    finally:
        config.DISABLE_JIT = before


def compile_function(function: Any, arguments: int) -> bytes:
    """Compile a Python function with numba to an object that needs neither numba nor Python.

    Parameters
    ----------
    function : callable
        What numba.njit takes; of int64 arguments, returns a boolean.
    arguments : int
        How many it takes.

    Raises
    ------
    RuntimeError
        The function allocates, raises, or otherwise needs numba's run-time library.
    """
    from numba import njit, types

    with _compiling():
        dispatcher = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
        dispatcher.compile((types.int64,) * arguments)
    (compiled,) = dispatcher.overloads.values()
    module = llvm.parse_assembly(compiled.library.get_llvm_str())
    _close(module, compiled.fndesc.llvm_func_name)
    return target_machine().emit_object(module)


def _close(module: llvm.ModuleRef, entry: str) -> None:
    """Leave one function to call, and nothing that has to be looked up in numba's run-time library.

    All that kernels could want of that is the end of an array's owner, and theirs have none.
    """
    for function in module.functions:
        if function.name == entry:
            function.name = _ENTRY
        elif not function.is_declaration:
            function.linkage = "internal"
    never = llvm.parse_assembly("define linkonce_odr void @NRT_MemInfo_call_dtor(ptr) { ret void }")
    module.link_in(never)
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, llvm.create_pass_builder(target_machine(), llvm.create_pipeline_tuning_options()))
    foreign = [each.name for each in module.functions if each.is_declaration and not each.name.startswith("llvm.")]
    if foreign:
        raise RuntimeError(f"the compiled kernels need {foreign}, which only a program with numba in it has")
