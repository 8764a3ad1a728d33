"""What a download is held to, and what it tells of itself."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

BYTES_IN_A_GIGABYTE = 10**9


class Limits(Protocol):
    """The user's limits, as in the settings' `downloads`."""

    @property
    def max_gigabytes(self) -> float:
        """Size of one file, in 10^9 bytes."""
        ...

    @property
    def timeout_minutes(self) -> float:
        """Longest time that one file may take."""
        ...

    @property
    def allow_private_addresses(self) -> bool:
        """Whether this machine and its local network may be asked."""
        ...


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        waits_seconds: Before each further try after one that brought nothing more; as many as there are tries.
        connect_seconds: For a connection.
        stall_seconds: For the next byte.
    """

    waits_seconds: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0)
    connect_seconds: float = 30.0
    stall_seconds: float = 60.0


class Received(Protocol):
    """Shows one download."""

    def advance(self, num_bytes: int) -> None:
        """Show that so many more bytes are here."""
        ...


class Progress(Protocol):
    """Makes what shows downloads."""

    def __call__(self, what: str, total: int | None, /) -> AbstractContextManager[Received]:
        """Show one download, or its rest, for the length of a `with`; `total` is None if its size is not known."""
        ...
