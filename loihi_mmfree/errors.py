"""The errors a user can meet, each with the exit code of the command line (docs/command-line.md)."""


class LoihiMmfreeError(Exception):
    """Base of every error this package raises on purpose. The message speaks to the user."""

    exit_code = 1


class UsageError(LoihiMmfreeError):
    """The request itself cannot be carried out: bad option, bad prompt, output folder in the way."""

    exit_code = 2


class OutOfMemoryError(LoihiMmfreeError):
    """There is not enough memory for what was asked."""

    exit_code = 2


class CheckpointError(LoihiMmfreeError):
    """A checkpoint is missing, damaged or unsafe to read."""

    exit_code = 3


class ArtifactError(LoihiMmfreeError):
    """A compiled net/ is missing, damaged, altered, or of a newer schema."""

    exit_code = 3


class UnsupportedModelError(LoihiMmfreeError):
    """The checkpoint is readable, but its architecture is one we do not map."""

    exit_code = 4


class DoesNotFitError(LoihiMmfreeError):
    """A bound of the chip or of the fixed-point rules R1-R6 is exceeded."""

    exit_code = 5


class MismatchError(LoihiMmfreeError):
    """Two paths that must agree bit for bit do not."""

    exit_code = 6


class BackendUnavailableError(LoihiMmfreeError):
    """The backend asked for is not installed on this machine."""

    exit_code = 7


class SimulationError(LoihiMmfreeError, RuntimeError):
    """A simulated process failed, or the network can make no progress. Lava itself raises RuntimeError then."""

    exit_code = 1


class TrainingError(LoihiMmfreeError):
    """A training cannot go on: its loss or its gradient is no number any more."""

    exit_code = 1


class MeasurementError(LoihiMmfreeError):
    """What a board's profiler gave is no measurement."""

    exit_code = 1


class Notice(UserWarning):
    """Something the user should know that stops nothing."""
