"""Cues follow the rules of their profile, whatever is said, and have all of the text."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import srt

from pipelines.subtitles.cues import Cue, cues, violations
from pipelines.subtitles.profiles import PROFILES, Profile, profile_of
from pipelines.subtitles.rendering import srt as srt_text
from pipelines.subtitles.text_width import cells
from tests.pipelines.subtitles.random_transcripts import random_segments

NETFLIX = PROFILES["netflix"]


def spoken(
    text: str, start: float = 0.0, step: float = 0.35, language: str = "en", **columns: Any
) -> dict[str, Any]:
    """A segment with a word every `step` seconds; `|` in the text is a pause of a second."""
    words: list[dict[str, Any]] = []
    plain, time = "", start
    for word in re.findall(r"\S+", text):
        if word == "|":
            time += 1.0
            continue
        plain += " " if plain else ""
        place = len(plain)
        plain += word
        words.append(
            {
                "text": word.strip(".,"),
                "start": time,
                "end": time + 0.9 * step,
                "char_start": place,
                "char_end": len(plain),
                "speaker": columns.get("speaker"),
                "confidence": 0.9,
            }
        )
        time += step
    return {
        "start": start,
        "end": time,
        "text": plain,
        "words": words,
        "language": language,
        "flags": [],
        **columns,
    }


def broken_rules(text: str, profile: Profile, wide: bool) -> list[str]:
    """The rules that a file breaks, read back and measured without our own code for cues."""
    found = []
    read = list(srt.parse(text, ignore_errors=False))
    for cue in read:
        seconds = (cue.end - cue.start).total_seconds()
        lines = cue.content.split("\n")
        limit = 32 if wide else profile.limits.line_chars
        found += ["lines"] * (len(lines) > 2)
        found += ["width"] * any(cells(line) > limit for line in lines)
        found += ["short"] * (seconds < profile.min_seconds - 1e-6)
        found += ["long"] * (seconds > profile.max_seconds + 1e-6)
    for before, after in pairwise(read):
        gap = (after.start - before.end).total_seconds()
        found += ["gap"] * (gap < profile.gap_frames / profile.frames_per_second - 1e-6)
    return found


@pytest.mark.parametrize("name", PROFILES)
def test_no_cue_breaks_a_rule_whatever_is_said(name: str) -> None:
    profile = PROFILES[name]
    for seed in range(30):
        segments = random_segments(seed)
        made = cues(segments, profile, duration=max((part["end"] for part in segments), default=0.0))
        assert not violations(made, profile), seed
        languages = {part["language"] for part in segments}
        # Thai lines are shorter, lines of mixed languages differ.
        if len(languages) == 1 and "th" not in languages:
            wide = bool(languages & {"zh", "ja", "ko"})
            assert not broken_rules(srt_text(made), profile, wide), seed
        shown = "".join(line.text[2 * line.hyphen :] for cue in made for line in cue.lines)
        said = "".join(part["text"] for part in segments)
        assert sorted("".join(shown.split())) == sorted("".join(said.split())), seed


@pytest.mark.slow
@pytest.mark.parametrize("name", PROFILES)
def test_no_cue_of_many_thousand_breaks_a_rule(name: str) -> None:
    count = 0
    for seed in range(1000, 3000):
        made = cues(random_segments(seed), PROFILES[name])
        assert not violations(made, PROFILES[name]), seed
        count += len(made)
    assert count > 10_000


def test_cues_end_at_sentences_and_clauses() -> None:
    text = (
        "The committee met on Tuesday morning, and after a long discussion about the budget, it decided to "
        "postpone the vote until next week. Nobody was surprised about that at all in the end."
    )
    made = cues([spoken(text, step=0.4)])
    assert all(cue.text[-1] in ",." for cue in made)


def test_lines_are_balanced_and_do_not_end_with_an_article() -> None:
    (cue,) = cues([spoken("we saw the house of the old man and the big tree in his garden")])
    top, bottom = cue.text.split("\n")
    assert abs(len(top) - len(bottom)) < 12
    assert top.split()[-1] not in ("the", "of", "and", "his")


def test_a_text_that_fits_on_one_line_is_on_one_line() -> None:
    assert [cue.text for cue in cues([spoken("this is short enough for a line")])] == [
        "this is short enough for a line"
    ]


def test_no_word_is_left_alone() -> None:
    for count in range(14, 60):
        made = cues([spoken(" ".join(["word"] * count))])
        assert all(len(cue.text.split()) > 1 for cue in made), count


def test_a_long_pause_ends_a_cue() -> None:
    made = cues([spoken("before it we speak | | | | and behind it too")])
    assert [cue.text for cue in made] == ["before it we speak", "and behind it too"]


def test_a_cue_stays_for_readers_where_there_is_a_pause() -> None:
    fast = spoken("extraordinarily complicated terminology everywhere | | | then more is said", step=0.2)
    first = cues([fast])[0]
    seconds = (first.end - first.start) / 1000
    assert len(first.text.replace("\n", " ")) / seconds <= 17.001
    assert not first.too_fast


def test_text_that_is_said_too_fast_is_all_shown_and_counted() -> None:
    made = cues([spoken(" ".join(["extraordinarily"] * 40), step=0.15)])
    # The last one stays as long as it needs.
    assert [cue.too_fast for cue in made] == [True] * (len(made) - 1) + [False]
    assert sum(len(cue.text.split()) for cue in made) == 40


def test_short_turns_of_two_speakers_share_a_cue() -> None:
    made = cues(
        [spoken("Are you coming?", speaker="S1", step=0.2), spoken("Yes.", 0.7, speaker="S2", step=0.2)]
    )
    assert [cue.text for cue in made] == ["- Are you coming?\n- Yes."]


def test_turns_do_not_share_a_cue_where_the_profile_forbids_it() -> None:
    profile = profile_of("netflix", {"dual_speakers": False})
    made = cues(
        [spoken("Are you coming?", speaker="S1", step=0.2), spoken("Yes.", 0.7, speaker="S2", step=0.2)],
        profile,
    )
    assert [cue.text for cue in made] == ["Are you coming?", "Yes."]
    assert not violations(made, profile)


def test_turns_begin_with_names_where_the_profile_wants_labels() -> None:
    profile = profile_of("netflix", {"speaker_labels": True})
    made = cues([spoken("Are you coming with us?", speaker="S1")], profile, {"S1": "Ada"})
    assert made[0].text == "Ada: Are you coming with us?"


def test_chinese_lines_have_16_characters_and_break_between_phrases() -> None:
    text = "今天下午我们将在北京参加一个非常重要的国际会议，讨论明年的预算问题。"
    part = {"start": 0, "end": 9, "text": text, "words": [], "language": "zh", "flags": [], "confidence": 1}
    made = cues([part])
    lines = [line for cue in made for line in cue.text.split("\n")]
    assert max(map(len, lines)) <= 16
    assert all(line[0] not in "，。" for line in lines)
    assert "".join(lines) == text


def test_thai_breaks_between_phrases() -> None:
    text = "สวัสดีครับวันนี้อากาศดีมากเราไปเดินเล่นกันเถอะแล้วกลับบ้านด้วยกัน"
    part = {"start": 0, "end": 6, "text": text, "words": [], "language": "th", "flags": [], "confidence": 1}
    lines = [line for cue in cues([part]) for line in cue.text.split("\n")]
    assert max(map(cells, lines)) <= 35
    assert "".join(lines) == text


def test_the_last_cue_ends_with_the_recording() -> None:
    segment = spoken("at the very end", 5.0)
    made = cues([segment], duration=segment["end"])
    assert made[-1].end <= round(segment["end"] * 1000)


def test_words_without_times_lie_between_their_neighbours() -> None:
    segment = spoken(
        "one two three four five six seven eight nine ten eleven twelve thirteen fourteen", step=0.5
    )
    for word in segment["words"][3:9]:
        word["start"] = word["end"] = None
    made = cues([segment])
    starts = [word.start for cue in made for line in cue.lines for word in line.words]
    assert starts == sorted(starts)
    assert len(set(starts)) > 12


def test_a_cue_of_two_segments_has_a_space_where_the_script_has_one() -> None:
    (cue,) = cues([spoken("One", step=0.5), spoken("two.", 0.6, step=0.5)])
    assert cue.text == "One two."
    chinese = [spoken(text, start, language="zh") for text, start in (("今天下午", 0), ("我们开会。", 1))]
    assert [cue.text for cue in cues(chinese)] == ["今天下午我们开会。"]


def test_a_transcript_without_text_has_no_cues() -> None:
    assert cues([]) == []
    assert cues([{**spoken("x"), "text": " ", "words": []}]) == []


def test_broken_rules_are_counted() -> None:
    (cue,) = cues([spoken("a few words only")])
    short = Cue(cue.start, cue.start + 100, cue.lines, cue.language, cue.segments, cue.limits)
    assert violations([short, cue], NETFLIX) == {"min_duration": 1, "overlap": 1, "reading_speed": 1}
