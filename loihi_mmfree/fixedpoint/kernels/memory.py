"""Addresses, atomic counters and waiting: what threads that share one job need below numba's own level."""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

SPINS_BEFORE_YIELD = 1000
"""A barrier is a fraction of a microsecond away when both threads run; else the processor is wanted elsewhere."""


def _typed_pointer(kind: types.Type):  # type: ignore[no-untyped-def]
    @intrinsic
    def pointer(typing, address):  # type: ignore[no-untyped-def]
        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


byte_pointer = _typed_pointer(types.uint8)
"""int64 address -> pointer to uint8, for numba.carray."""


@intrinsic
def _atomic_add(typing, address, value):  # type: ignore[no-untyped-def]
    """Add to the int64 at an address for all threads to see, and return what was there."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def _atomic_load(typing, address):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(pointer, "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic
def _pause(typing):  # type: ignore[no-untyped-def]
    """Tell an x86 processor that this is a waiting loop."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if context.codegen().magic_tuple()[0].startswith("x86_64"):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _call_address(typing, address):  # type: ignore[no-untyped-def]
    """Call the C function without arguments at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def call_program(typing, function, neurons, code, links, counters):  # type: ignore[no-untyped-def]
    """Call a function of `codegen.CompiledPrograms` at an address."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 5), generate


@njit(nogil=True)
def wait_for_all(counter, target, yield_address):  # type: ignore[no-untyped-def]
    """Arrive at a barrier and wait until `target` arrivals were counted.

    Parameters
    ----------
    counter : int64
        Address of the int64 that counts arrivals; it only grows.
    target : int64
        Number of threads times the number of this barrier.
    yield_address : int64
        The operating system's function that gives the processor away, or 0.
    """
    _atomic_add(counter, 1)
    spins = 0
    while _atomic_load(counter) < target:
        _pause()
        spins += 1
        if spins > SPINS_BEFORE_YIELD and yield_address != 0:
            _call_address(yield_address)
