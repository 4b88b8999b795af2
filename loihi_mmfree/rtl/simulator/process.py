"""A simulated core at work: a process of its own, which takes tokens and gives logits, cycles and messages."""

from __future__ import annotations

import struct
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loihi_mmfree.errors import SimulationError
from loihi_mmfree.fixedpoint.arithmetic import Integers
from loihi_mmfree.rtl.build import CoreImage
from loihi_mmfree.rtl.loading import commands
from loihi_mmfree.rtl.simulator.layout import sent_bytes, token_bytes


@dataclass(frozen=True)
class Stalls:
    """Beats held back at random, on every stream.

    Parameters
    ----------
    permille : int
        How many of a thousand.
    seed : int
    """

    permille: int = 0
    seed: int = 0


UNHINDERED = Stalls()


@dataclass(frozen=True)
class Watched:
    """What a core did during a token.

    Parameters
    ----------
    sent : mapping from the number of a `send` to int64 array [neurons]
    summed : sequence of int64 array [rows]
        Of every product, but that of the logits.
    """

    sent: dict[int, Integers]
    summed: list[Integers]


@dataclass(frozen=True)
class TokenResult:
    """What came of a token.

    Parameters
    ----------
    logits : int32 array [V]
    cycles : int
        From its first beat to its last logit.
    saturations : int
        Values clamped since the core was reset.
    watched : Watched, optional
    """

    logits: NDArray[np.int32]
    cycles: int
    saturations: int
    watched: Watched | None


class SimulatedCore:
    """A core with a network loaded.

    Parameters
    ----------
    program : bytes
        What `toolchain.simulator` gave for the image's parameters.
    image : CoreImage
    stalls : Stalls
    """

    def __init__(self, program: bytes, image: CoreImage, stalls: Stalls = UNHINDERED) -> None:
        self.image = image
        self._folder = tempfile.TemporaryDirectory(prefix="loihi-mmfree-rtl-")
        weights, executable = (Path(self._folder.name) / name for name in ("weights.bin", "simulator"))
        executable.write_bytes(program)
        executable.chmod(0o700)
        with weights.open("wb") as file:
            for part in image.weights():
                file.write(part.tobytes())
        arguments = [str(weights), str(stalls.seed), str(stalls.permille)]
        self._process = subprocess.Popen(
            [str(executable), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        loaded = commands(image)
        self._write(b"C" + struct.pack("<I", len(loaded)) + loaded.tobytes())

    def token(self, row: Integers, fresh: bool, watched: bool = False) -> TokenResult:
        """Read a token.

        Parameters
        ----------
        row : int64 array [hidden]
            Of the embedding.
        fresh : bool
            Whether it begins a sequence.
        watched : bool
            Whether to return every message.
        """
        parameters = self.image.parameters
        lanes, size = parameters.size.lanes, token_bytes(parameters)
        padded = np.pad(row, (0, self.image.token_words * lanes - len(row))).astype("<i8")
        data = padded.view(np.uint8).reshape(-1, 8)[:, :size].tobytes()
        self._write(b"T" + struct.pack("<BBI", fresh, watched, self.image.token_words) + data)
        cycles, saturations, count = struct.unpack("<QQI", self._read(20))
        logits = np.frombuffer(self._read(4 * count), dtype="<i4").astype(np.int32)
        return TokenResult(logits, cycles, saturations, self._watched() if watched else None)

    def _watched(self) -> Watched:
        parameters = self.image.parameters
        lanes, bits = parameters.size.lanes, parameters.widths.message
        size = sent_bytes(parameters)
        kind = np.dtype([("instruction", "<u4"), ("position", "<u4"), ("data", "u1", size)])
        (count,) = struct.unpack("<I", self._read(4))
        rows = np.frombuffer(self._read(count * kind.itemsize), dtype=kind)
        places = np.unpackbits(rows["data"], axis=1, bitorder="little")[:, : lanes * bits].reshape(-1, lanes, bits)
        weights = np.array([*(1 << place for place in range(bits - 1)), -(1 << (bits - 1))], dtype=np.int64)
        values = places.astype(np.int64) @ weights
        sent = {}
        for number, source in self.image.sends.items():
            size = self.image.schedule.graph.by_name[source.node].outputs[source.port]
            mine = rows["instruction"] == number
            order = np.argsort(rows["position"][mine], kind="stable")
            sent[number] = values[mine][order].reshape(-1)[:size]
        kind = np.dtype([("product", "<u4"), ("row", "<u4"), ("value", "<i4")])
        (count,) = struct.unpack("<I", self._read(4))
        sums = np.frombuffer(self._read(count * kind.itemsize), dtype=kind)
        summed = [
            sums["value"][sums["product"] == number].astype(np.int64)
            for number, each in enumerate(self.image.products)
            if not each.logits
        ]
        return Watched(sent, summed)

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        if self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except OSError as error:
            raise self._failed() from error

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise self._failed()
        return data

    def _failed(self) -> SimulationError:
        assert self._process.stderr is not None
        self._process.wait()
        said = self._process.stderr.read().decode(errors="replace").strip()
        return SimulationError(f"the simulated core ended with {self._process.returncode}: {said or 'no word'}")
