"""Profiles: the published figures, files with rules of one's own, and messages about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.errors import UsageError
from pipelines.export.arguments import PROFILE_NAMES
from pipelines.subtitles.profiles import PROFILES, profile_of


def test_netflix_has_the_figures_of_its_guide() -> None:
    profile = PROFILES["netflix"]
    assert (profile.lines, profile.limits.line_chars, profile.limits.chars_per_second) == (2, 42, 17)
    assert (profile.shortest, profile.longest, profile.gap) == (834, 7000, 84)
    assert profile.limits_of("zh").line_cells == 32
    assert profile.limits_of("th").line_chars == 35
    assert profile.limits_of(None) is profile.limits


def test_the_help_names_the_profiles() -> None:
    assert set(PROFILE_NAMES) == set(PROFILES)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "base: bbc\nmax_seconds: 5\nlimits: {line_chars: 30}\nlanguages: {de: {line_chars: 50}}\n"
    )
    profile = profile_of(str(path))
    assert (profile.max_seconds, profile.limits.line_chars, profile.words_per_minute) == (5, 30, 180)
    assert profile.limits_of("de").line_chars == 50
    assert profile.limits_of("zh").full_width


def test_overrides_hold_for_all_languages() -> None:
    profile = profile_of("netflix", {"line_chars": 20, "chars_per_second": 10.0, "speaker_labels": True})
    assert {limits.line_chars for limits in (profile.limits, *profile.languages.values())} == {20}
    assert profile.speaker_labels


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lines: 9\n", "lines"),
        ("base: hbo\n", "base must be one of"),
        ("languages: {xx: {line_chars: 40}}\n", "unknown codes: xx"),
        ("min_seconds: 4\nmax_seconds: 2\n", "min_seconds is longer"),
        ("colour: red\n", "colour"),
    ],
)
def test_wrong_files_are_refused_with_the_reason(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(UsageError, match=message):
        profile_of(str(path))


def test_an_unknown_profile_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError, match="netflix, bbc, youtube"):
        profile_of("hbo")
