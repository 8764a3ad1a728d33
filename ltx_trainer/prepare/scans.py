"""What decoding a source once told about it, remembered by the source's digest so that no run asks again."""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Self

from ltx_trainer import media
from ltx_trainer.artifacts import (
    Footage,
    MediaKind,
    PictureFacts,
    SoundFacts,
    Soundtrack,
    SourceFacts,
    SourceFile,
)
from ltx_trainer.atomic import write_text
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import AudioScan, Cut, CutRule, Reel, Spool, VideoScan, Wish, cut_rule

logger = logging.getLogger(__name__)

SCANNING = 3
"""Raised whenever scanning says something else about the same bytes."""


class NotScanned(Exception):
    """A file is not remembered, and was not to be scanned."""


class Scans:
    """Scans of source files, each kept as one small file. A file that cannot be read is not remembered.

    Of several tracks of a file, the one that is taken is told once, recalled or not.

    Args:
        folder: Where they lie, shared by all runs.
        rule: How cuts are found. None: as `media.cut_rule` does by default.
        spool: Where pictures wait that were decoded on the way. None: they are not kept.
        scanning: Whether what is not remembered is scanned.
        telling: Whether to tell which of several tracks are taken, once for each file.
    """

    def __init__(
        self,
        folder: Path,
        rule: CutRule | None = None,
        spool: Spool | None = None,
        *,
        scanning: bool = True,
        telling: bool = True,
    ) -> None:
        self._rule = rule or cut_rule()
        self._folder = folder / f"v{SCANNING}"
        self._spool = spool
        self._scanning = scanning
        self._telling = telling
        self._reels: list[tuple[str, Reel]] = []
        self._stack = ExitStack()
        self._videos: dict[str, VideoScan] = {}
        self._images: dict[str, FrameSize] = {}
        self._tracks: dict[str, AudioScan] = {}

    def __enter__(self) -> Self:
        """Give the scans; what `keep` does not take of what is decoded until the end of the `with` is lost."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove what was decoded and not kept."""
        self._stack.close()
        self._reels.clear()

    def video(self, source: SourceFile, *, find_cuts: bool, wish: Wish | None = None) -> VideoScan:
        """Scan a video, or recall it.

        Args:
            source: The file.
            find_cuts: Whether its cuts are asked for.
            wish: Which pictures `keep` may be asked for; without one, none.

        Raises:
            MediaError: As `media.scan_video`.
            NotScanned: It is not remembered, and nothing is to be scanned.
        """
        note = self._note(source, f"video-cuts-{self._rule}" if find_cuts else "video")
        if note.is_file():
            scan = _video_of(json.loads(note.read_text("utf-8")))
        else:
            self._check_scanning()
            reel = self._begin_reel(source, wish)
            scan = media.scan_video(source.path, find_cuts=find_cuts, rule=self._rule, reel=reel)
            _write(note, _facts_of_video(scan))
        if source.sha256 not in self._videos:
            self._tell(source, scan)
        self._videos[source.sha256] = scan
        return scan

    def keep(self, parts: Iterable[Footage]) -> None:
        """Keep the pictures of clips, as far as they were decoded on the way."""
        if self._spool is None:
            return
        for part in parts:
            for sha256, reel in self._reels:
                if sha256 == part.source.sha256:
                    self._spool.keep(part, reel)

    def seen_video(self, source: SourceFile) -> VideoScan | None:
        """Give the scan of a video that was asked for before; None of what was not."""
        return self._videos.get(source.sha256)

    def audio(self, source: SourceFile, *, rate_hz: int) -> AudioScan | None:
        """Scan a soundtrack, or recall it; None if the file has none.

        Raises:
            MediaError: As `media.scan_audio`.
        """
        note = self._note(source, f"audio-{rate_hz}")
        if note.is_file():
            scan = _audio_of(json.loads(note.read_text("utf-8")))
        else:
            self._check_scanning()
            scan = media.scan_audio(source.path, rate_hz=rate_hz)
            _write(note, _facts_of_audio(scan))
        if scan is not None:
            if source.sha256 not in self._tracks:
                self._tell(source, scan)
            self._tracks[source.sha256] = scan
        return scan

    def image(self, source: SourceFile) -> FrameSize:
        """Scan an image, or recall it.

        Raises:
            MediaError: As `media.scan_image`.
        """
        note = self._note(source, "image")
        if note.is_file():
            size = FrameSize(*json.loads(note.read_text("utf-8"))["size"])
        else:
            self._check_scanning()
            size = media.scan_image(source.path)
            _write(note, {"size": [size.width, size.height]})
        self._images[source.sha256] = size
        return size

    def facts_of(self, parts: Iterable[Footage | Soundtrack]) -> dict[str, SourceFacts]:
        """Tell what was seen and heard of the files that pictures and sound are cut from, by their digests."""
        return {part.source.sha256: self._facts_of(part.source) for part in parts}

    def _facts_of(self, source: SourceFile) -> SourceFacts:
        video, image = self._videos.get(source.sha256), self._images.get(source.sha256)
        pictures = None
        if source.kind is MediaKind.IMAGE and image is not None:
            pictures = PictureFacts(image, 1, Fraction(0))
        elif video is not None:
            cuts = tuple((cut.end_seconds, cut.start_seconds) for cut in video.cuts)
            pictures = PictureFacts(video.size, video.num_frames, video.duration_seconds, cuts, video.start_seconds)
        track = self._tracks.get(source.sha256)
        if track is None:
            return SourceFacts(pictures)
        sound = SoundFacts(
            track.rate_hz,
            track.channels,
            track.duration_seconds,
            track.loudness_lufs,
            track.true_peak,
            track.start_seconds,
        )
        return SourceFacts(pictures, sound)

    def _tell(self, source: SourceFile, scan: VideoScan | AudioScan) -> None:
        if self._telling and scan.choice is not None:
            logger.info("%s %s.", source.name, scan.choice)

    def _check_scanning(self) -> None:
        if not self._scanning:
            raise NotScanned

    def _begin_reel(self, source: SourceFile, wish: Wish | None) -> Reel | None:
        reel = None if wish is None or self._spool is None else self._spool.reel(wish)
        if reel is not None:
            self._reels.append((source.sha256, self._stack.enter_context(reel)))
        return reel

    def _note(self, source: SourceFile, asked: str) -> Path:
        return self._folder / f"{source.sha256}-{asked}.json"


def _write(note: Path, facts: Mapping[str, object] | None) -> None:
    write_text(note, json.dumps(facts, indent=1))


def _facts_of_video(scan: VideoScan) -> dict[str, object]:
    return {
        "num_frames": scan.num_frames,
        "start_seconds": str(scan.start_seconds),
        "duration_seconds": str(scan.duration_seconds),
        "size": [scan.size.width, scan.size.height],
        "cuts": [[str(cut.end_seconds), str(cut.start_seconds)] for cut in scan.cuts],
        "choice": scan.choice,
    }


def _video_of(facts: Mapping) -> VideoScan:
    return VideoScan(
        num_frames=facts["num_frames"],
        start_seconds=Fraction(facts["start_seconds"]),
        duration_seconds=Fraction(facts["duration_seconds"]),
        size=FrameSize(*facts["size"]),
        cuts=tuple(Cut(Fraction(end), Fraction(start)) for end, start in facts["cuts"]),
        choice=facts["choice"],
    )


def _facts_of_audio(scan: AudioScan | None) -> dict[str, object] | None:
    if scan is None:
        return None
    return {
        "start_seconds": str(scan.start_seconds),
        "duration_seconds": str(scan.duration_seconds),
        "rate_hz": scan.rate_hz,
        "channels": scan.channels,
        "peak": scan.peak,
        "true_peak": scan.true_peak,
        "loudness_lufs": scan.loudness_lufs,
        "silences": [[str(begin), str(end)] for begin, end in scan.silences],
        "clipped": scan.clipped,
        "choice": scan.choice,
    }


def _audio_of(facts: Mapping | None) -> AudioScan | None:
    if facts is None:
        return None
    return AudioScan(
        start_seconds=Fraction(facts["start_seconds"]),
        duration_seconds=Fraction(facts["duration_seconds"]),
        rate_hz=facts["rate_hz"],
        channels=facts["channels"],
        peak=facts["peak"],
        true_peak=facts["true_peak"],
        loudness_lufs=facts["loudness_lufs"],
        silences=tuple((Fraction(begin), Fraction(end)) for begin, end in facts["silences"]),
        clipped=facts["clipped"],
        choice=facts["choice"],
    )
