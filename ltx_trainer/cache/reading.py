"""What is read of media to be encoded: here, or ahead in another process, which leaves it in the spool."""

from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from ltx_trainer import media
from ltx_trainer.artifacts import Footage, Soundtrack, SourceFile
from ltx_trainer.errors import MediaError
from ltx_trainer.media import Buffer, Spool


@dataclass(frozen=True)
class Reading(ABC):
    """One part of a clip, as its encoder is given it. It can be pickled.

    Attributes:
        key: Names it in the spool.
    """

    key: str

    @property
    @abstractmethod
    def source(self) -> SourceFile:
        """The file that it is read of."""

    @abstractmethod
    def decode(self) -> np.ndarray:
        """Read it.

        Raises:
            MediaError: The source cannot be read.
        """

    def ahead(self, spool: Spool) -> None:
        """Leave it in the spool, unless it is there.

        Raises:
            MediaError: The source cannot be read.
            OutOfResources: The disk is full.
        """
        spool.hold(self.key, self.decode)

    def read(self, spool: Spool | None, buffer: Buffer) -> np.ndarray:
        """Give it, of the spool if it is there.

        Args:
            spool: Where it may lie. None: nowhere.
            buffer: What is given may lie in it, until the next is read.

        Raises:
            MediaError: The source cannot be read.
        """
        del buffer
        held = None if spool is None else spool.held(self.key)
        return self.decode() if held is None else held

    def drop(self, spool: Spool) -> None:
        """Take it out of the spool."""
        spool.release(self.key)


@dataclass(frozen=True)
class Pictures(Reading):
    """Pictures `[frames, height, width, 3]`, uint8; they lie in the spool as whoever decoded them first left them.

    Attributes:
        footage: Which.
        still_crf: H.264 quality that an image is first compressed at; None leaves it as it is.
    """

    footage: Footage
    still_crf: int | None

    @property
    def source(self) -> SourceFile:
        return self.footage.source

    def decode(self) -> np.ndarray:
        return media.read_pictures(self.footage, still_crf=self.still_crf)

    def ahead(self, spool: Spool) -> None:
        spool.fill(self.footage)

    def read(self, spool: Spool | None, buffer: Buffer) -> np.ndarray:
        return media.read_pictures(self.footage, still_crf=self.still_crf, spool=spool, buffer=buffer)

    def drop(self, spool: Spool) -> None:
        spool.drop(self.footage)


@dataclass(frozen=True)
class Mask(Reading):
    """White pixels `[frames, height, width]` of a mask."""

    footage: Footage

    @property
    def source(self) -> SourceFile:
        return self.footage.source

    def decode(self) -> np.ndarray:
        return media.read_mask(self.footage)


@dataclass(frozen=True)
class Sound(Reading):
    """Sound `[2, n]`, float32.

    Attributes:
        soundtrack: Which.
        rate_hz: Of the model.
        num_tokens: That it becomes.
    """

    soundtrack: Soundtrack
    rate_hz: int
    num_tokens: int

    @property
    def source(self) -> SourceFile:
        return self.soundtrack.source

    def decode(self) -> np.ndarray:
        return media.read_sound(self.soundtrack, self.rate_hz)


@dataclass(frozen=True)
class ReadAhead:
    """Reads parts for another process. Whoever needs a part that cannot be read is told so when it asks for it."""

    spool: Spool

    def __call__(self, reading: Reading) -> None:
        """Leave one part in the spool."""
        with suppress(MediaError):
            reading.ahead(self.spool)
