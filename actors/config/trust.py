"""The settings of the guards, which flag what a model probably got wrong."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from actors.config.base import Settings


class GuardsConfig(Settings):
    """Flags for what a model probably got wrong: loops, cuts, inventions, leaks, languages, times."""

    enabled: bool = Field(True, description="check texts and word times, and flag what is doubtful")
    max_compression_ratio: float = Field(
        2.4, gt=1, description="repetitive: characters of 30 s of text for each byte that zlib needs"
    )
    min_syllable_ratio: float = Field(
        0.66,
        ge=0,
        lt=1,
        description="too_little_text: fewer syllables in the text for each one that is heard; 0: off",
    )
    max_syllable_ratio: float = Field(
        2.2, gt=1, description="too_much_text: more syllables in the text for each one that is heard"
    )
    max_syllables_per_second: float = Field(
        10, gt=0, description="too_much_text: more syllables than anybody can say in a second"
    )
    min_speech_probability: float = Field(
        0.3,
        ge=0,
        le=1,
        description="text_without_speech: highest probability of speech in the segment by the VAD (extra "
        "`vad`), which is asked only in doubt; 0: off",
    )
    max_no_speech_probability: float = Field(
        0.6,
        ge=0,
        le=1,
        description="text_without_speech: `no_speech_prob` of a Whisper-type server that is doubtful",
    )
    max_context_share: float = Field(
        0.8, gt=0, le=1, description="context_leaked: share of the words that are copied from the context"
    )
    max_language_odds: float = Field(
        5,
        gt=1,
        description="language_doubtful: how many times more probable another language is by the words of "
        "the text",
    )
    min_confidence: float = Field(
        0.4, ge=0, le=1, description="low_confidence: confidence of the segment; 0: off"
    )
    max_uncovered_syllables: int = Field(
        5, ge=1, description="speech_without_words: syllables that are heard in a row where no word is"
    )
    max_repaired_share: float = Field(
        0.25, gt=0, le=1, description="many_times_repaired: share of time stamps that the aligner got wrong"
    )

    def identity(self) -> dict[str, Any]:
        """What of it determines the output; empty where it is switched off."""
        return self.model_dump(mode="json") if self.enabled else {}
