"""The page that shows the data: whole, self-contained, and safe whatever files are called."""

import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ltx_trainer.artifacts import (
    Clip,
    Finding,
    FindingKind,
    LeftOut,
    MediaKind,
    PictureFacts,
    Role,
    SoundFacts,
    SourceFacts,
)
from ltx_trainer.geometry import FrameSize
from ltx_trainer.report import write_page
from ltx_trainer.report.charts import histogram, ranked, wave_outline
from ltx_trainer.report.dataset_page import CLIPS_OF_A_GROUP, LONG_CAPTION, MOST_PICTURES, render_page
from ltx_trainer.survey import Advice, AdviceKind, Glance, Glimpse, LookAlikes, Overlap, Survey, SurveyedClip, Waveform

NASTY = "<script>alert('a')</script> & \"größe\" 猫"
EMPTY = {"meta", "img"}


class Page(HTMLParser):
    """What a browser would find in a page; a tag that is not closed is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def seen(each: SurveyedClip, *jpegs: bytes, peaks: tuple[int, ...] = (0, 5000, 10000)) -> SurveyedClip:
    """Add what a look at a clip tells."""
    facts = SourceFacts(
        PictureFacts(FrameSize(1920, 1080), 300, Fraction(1001, 100)), SoundFacts(44100, 1, Fraction(10), -23.0, 0.5)
    )
    glance = Glance(jpegs or (b"1", b"2", b"3"), (), 0.25, 0.5, 0.125)
    return replace(
        each, sources={"0" * 64: facts}, glimpse=Glimpse({Role.TARGET: glance}, {Role.TARGET: Waveform(peaks)})
    )


@pytest.fixture
def survey(make_clip: Callable[..., Clip], make_survey: Callable[..., Survey]) -> Survey:
    """Three clips, of which one has nasty names and one could not be looked at."""
    bare = make_survey(make_clip("a", "a ball"), make_clip(NASTY, NASTY * 9), make_clip("c", ""))
    one, nasty, damaged = bare.clips
    return replace(
        bare,
        clips=(seen(one), seen(nasty, b"4", b"5", b"6"), replace(damaged, glimpse=Glimpse(problem="c.mp4 is gone."))),
        left_out=(LeftOut(NASTY, f"is {NASTY}."),),
        findings=(Finding(FindingKind.CLIPPED, NASTY, f"{NASTY} has clipped sound.", {}),),
        look_alikes=(LookAlikes(("a", NASTY), 1.5, same_bytes=False),),
        overlaps=(Overlap(1, Role.START, NASTY, ("a",), same_bytes=False),),
        advice=(Advice(AdviceKind.ENLARGED, f"Soft is {NASTY}.", ("a", NASTY)),),
        conditions=({"condition": "first frame", "share": 0.5},),
    )


def test_the_page_asks_nothing_of_any_network_and_runs_nothing(survey: Survey) -> None:
    text = render_page(survey)
    page = Page(text)

    policy = next(each["content"] for each in page.all("meta") if "http-equiv" in each)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert not re.search(r"https?:|url\(|@import", text)
    assert not page.all("script") + page.all("link") + page.all("iframe") + page.all("object")
    assert all((each["src"] or "").startswith("data:image/jpeg;base64,") for each in page.all("img"))
    assert all((each["href"] or "").startswith("#") for each in page.all("a"))


def test_every_name_and_caption_is_text(survey: Survey) -> None:
    page = Page(render_page(survey))

    assert page.text.count(NASTY) > 9 + 5
    assert f"{NASTY}: dataset" not in page.text


def test_every_link_leads_to_a_part_of_the_page(survey: Survey) -> None:
    page = Page(render_page(survey))
    anchors = [each["id"] for _, each in page.tags if "id" in each]

    assert max(Counter(anchors).values()) == 1
    assert {(each["href"] or "")[1:] for each in page.all("a")} <= set(anchors)


def test_a_clip_shows_its_frames_its_sound_and_its_numbers_before_and_after(survey: Survey) -> None:
    page = Page(render_page(replace(survey, clips=survey.clips[:1], look_alikes=())))

    frames = [b64decode((each["src"] or "").partition(",")[2]) for each in page.all("img")]
    assert frames == [b"1", b"2", b"3"]
    assert [each["alt"] for each in page.all("img")] == ["first frame", "middle frame", "last frame"]
    assert page.all("path") == [{"d": "M0 19.5L1 0.0L2 0.0L2 40.0L1 40.0L0 20.5Z"}], "a gain of 2 fills the height"
    assert "0.25 to 0.75 s of 10.01 s" in page.text
    assert "1920x1080 → 96x64, 12 % cut off" in page.text
    assert "29.97 → 24 fps, 17 frames" in page.text
    assert "25 % of the picture, 50 % of what moves is cut off" in page.text
    assert "44.1 kHz mono → 16 kHz stereo" in page.text
    assert "+6.0 dB, -23.0 → -17.0 LUFS" in page.text


def test_a_clip_that_could_not_be_looked_at_says_why(survey: Survey) -> None:
    page = Page(render_page(survey))

    assert "c.mp4 is gone." in page.text
    assert "no caption" in page.text


def test_what_is_left_out_found_alike_and_advised_is_shown(survey: Survey) -> None:
    text = Page(render_page(survey)).text

    assert f"is {NASTY}." in text
    assert f"{NASTY} has clipped sound." in text
    assert f"Soft is {NASTY}." in text
    assert f"item 2: {NASTY} (start) nearly the same as a" in text
    assert "Near-duplicates 1 group" in text
    assert "given: first frame, share 0.5" in text


def test_a_span_is_told_from_the_first_frame_of_its_file_on(survey: Survey) -> None:
    first = survey.clips[0]
    (facts,) = first.sources.values()
    assert facts.pictures is not None
    late = replace(facts, pictures=replace(facts.pictures, start_seconds=Fraction(1, 4)))

    page = Page(render_page(replace(survey, clips=(replace(first, sources={"0" * 64: late}),), look_alikes=())))

    assert "0.25 to 0.75 s of 10.01 s" in Page(render_page(replace(survey, clips=(first,), look_alikes=()))).text
    assert "0.00 to 0.50 s of 10.01 s" in page.text


def test_sections_without_content_are_not_there(make_survey: Callable[..., Survey], make_clip: Callable) -> None:
    page = Page(render_page(make_survey(make_clip("a", "a ball", gain=None))))

    assert "Nothing in the data speaks against training on it." in page.text
    assert {each["id"] for each in page.all("h2")} == {"advice", "files", "clips"}


def test_sound_alone_and_stills_have_cards_too(survey: Survey) -> None:
    first = survey.clips[0]
    sound = replace(first, clip=replace(first.clip, footage={}), glimpse=Glimpse({}, first.glimpse.sound))
    footage = first.clip.footage[Role.TARGET]
    image = replace(footage, source=replace(footage.source, kind=MediaKind.IMAGE))
    alone = replace(first.clip, footage={Role.TARGET: image}, soundtrack={})
    still = replace(first, clip=alone, glimpse=Glimpse(first.glimpse.pictures))

    of_sound, of_still = (Page(render_page(replace(survey, clips=(each,), look_alikes=()))) for each in (sound, still))

    assert not of_sound.all("img")
    assert "0.25 to 0.75 s of 10.00 s" in of_sound.text
    assert len(of_still.all("img")) == 3
    assert "span" not in of_still.text


def test_many_clips_are_folded_and_few_pictures_of_a_group_are_shown(survey: Survey) -> None:
    first = survey.clips[0]
    names = [f"clip {index:03d}" for index in range(3 * CLIPS_OF_A_GROUP)]
    clips = tuple(replace(first, clip=replace(first.clip, name=name)) for name in names)
    pairs = tuple(LookAlikes((names[0], name), 0.0, same_bytes=True) for name in names[1:20])

    page = Page(render_page(replace(survey, clips=clips, look_alikes=pairs)))

    groups = [each for each in page.all("details") if each.get("class") == "group"]
    assert ["open" in each for each in groups] == [True, False, False]
    assert len(page.all("article")) == len(names)
    assert len(page.all("img")) == 3 * len(names) + MOST_PICTURES
    assert all((each["loading"], each["decoding"]) == ("lazy", "async") for each in page.all("img"))


def test_a_long_caption_is_folded(survey: Survey) -> None:
    first = survey.clips[0]
    caption = "x" * (LONG_CAPTION + 1)

    page = Page(render_page(replace(survey, clips=(replace(first, clip=replace(first.clip, caption=caption)),))))

    assert f"{caption[:-1]}… {caption}" in page.text


def test_a_survey_has_one_page_of_equal_bytes_even_of_names_that_are_no_text(tmp_path: Path, survey: Survey) -> None:
    odd = replace(survey, left_out=(LeftOut("a\udcff", "is empty."),))

    path = write_page(tmp_path, odd)

    assert path == tmp_path / "dataset.html"
    assert "a\\udcff" in path.read_text("utf-8")
    assert write_page(tmp_path / "again", odd).read_bytes() == path.read_bytes()


def test_a_histogram_counts_every_value_once_in_bars_of_a_round_width() -> None:
    chart = histogram("x", [0.0, 4.9, 5.0, 57.0, 60.0], "s")

    assert chart is not None
    assert [(bar.label, bar.count) for bar in chart.bars if bar.count] == [
        ("0 to 5 s", 2),
        ("5 to 10 s", 1),
        ("55 to 60 s", 1),
        ("60 to 65 s", 1),
    ]
    assert (chart.first, chart.last, chart.bars[0].share) == ("0 s", "65 s", 1.0)
    assert histogram("x", [], "s") is None


@pytest.mark.parametrize("values", [[-23.0], [-40.1, -12.3], [0.3, 0.1, 0.2], [1e-9, 7200.0]])
def test_a_histogram_of_any_values_is_small_and_whole(values: list[float]) -> None:
    chart = histogram("x", values, "s")

    assert chart is not None
    assert sum(bar.count for bar in chart.bars) == len(values)
    assert len(chart.bars) <= 14


def test_names_are_ranked_and_the_rest_is_summed() -> None:
    chart = ranked("x", ["b", "a", "a", *(f"c{index}" for index in range(14))])

    assert chart is not None
    assert [(bar.label, bar.count) for bar in chart.bars[:2]] == [("a", 2), ("b", 1)]
    assert (chart.bars[-1].label, chart.bars[-1].count, len(chart.bars)) == ("4 others", 4, 13)


def test_a_wave_that_is_too_loud_stays_in_its_drawing() -> None:
    assert wave_outline(Waveform((10000,)), 8.0) == "M0 0.0L0 40.0Z"
