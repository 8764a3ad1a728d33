"""Colours of every depth, sampling, range and standard: patches whose codes are worked out by hand from the papers."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ltx_trainer.errors import MediaError
from ltx_trainer.geometry import FrameSize
from ltx_trainer.media import decode_frames, scan_video
from ltx_trainer.media.tone import Curve, Gamut, bt709_pixels, pq_codes, pq_light

BT601, BT709, BT2020 = 6, 1, 9
"""Matrices by their numbers in ITU-T H.273."""
LUMA = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722), BT2020: (0.2627, 0.0593)}
"""How much red and blue weigh. Source: BT.601-7, BT.709-6 and BT.2020-2."""
PQ, HLG, SDR = 16, 18, 1
WIDE, NARROW = 9, 1
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Light in the primaries of BT.709 to those of BT.2020. Source: ITU-R BT.2087-0, section 2.3."""
COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 100, 50)])
SOFT = np.array(
    [(220, 70, 60), (70, 200, 80), (70, 80, 210), (255, 255, 255), (0, 0, 0), (128, 128, 128), (200, 100, 50)]
)
"""Without colours at the edge of a gamut: there, a step of 10 bits shows as several in the channels that are dark."""
PATCH = 16


class Tags:
    """How a patch file is stored and tagged."""

    def __init__(self, layout: str, matrix: int, *, full: bool = False, curve: int = SDR, gamut: int = NARROW) -> None:
        self.layout, self.matrix, self.full, self.curve, self.gamut = layout, matrix, full, curve, gamut
        self.bits = VideoFrame(16, 16, layout).format.components[0].bits

    def frame(self, codes: np.ndarray) -> VideoFrame:
        """Draw columns of R'G'B' codes `[n, 3]` from 0 to 1."""
        frame = VideoFrame(PATCH * len(codes), 32, self.layout)
        for plane, values in zip(frame.planes, self._planes(codes), strict=True):
            samples = values.repeat(PATCH * plane.width // frame.width)
            kind = np.uint8 if self.bits == 8 else np.dtype("<u2")
            rows = np.zeros((plane.height, plane.line_size // np.dtype(kind).itemsize), kind)
            rows[:, : plane.width] = samples
            plane.update(rows.tobytes())
        frame.colorspace, frame.color_range = self.matrix, 2 if self.full else 1
        frame.color_trc, frame.color_primaries = self.curve, self.gamut
        return frame

    def _planes(self, codes: np.ndarray) -> list[np.ndarray]:
        of_red, of_blue = LUMA[self.matrix]
        luma = codes @ [of_red, 1 - of_red - of_blue, of_blue]
        blue, red = (codes[:, 2] - luma) / (2 - 2 * of_blue), (codes[:, 0] - luma) / (2 - 2 * of_red)
        step, largest = 2 ** (self.bits - 8), 2**self.bits - 1
        if self.full:
            planes = [luma * largest, blue * largest + 128 * step, red * largest + 128 * step]
        else:
            planes = [(219 * luma + 16) * step, (224 * blue + 128) * step, (224 * red + 128) * step]
        if self.layout.startswith("yuva"):
            planes.append(np.full(len(codes), largest))
        return [np.rint(plane).clip(0, largest) for plane in planes]

    def write(self, path: Path, codes: np.ndarray, codec: str = "ffv1", **options: str) -> Path:
        with av.open(str(path), "w") as output:
            stream = output.add_stream(codec, rate=24, options=options)
            assert isinstance(stream, VideoStream)
            frame = self.frame(codes)
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, self.layout
            context = stream.codec_context
            context.colorspace, context.color_range = self.matrix, 2 if self.full else 1
            context.color_trc, context.color_primaries = self.curve, self.gamut
            frame.pts, frame.time_base = 0, Fraction(1, 24)
            output.mux(stream.encode(frame))
            output.mux(stream.encode())
        return path


def decoded(path: Path, count: int) -> np.ndarray:
    """Read the middles of `count` patches `[count, 3]`."""
    frame = decode_frames(path, [Fraction(0)], FrameSize(PATCH * count, 32))[0]
    return frame[16, np.arange(count) * PATCH + PATCH // 2].astype(int)


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", [BT601, BT709])
@pytest.mark.parametrize(
    "layout",
    ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv420p12le", "yuv444p12le"],
)
def test_colours_survive_every_layout(tmp_path: Path, layout: str, matrix: int, full: bool) -> None:
    path = Tags(layout, matrix, full=full).write(tmp_path / "patches.mkv", COLOURS / 255)

    assert np.abs(decoded(path, 7) - COLOURS).max() <= 2


@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("layout", ["yuv420p", "yuv420p10le", "yuv422p10le", "yuv444p10le", "yuv444p12le"])
def test_wide_colours_become_those_of_bt709_in_linear_light(tmp_path: Path, layout: str, full: bool) -> None:
    wide = ((SOFT / 255) ** 2.4 @ TO_BT2020.T) ** (1 / 2.4)
    tags = Tags(layout, BT2020, full=full, curve=14, gamut=WIDE)

    found = decoded(tags.write(tmp_path / "wide.mkv", wide), 7)

    assert np.abs(found - SOFT).max() <= 3
    # Taken for BT.709, they would be pale.
    assert np.abs(np.rint(wide * 255) - SOFT).max() > 20


PQ_PATCHES = {
    "black": ((0, 0, 0), (0, 0, 0)),
    # BT.2408, table 1: 26 cd/m2 is a grey card, 38 % PQ. 26 / 203 is below the knee: (0.128)^(1 / 2.4).
    "grey card": ((26, 26, 26), (108, 108, 108)),
    # Reference white, 58 % PQ. BT.2390: e1 = 0.5807 / 0.7518 = 0.7724, KS = 0.6586, T = 1/3, P = 0.7386; times
    # 0.7518 that is 55.5 % PQ, 159 of 203 cd/m2.
    "reference white": ((203, 203, 203), (230, 230, 230)),
    "peak": ((1000, 1000, 1000), (255, 255, 255)),
    "beyond the peak": ((4000, 4000, 4000), (255, 255, 255)),
    # Colours of BT.709 at 80 and 8 cd/m2, below the knee: (80 / 203)^(1 / 2.4) is 0.678, (8 / 203)^(1 / 2.4) 0.260.
    "red of BT.709": (TO_BT2020 @ (80, 8, 8), (173, 66, 66)),
    "green of BT.709": (TO_BT2020 @ (8, 80, 8), (66, 173, 66)),
    "blue of BT.709": (TO_BT2020 @ (8, 8, 80), (66, 66, 173)),
    # No BT.709 display shows it. Its red is 1.6605 times as bright as that of BT.709: 80 * 1.6605 / 203 = 0.654, which
    # the knee brings to 0.614.
    "red of BT.2020": ((80, 0, 0), (208, 0, 0)),
}
HLG_PATCHES = {
    "black": ((0, 0, 0), (0, 0, 0)),
    # BT.2408, table 1: a grey card is 38 % HLG, and 75 % is reference white, 203 cd/m2 on a display of 1000.
    "grey card": ((0.38, 0.38, 0.38), (108, 108, 108)),
    "reference white": ((0.75, 0.75, 0.75), (230, 230, 230)),
    "peak": ((1, 1, 1), (255, 255, 255)),
    # Scene light 0.5^2 / 3 = 1/12; luminance 0.2627 / 12, to the power of 0.2 it is 0.4657; 1000 * 0.4657 / 12 = 38.8
    # cd/m2, of which BT.709 shows 1.6605 * 38.8 / 203 = 0.317 as red.
    "red of BT.2020": ((0.5, 0, 0), (158, 0, 0)),
}


@pytest.mark.parametrize("layout", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuva444p10le"])
@pytest.mark.parametrize(("curve", "patches"), [(PQ, PQ_PATCHES), (HLG, HLG_PATCHES)], ids=["PQ", "HLG"])
def test_hdr_comes_to_the_levels_that_the_papers_give(
    tmp_path: Path, curve: int, patches: dict[str, tuple], layout: str
) -> None:
    given = np.array([patch for patch, _ in patches.values()], float)
    codes = pq_codes(given) if curve == PQ else given
    path = Tags(layout, BT2020, curve=curve, gamut=WIDE).write(tmp_path / "hdr.mkv", codes)

    found = decoded(path, len(patches))

    wrong = {
        name: tuple(pixel)
        for (name, (_, expected)), pixel in zip(patches.items(), found, strict=True)
        if np.abs(pixel - expected).max() > 3
    }
    assert wrong == {}


def test_pq_is_that_of_the_paper() -> None:
    # BT.2408, tables 1 and 2, in percent.
    np.testing.assert_allclose(pq_codes(np.array([26.0, 203.0, 1000.0, 10000.0])), [0.38, 0.58, 0.75, 1], atol=5e-3)
    np.testing.assert_allclose(pq_light(pq_codes(np.array([0.01, 1, 100.0]))), [0.01, 1, 100], rtol=1e-6)


def test_hdr_as_telephones_store_it_is_read_at_another_size(tmp_path: Path) -> None:
    tags = Tags("yuv420p10le", BT2020, curve=HLG, gamut=WIDE)
    # Of a single frame with reordering, the packet sometimes comes with side data that the muxer does not take.
    quiet = {"x265-params": "log-level=none:bframes=0", "crf": "4"}
    path = tags.write(tmp_path / "hlg.mp4", np.full((4, 3), 0.75), "libx265", **quiet)

    assert scan_video(path, find_cuts=True).size == FrameSize(64, 32)
    frame = decode_frames(path, [Fraction(0)], FrameSize(32, 32))[0]
    assert np.abs(frame.astype(int) - 230).max() <= 3


def test_deep_rgb_is_tone_mapped_too(tmp_path: Path) -> None:
    frame = VideoFrame.from_ndarray(np.full((32, 64, 3), round(0.58 * 65535), np.uint16), format="rgb48le")
    path = tmp_path / "rgb.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=24)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "gbrp16le"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = PQ, WIDE
        picture = frame.reformat(format="gbrp16le")
        picture.pts, picture.time_base = 0, Fraction(1, 24)
        output.mux(stream.encode(picture))
        output.mux(stream.encode())

    assert np.abs(decoded(path, 4) - 230).max() <= 1


def test_brightness_never_falls_and_grey_stays_grey() -> None:
    ramp = np.linspace(0, 1, 1024, dtype=np.float32).repeat(3).reshape(1, -1, 3)
    for curve in Curve:
        grey = bt709_pixels(ramp, curve, Gamut.BT2020)[0].astype(int)
        assert (np.diff(grey[:, 0]) >= 0).all()
        assert np.ptp(grey, axis=1).max() <= 1
        assert (grey[0, 0], grey[-1, 0]) == (0, 255)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (Tags("yuv420p10le", BT709, curve=8), "linear light"),
        (Tags("yuv420p10le", BT709, curve=9), "a log curve"),
        (Tags("yuv420p10le", BT709, gamut=10), "CIE XYZ"),
        (Tags("yuv420p10le", BT709, gamut=11), "the colours of DCI-P3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_colours_that_are_not_known_are_refused_by_name(tmp_path: Path, tags: Tags, said: str) -> None:
    path = tags.write(tmp_path / "odd.mkv", COLOURS / 255)

    with pytest.raises(MediaError, match=rf"odd\.mkv uses {said}\. Convert it to BT\.709 first"):
        scan_video(path, find_cuts=False)
    with pytest.raises(MediaError, match=rf"odd\.mkv uses {said}"):
        decode_frames(path, [Fraction(0)], FrameSize(32, 32))


def test_a_constant_luminance_matrix_is_refused_by_number(tmp_path: Path) -> None:
    tags = Tags("yuv420p10le", BT2020, gamut=WIDE)
    path = shutil.copy(tags.write(tmp_path / "plain.mkv", COLOURS / 255), tmp_path / "odd.mkv")
    # Matroska keeps the matrix as element 55B1, of one byte.
    Path(path).write_bytes(Path(path).read_bytes().replace(b"\x55\xb1\x81\x09", b"\x55\xb1\x81\x0a"))

    with pytest.raises(MediaError, match=r"odd\.mkv uses colour matrix 10 of ITU-T H\.273"):
        scan_video(Path(path), find_cuts=False)
