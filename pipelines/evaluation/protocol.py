"""How texts are compared: normaliser, metric of each language, and presets of published protocols.

Imports nothing heavy: the command line takes its choices from here.
"""

from __future__ import annotations

from dataclasses import dataclass

# See `pipelines.evaluation.metrics.normalizers`.
NORMALIZERS = ("auto", "basic", "english", "none")

# Written without spaces between words, so that only characters can be compared.
UNSPACED = frozenset({"zh", "yue", "ja", "th"})

WER, CER = "WER", "CER"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How texts are compared."""

    normalizer: str = "auto"
    # Languages whose error rate counts characters instead of words.
    cer_languages: frozenset[str] = UNSPACED
    name: str | None = None  # of the preset

    def metric(self, language: str | None) -> str:
        """WER or CER: the unit that the error rate of a language counts.

        Args:
            language: ISO code; None: unknown, which takes WER.
        """
        return CER if language in self.cer_languages else WER


# Qwen3-ASR technical report (arXiv 2601.21337) and its README: CER for Chinese, Cantonese, Korean and the
# like, WER for all others, macro average over the languages, greedy decoding, no language forced. `auto` is
# our choice of a normaliser; "and the like" is read as the other languages without spaces.
PRESETS = {"qwen3-asr": Protocol("auto", UNSPACED | {"ko"}, "qwen3-asr")}


def protocol_of(preset: str | None, normalizer: str | None) -> Protocol:
    """The protocol of a preset, with another normaliser if one is given.

    Args:
        preset: a key of PRESETS; None: the default protocol.
        normalizer: one of NORMALIZERS; None: that of the preset.
    """
    chosen = PRESETS[preset] if preset else Protocol()
    if normalizer is None:
        return chosen
    return Protocol(normalizer, chosen.cer_languages, chosen.name)
