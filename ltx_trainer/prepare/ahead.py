"""Scans the files of examples in several processes before they are cut; what that told lies in notes then."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ltx_trainer.artifacts import Example, LeftOut
from ltx_trainer.media import CutRule, Spool
from ltx_trainer.prepare.cutting import Cutting, Take, cut_example
from ltx_trainer.prepare.scans import NotScanned, Scans
from ltx_trainer.prepare.sound import heard_files, track_of
from ltx_trainer.workers import DIED, Tracker, all_ahead


@dataclass(frozen=True)
class Scanning:
    """How the files of an example are scanned.

    Attributes:
        cutting: How they are cut then.
        hears: Whether their sound is scanned too.
        folder: Of the notes.
        rule: How cuts are found.
        spool: Where the pictures of clips are kept. None: they are not.
    """

    cutting: Cutting
    hears: bool
    folder: Path
    rule: CutRule
    spool: Spool | None

    def __call__(self, example: Example) -> None:
        """Scan what is not noted; what cannot be read leaves no note, and is told by who asks for it."""
        with Scans(self.folder, self.rule, self.spool, telling=False) as scans:
            self._look(example, scans)

    def is_done(self, example: Example) -> bool:
        """Say whether all of it is noted."""
        try:
            self._look(example, Scans(self.folder, self.rule, scanning=False, telling=False))
        except NotScanned:
            return False
        return True

    def _look(self, example: Example, scans: Scans) -> None:
        takes = [item for item in cut_example(self.cutting, example, scans) if isinstance(item, Take)]
        scans.keep(part for take in takes for part in take.footage.values())
        rate_hz = self.cutting.audio_rate_hz
        if takes and self.hears and rate_hz is not None:
            for source in heard_files(example):
                track_of(source, scans, rate_hz)


def scan_ahead(
    scanning: Scanning, examples: Sequence[Example], *, workers: int | None, track: Tracker | None
) -> dict[str, LeftOut]:
    """Scan what is not noted of examples; give those that cannot be, because who decodes them dies, by their names.

    Args:
        scanning: How.
        examples: Whose files.
        workers: Processes. None: as the work and the cores allow.
        track: Shows how far it is.
    """
    waiting = [example for example in examples if not scanning.is_done(example)]
    files = [source.path for example in waiting for source in example.files.values()]
    dead: dict[str, LeftOut] = {}

    def lose(example: Example) -> None:
        dead[example.name] = LeftOut(example.name, f"{DIED}; one of its files is damaged, or too large for the memory")

    all_ahead(scanning, waiting, files, workers=workers, track=track, what="Looking through files", lost=lose)
    return dead
