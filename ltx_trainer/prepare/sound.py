"""Whether a run has sound, and which span of a track goes with which pictures."""

import logging
from collections.abc import Mapping, Sequence

from ltx_trainer.artifacts import LeftOut, MediaKind, Role, Soundtrack, SourceFile
from ltx_trainer.config import Request
from ltx_trainer.errors import ConfigError, DatasetError, MediaError
from ltx_trainer.media import AudioScan
from ltx_trainer.prepare.cutting import Take
from ltx_trainer.prepare.scans import Scans

logger = logging.getLogger(__name__)

PEAK = 10 ** (-1 / 20)
"""-1 dBFS, below which lossy codecs do not clip."""

SILENCE = 1e-6
"""Peaks under it (-120 dBFS) are no sound, and are not made louder."""

Track = AudioScan | MediaError | None
"""What a video has: a track, a track that cannot be decoded, or none."""


def find_tracks(
    request: Request, takes: Sequence[Take], scans: Scans, *, rate_hz: int | None
) -> Mapping[str, AudioScan | MediaError] | None:
    """Decide whether the run has sound; if so, give the track of every source by the digest of the source.

    Sources that no take comes from have no say.

    Args:
        request: `with_audio` None is on if every video has a track, and a damaged one is one.
        takes: What will be trained on.
        scans: Of the sources.
        rate_hz: Sample rate of the model; None if it has no sound.

    Returns:
        None if the run is silent.

    Raises:
        ConfigError: Sound is required of a model that has none.
        DatasetError: Sound is required of images, or of videos of which some have none.
    """
    if request.with_audio is False:
        return None
    if rate_hz is None:
        if request.with_audio:
            raise ConfigError("with_audio is true, and the base model has no sound. false and null work.")
        return None
    sources = {take.footage.source.sha256: take.footage.source for take in takes}
    stills = [source.name for source in sources.values() if source.kind is MediaKind.IMAGE]
    if stills:
        if request.with_audio:
            raise DatasetError(f"with_audio is true, and images such as {stills[0]!r} have no sound. false works.")
        if len(stills) < len(sources):
            logger.info("The run is silent: %d images have no sound, the first is %s.", len(stills), stills[0])
        return None
    tracks = {digest: _track_of(source, scans, rate_hz) for digest, source in sources.items()}
    silent = sorted({take.footage.source.name for take in takes if tracks[take.footage.source.sha256] is None})
    if silent and request.with_audio:
        raise DatasetError(
            f"with_audio is true, and {len(silent)} videos have no audio track: {', '.join(silent)}. "
            "Take them out, or set with_audio to false."
        )
    if silent:
        logger.info("The run is silent: %d videos have no audio track, the first is %s.", len(silent), silent[0])
        return None
    return {digest: track for digest, track in tracks.items() if track is not None}


def add_sound(
    request: Request, take: Take, tracks: Mapping[str, AudioScan | MediaError] | None
) -> dict[Role, Soundtrack] | LeftOut:
    """Give the sound of a take: none in a silent run, and a reason to leave it out if its track is damaged."""
    if tracks is None:
        return {}
    footage = take.footage
    track = tracks[footage.source.sha256]
    if isinstance(track, MediaError):
        return LeftOut(take.name, str(track))
    soundtrack = Soundtrack(
        source=footage.source,
        start_seconds=footage.start_seconds,
        span_seconds=footage.span_seconds,
        duration_seconds=footage.shape.duration_seconds,
        preserve_pitch=request.audio_preserve_pitch,
        gain=_gain(track.peak) if request.audio_normalize else 1.0,
    )
    return {Role.TARGET: soundtrack}


def _track_of(source: SourceFile, scans: Scans, rate_hz: int) -> Track:
    try:
        return scans.audio(source, rate_hz=rate_hz)
    except MediaError as error:
        return error


def _gain(peak: float) -> float:
    return PEAK / peak if peak >= SILENCE else 1.0
