"""Subtitles: parsers for the formats can read them, and they have all of the text in order."""

import datetime
import io
from itertools import pairwise
from typing import Any

import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.api import subtitles


def segment(start: float, words: list[str], step: float = 0.5, language: str = "en") -> dict[str, Any]:
    """A segment with one word every `step` seconds."""
    rows, offset = [], 0
    for number, word in enumerate(words):
        word_start = start + number * step
        times = {"start": word_start, "end": word_start + 0.8 * step}
        rows.append({"text": word, **times, "char_start": offset, "char_end": offset + len(word)})
        offset += len(word) + 1
    end = start + len(words) * step
    return {"start": start, "end": end, "text": " ".join(words), "words": rows, "language": language}


def test_srt_and_webvtt_parsers_read_the_cues() -> None:
    segments = [
        segment(1.25, ["One", "two.", "Three", "&", "<four>"]),
        segment(3700, ["fin-", "-->", "end."]),
    ]
    cues = list(srt.parse(subtitles.srt(segments), ignore_errors=False))
    assert [cue.index for cue in cues] == [1, 2]
    starts = [datetime.timedelta(seconds=seconds) for seconds in (1.25, 3700)]
    assert [cue.start for cue in cues] == starts
    assert [cue.content for cue in cues] == ["One two. Three & <four>", "fin- → end."]
    read = webvtt.from_buffer(io.StringIO(subtitles.vtt(segments)))
    assert [cue.start for cue in read] == ["00:00:01.250", "01:01:40.000"]
    assert "&amp; &lt;four&gt;" in subtitles.vtt(segments)


def test_long_segments_are_cut_at_sentences_and_pauses() -> None:
    text = (
        "This is the first sentence of it all. "
        "And here comes the second one, which goes on and on for much longer than that"
    )
    words = text.split()
    made = subtitles.cues([segment(0, words, 0.3)])
    assert len(made) > 1 and made[0].text == "This is the first sentence of it all."
    assert all(len(cue.text) <= 84 and cue.end - cue.start <= 6.0 for cue in made)
    assert " ".join(cue.text for cue in made) == " ".join(words)
    pause = segment(0, ["a", "b"])
    pause["words"][1] |= {"start": 5.0, "end": 5.2}
    assert [cue.text for cue in subtitles.cues([pause])] == ["a", "b"]


def test_a_segment_without_words_is_one_cue_and_one_without_text_is_none() -> None:
    bare = {**segment(2, ["ja", "nein"]), "words": []}
    assert [(cue.start, cue.end, cue.text) for cue in subtitles.cues([bare, {**bare, "text": " "}])] == [
        (2, 3, "ja nein")
    ]
    assert subtitles.srt([]) == "" and subtitles.vtt([]) == "WEBVTT\n"


def test_no_cue_has_zero_duration() -> None:
    stuck = segment(5, ["word"] * 40, 0)
    bare = {"start": 5.0002, "end": 5.0002, "text": "another channel", "words": [], "language": "en"}
    made = subtitles.cues([stuck, bare, segment(5.05, ["next"])])
    assert [(cue.start, cue.end) for cue in made] == [(5, 5.05), (5.05, 5.45)]
    assert " ".join(made[0].text.split()) == stuck["text"] + " another channel"
    assert all(len(line) <= 84 for line in made[0].text.split("\n"))
    assert [cue.content for cue in srt.parse(subtitles.srt([stuck, bare]), ignore_errors=False)] == [
        made[0].text
    ]
    # A cue with a duration absorbs instant cues at its start.
    (made,) = subtitles.cues([segment(5, ["none"], 0), segment(5, ["some"])])
    assert (made.start, made.end, made.text) == (5, 5.4, "none\nsome")


@given(
    st.lists(
        st.tuples(
            st.floats(0, 2), st.lists(st.text("ab.\n", min_size=1, max_size=8), min_size=1, max_size=30)
        ),
        max_size=5,
    )
)
def test_no_text_is_lost_and_cues_do_not_overlap(parts: list[tuple[float, list[str]]]) -> None:
    segments, end = [], 0.0
    for gap, words in parts:
        segments.append(segment(end + gap, [word.strip() or "x" for word in words], 0.01))
        end = segments[-1]["end"]
    made = subtitles.cues(segments)
    expected = [word for part in segments for word in part["text"].split()]
    assert " ".join(cue.text for cue in made).split() == expected
    assert all(left.end <= right.start + 1e-9 for left, right in pairwise(made))
