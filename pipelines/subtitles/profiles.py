"""The rules that subtitles must follow, as broadcasters publish them.

Sources: Netflix, Timed Text Style Guide (general requirements, timing guidelines, and the guides of the
languages); BBC, Subtitle Guidelines (sections 3 and 4). YouTube publishes no figures: its player draws
imported captions on the grid of CEA-608, which has 32 columns.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from actors.config.base import Settings
from actors.errors import UsageError
from actors.text.languages import CODES
from pipelines.config_files import explain, read_yaml


class Limits(Settings):
    """How much text a cue may have in one language."""

    line_chars: int = Field(42, ge=8, le=200, description="characters of a line")
    chars_per_second: float = Field(17, gt=0, le=200, description="reading speed, spaces included")
    full_width: bool = Field(
        False,
        description="whether the limits count full-width characters: Latin letters, digits and spaces then "
        "count a half",
    )

    @property
    def line_cells(self) -> int:
        """Width of a line in cells of a terminal: a full-width character has two, a Latin letter one."""
        return self.line_chars * (2 if self.full_width else 1)

    @property
    def cells_per_second(self) -> float:
        """The reading speed in the same cells."""
        return self.chars_per_second * (2 if self.full_width else 1)


class Profile(Settings):
    """The rules of one broadcaster."""

    lines: int = Field(2, ge=1, le=4, description="lines of a cue")
    min_seconds: float = Field(5 / 6, gt=0, le=5, description="shortest cue")
    max_seconds: float = Field(7, gt=0, le=60, description="longest cue")
    frames_per_second: float = Field(24, gt=0, le=240, description="of the video")
    gap_frames: int = Field(2, ge=0, le=100, description="frames between two cues")
    chain_seconds: float = Field(
        0.5,
        ge=0,
        le=5,
        description="a shorter gap is closed, down to `gap_frames`: text that flickers disturbs",
    )
    linger_seconds: float = Field(
        0.5, ge=0, le=5, description="how long a cue stays after its last word, where nothing follows"
    )
    words_per_minute: float | None = Field(
        None, gt=0, description="reading speed in words, for languages with spaces; null: characters only"
    )
    limits: Limits = Field(default_factory=Limits, description="of all languages without limits of their own")
    languages: dict[str, Limits] = Field({}, description="limits by ISO code")
    dual_speakers: bool = Field(
        True, description="whether two short turns may share a cue, each on a line of its own with a hyphen"
    )
    speaker_labels: bool = Field(False, description="whether each turn begins with the speaker's name")

    def limits_of(self, language: str | None) -> Limits:
        """The limits of a language by its ISO code."""
        return self.languages.get(language or "", self.limits)

    @property
    def gap(self) -> int:
        """Milliseconds between two cues."""
        return math.ceil(1000 * self.gap_frames / self.frames_per_second)

    @property
    def shortest(self) -> int:
        """Milliseconds of the shortest cue."""
        return math.ceil(1000 * self.min_seconds)

    @property
    def longest(self) -> int:
        """Milliseconds of the longest cue."""
        return max(self.shortest, math.floor(1000 * self.max_seconds))


def _full_width(line_chars: int, chars_per_second: float) -> Limits:
    return Limits(line_chars=line_chars, chars_per_second=chars_per_second, full_width=True)


# Netflix's guides of the languages. Japanese: the figures for subtitles in the language of the sound; those
# of translations (13 characters, 4 a second) are slower than anyone speaks.
_EAST_ASIAN = {
    "zh": _full_width(16, 9),
    "yue": _full_width(16, 9),
    "ja": _full_width(16, 7),
    "ko": _full_width(16, 12),
}
PROFILES: dict[str, Profile] = {
    "netflix": Profile(languages={**_EAST_ASIAN, "th": Limits(line_chars=35)}),
    # 160 to 180 words a minute, lines of teletext, and no gap of less than a second.
    "bbc": Profile(
        frames_per_second=25,
        min_seconds=1.0,
        chain_seconds=1.0,
        linger_seconds=1.0,
        words_per_minute=180,
        limits=Limits(line_chars=37),
        languages={**_EAST_ASIAN, "th": Limits(line_chars=35)},
    ),
    "youtube": Profile(
        frames_per_second=30,
        min_seconds=1.0,
        limits=Limits(line_chars=32, chars_per_second=20),
        languages=_EAST_ASIAN,
    ),
}
DEFAULT_PROFILE = "netflix"


def profile_of(name: str | None = None, overrides: Mapping[str, Any] | None = None) -> Profile:
    """A profile by its name, or from a YAML file.

    Args:
        name: one of PROFILES; the address of a YAML file with fields of `Profile`, which start from those of
            its field `base` (netflix by default); None: DEFAULT_PROFILE.
        overrides: fields by name that replace those of the profile; `line_chars` and `chars_per_second`
            replace those of all languages.

    Raises:
        UsageError: there is no such profile or file, or a field is wrong.
    """
    name = name or DEFAULT_PROFILE
    if name in PROFILES:
        fields = PROFILES[name].model_dump()
    elif name.lower().endswith((".yaml", ".yml", ".json")):
        given = dict(read_yaml(name))
        base = given.pop("base", DEFAULT_PROFILE)
        if base not in PROFILES:
            raise UsageError(f"{name}: base must be one of {', '.join(PROFILES)}, not {base!r}")
        fields = _merge(PROFILES[base].model_dump(), given)
    else:
        raise UsageError(
            f"there is no subtitle profile {name!r}: give one of {', '.join(PROFILES)}, or a .yaml file"
        )
    for key, value in (overrides or {}).items():
        if key in Limits.model_fields:
            for limits in (fields["limits"], *fields["languages"].values()):
                limits[key] = value
        else:
            fields[key] = value
    try:
        profile = Profile.model_validate(fields)
    except ValidationError as error:
        raise UsageError(explain(error, name)) from None
    unknown = sorted(set(profile.languages) - set(CODES.values()))
    if unknown:
        raise UsageError(f"{name}: languages has unknown codes: {', '.join(unknown)}")
    if profile.shortest > profile.longest or profile.min_seconds > profile.max_seconds:
        raise UsageError(f"{name}: min_seconds is longer than max_seconds")
    return profile


def _merge(base: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in given.items():
        inner = merged.get(key)
        both = isinstance(inner, dict) and isinstance(value, Mapping)
        merged[key] = _merge(inner, value) if both and inner is not None else value
    return merged
