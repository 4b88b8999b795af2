"""Addresses, atomic counters and waiting: what threads that share one job need below numba's own level."""

from __future__ import annotations

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from loihi_mmfree.sim.engine.kernels.conventions import (
    ARRIVALS,
    ASLEEP,
    AT_WORK,
    CLAIMED,
    CLOSING,
    JOB,
    MEMBERS,
    READY,
    STATES,
)

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
signed_byte_pointer = _typed_pointer(types.int8)
"""int64 address -> pointer to int8."""
word_pointer = _typed_pointer(types.int32)
"""int64 address -> pointer to int32."""
long_pointer = _typed_pointer(types.int64)
"""int64 address -> pointer to int64."""


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
def _atomic_store(typing, address, value):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(arguments[1], pointer, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def _atomic_replace(typing, address, expected, value):  # type: ignore[no-untyped-def]
    """Put a value in the place of the expected one, if that is there, and say whether it was."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        met = builder.cmpxchg(pointer, arguments[1], arguments[2], "seq_cst")
        return builder.extract_value(met, 1)

    return types.boolean(types.int64, types.int64, types.int64), generate


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


@njit(nogil=True)
def _wait(spins, yield_address):  # type: ignore[no-untyped-def]
    _pause()
    if spins > SPINS_BEFORE_YIELD and yield_address != 0:
        _call_address(yield_address)


@njit(nogil=True)
def claim_helpers(control, members, patience, yield_address):  # type: ignore[no-untyped-def]
    """Claim helpers 1 to `members` - 1, or none of them if one does not get ready within so many tries."""
    for helper in range(1, members):
        spins = 0
        while not _atomic_replace(control + 8 * (STATES + 8 * helper), READY, CLAIMED):
            spins += 1
            if spins > patience:
                for each in range(1, helper):
                    _atomic_store(control + 8 * (STATES + 8 * each), READY)
                return False
            _wait(spins, yield_address)
    return True


@njit(nogil=True)
def post_job(control, job, members):  # type: ignore[no-untyped-def]
    """Let the claimed helpers begin with the job at an address."""
    _atomic_store(control + 8 * ARRIVALS, 0)
    _atomic_store(control + 8 * JOB, job)
    _atomic_store(control + 8 * MEMBERS, members)
    for helper in range(1, members):
        _atomic_store(control + 8 * (STATES + 8 * helper), AT_WORK)


@njit(nogil=True)
def wait_for_helpers(control, members, yield_address):  # type: ignore[no-untyped-def]
    """Wait until no helper is at work."""
    for helper in range(1, members):
        spins = 0
        while _atomic_load(control + 8 * (STATES + 8 * helper)) == AT_WORK:
            spins += 1
            _wait(spins, yield_address)


@njit(nogil=True)
def await_job(control, helper, patience, yield_address):  # type: ignore[no-untyped-def]
    """Get ready and wait for a job; false if none came within so many tries, and the helper is asleep then."""
    state = control + 8 * (STATES + 8 * helper)
    _atomic_store(state, READY)
    spins = 0
    while _atomic_load(state) != AT_WORK:
        spins += 1
        done = spins > patience or _atomic_load(control + 8 * CLOSING) != 0
        if done and _atomic_replace(state, READY, ASLEEP):
            return False
        _wait(spins, yield_address)
    return True
