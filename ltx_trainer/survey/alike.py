"""Finds clips that show nearly the same, and validation inputs that stand in the training data."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np

from ltx_trainer.artifacts import Clip, Footage, Preview, Role, Soundtrack
from ltx_trainer.survey.facts import Glance, Glimpse, LookAlikes, Overlap, SurveyedClip

ALIKE_BITS = 8
"""Mean number of bits, of 64, by which the frames of look-alikes differ at most.

A copy in another size, brightness or compression differs by 0 to 4 bits, one that lost 5 % at each edge by 8 to 16,
other pictures by 20 to 40.
"""

ALIKE_LEVELS = 32
"""Of 255: what the colours of look-alikes differ by at most in any of a picture's parts, but for a shift of them all.

A copy differs by 0 to 15, the same scene with a thing of another colour in it by 35 and more.
"""


def find_look_alikes(clips: Sequence[SurveyedClip]) -> tuple[LookAlikes, ...]:
    """Find the pairs of clips that show nearly the same, those that differ least first.

    Clips of one file are not compared: that they look alike is known.

    Args:
        clips: With what was seen of them; those that nothing was seen of are compared by their bytes alone.
    """
    found = {pair.clips: pair for pair in (*_same_looks(clips), *_same_bytes(clips))}
    return tuple(sorted(found.values(), key=lambda pair: (pair.distance, pair.clips)))


def groups_of(pairs: Sequence[LookAlikes]) -> tuple[tuple[str, ...], ...]:
    """Join pairs that share a clip: the names of each group in order, the largest group first."""
    groups: list[set[str]] = []
    for pair in pairs:
        met = [group for group in groups if not group.isdisjoint(pair.clips)]
        groups = [group for group in groups if group.isdisjoint(pair.clips)]
        groups.append(set(pair.clips).union(*met))
    return tuple(sorted((tuple(sorted(group)) for group in groups), key=lambda group: (-len(group), group)))


def find_overlaps(
    clips: Sequence[SurveyedClip], previews: Sequence[Preview], glimpses: Sequence[Glimpse]
) -> tuple[Overlap, ...]:
    """Find the inputs of validation items that stand in the training data: the same bytes, or what looks alike.

    Args:
        clips: What is trained on; those that are only measured on have no say.
        previews: The validation items.
        glimpses: What was seen of them, in their order.
    """
    trained = [clip for clip in clips if not clip.held_out]
    holders: dict[str, list[str]] = {}
    for clip in trained:
        for digest in {part.source.sha256 for part in _parts(clip.clip)}:
            holders.setdefault(digest, []).append(clip.name)
    found: list[Overlap] = []
    for item, (preview, glimpse) in enumerate(zip(previews, glimpses, strict=True)):
        for role, part in _inputs(preview):
            same = tuple(holders.get(part.source.sha256, ()))
            glance = glimpse.pictures.get(role) if role is not Role.MASK and isinstance(part, Footage) else None
            alike = () if same or glance is None else tuple(_who_looks_like(glance, trained))
            if same or alike:
                found.append(Overlap(item, role, part.source.name, same or alike, same_bytes=bool(same)))
    return tuple(dict.fromkeys(found))


def bits_apart(one: Glance, other: Glance) -> float:
    """Give the mean number of bits by which the frames of two spans differ.

    Each frame of either is held against the one at its place in the other and that one's neighbours, so that a copy may
    begin a little later; a still, or a span of fewer frames, is held against all frames of the longer.
    """
    few, many = sorted((_bits(one), _bits(other)), key=len)
    if len(few) == len(many):
        return float(_bits_apart_of(few, many[None])[0])
    return float(np.bitwise_count(few[:, None] ^ many[None]).min(axis=1).mean())


def levels_apart(one: Glance, other: Glance) -> float:
    """Give the mean over frames of the largest difference of colours between two spans; of a still, the smallest.

    What all parts of a frame have in common, as another brightness, is left out.
    """
    few, many = sorted((_colours(one), _colours(other)), key=len)
    if len(few) == len(many):
        return float(_largest_differences(few - many).mean())
    return float(_largest_differences(few[:, None] - many[None]).min(axis=1).mean())


def look_alike(one: Glance, other: Glance) -> float | None:
    """Give by how many bits two spans differ if they look alike; None if they do not."""
    distance = bits_apart(one, other)
    return distance if distance <= ALIKE_BITS and levels_apart(one, other) <= ALIKE_LEVELS else None


def _same_bytes(clips: Sequence[SurveyedClip]) -> Iterator[LookAlikes]:
    """Pair clips that are cut from two files of equal bytes at the same place."""
    spans: dict[object, list[SurveyedClip]] = {}
    for clip in clips:
        part = clip.footage or clip.clip.soundtrack[Role.TARGET]
        spans.setdefault((part.source.sha256, part.start_seconds, part.span_seconds), []).append(clip)
    for same in spans.values():
        for one, other in combinations(same, 2):
            if one.file != other.file:
                yield LookAlikes((one.name, other.name), 0.0, same_bytes=True)


def _same_looks(clips: Sequence[SurveyedClip]) -> Iterator[LookAlikes]:
    """Pair clips of as many frames that look alike; stills are not held against videos, which they may be cut from."""
    counts: dict[int, list[tuple[SurveyedClip, Glance]]] = {}
    for clip in clips:
        if clip.glance is not None:
            counts.setdefault(len(clip.glance.prints), []).append((clip, clip.glance))
    for seen in counts.values():
        bits = np.stack([_bits(glance) for _, glance in seen])
        colours = np.stack([_colours(glance) for _, glance in seen])
        for index, (clip, _) in enumerate(seen):
            distances = _bits_apart_of(bits[index], bits[index + 1 :])
            near = np.flatnonzero(distances <= ALIKE_BITS)
            for place in near[_are_of_like_colours(colours[index], colours[index + 1 + near])]:
                other = seen[index + 1 + int(place)][0]
                if clip.file != other.file:
                    same = _digest(clip) == _digest(other)
                    yield LookAlikes((clip.name, other.name), round(float(distances[place]), 2), same_bytes=same)


def _are_of_like_colours(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Tell of spans `[m, n, parts, 3]` whether `levels_apart` of each and one of as many frames is small: `[m]`.

    Frame by frame, because most of what is too far apart is so in a few frames.
    """
    apart = np.zeros(len(others), np.float32)
    most = ALIKE_LEVELS * len(frames)
    for frame in range(len(frames)):
        left = np.flatnonzero(apart <= most)
        apart[left] += _largest_differences(frames[frame] - others[left, frame])
    return apart <= most


def _digest(clip: SurveyedClip) -> str | None:
    return None if clip.footage is None else clip.footage.source.sha256


def _who_looks_like(glance: Glance, clips: Sequence[SurveyedClip]) -> Iterator[str]:
    for clip in clips:
        pictures = (other for role, other in clip.glimpse.pictures.items() if role is not Role.MASK)
        if any(look_alike(glance, other) is not None for other in pictures):
            yield clip.name


def _parts(clip: Clip) -> Iterator[Footage | Soundtrack]:
    """Give what is cut from files that stand for themselves; many clips may share one mask."""
    parts: Mapping[Role, Footage | Soundtrack] = clip.footage
    yield from (part for role, part in parts.items() if role is not Role.MASK)
    yield from clip.soundtrack.values()


def _inputs(preview: Preview) -> Iterator[tuple[Role, Footage | Soundtrack]]:
    """Give each file of an item once."""
    seen: set[str] = set()
    for role, part in (*preview.footage.items(), *preview.soundtrack.items()):
        if role is not Role.MASK and part.source.sha256 not in seen:
            seen.add(part.source.sha256)
            yield role, part


def _bits(glance: Glance) -> np.ndarray:
    return np.array([each.bits for each in glance.prints], np.uint64)


def _colours(glance: Glance) -> np.ndarray:
    """Give the mean colours `[n, parts, 3]` of each frame."""
    return np.array([np.frombuffer(each.colours, np.uint8) for each in glance.prints], np.float32).reshape(
        len(glance.prints), -1, 3
    )


def _largest_differences(apart: np.ndarray) -> np.ndarray:
    """Give of each frame, whose parts differ by `[..., parts, 3]`, the difference of the part that differs most."""
    channels = np.ascontiguousarray(np.swapaxes(apart, -1, -2))
    middle = np.sort(channels, axis=-1)[..., [(channels.shape[-1] - 1) // 2, channels.shape[-1] // 2]].mean(axis=-1)
    return np.abs(channels - middle[..., None]).mean(axis=-2).max(axis=-1)


def _bits_apart_of(frames: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Say how far the frames `[n]` of a span are from those of other spans `[m, n]`: `[m]`, the larger of both ways."""
    apart = np.bitwise_count(frames ^ others)
    # Each frame against the next one of the other span, and the other way round.
    later, earlier = np.bitwise_count(frames[:-1] ^ others[:, 1:]), np.bitwise_count(frames[1:] ^ others[:, :-1])
    return np.maximum(_nearest(apart, later, earlier), _nearest(apart, earlier, later))


def _nearest(apart: np.ndarray, to_next: np.ndarray, to_last: np.ndarray) -> np.ndarray:
    nearest = apart.copy()
    nearest[:, :-1] = np.minimum(nearest[:, :-1], to_next)
    nearest[:, 1:] = np.minimum(nearest[:, 1:], to_last)
    return nearest.mean(axis=1)
