"""Guards of a segment's word times: one flag for each kind of fault."""

from __future__ import annotations

from actors.config.trust import GuardsConfig
from actors.guards.evidence import WordEvidence

# Flags of word times that are probably wrong: each calls for a repair. `speech_without_words` is about the
# text: it misses what is said.
SUSPECT_WORD_FLAGS: frozenset[str] = frozenset(
    {
        "zero_length_run",
        "words_piled_up",
        "words_in_silence",
        "many_times_repaired",
        "speech_without_words",
    }
)
DEFAULTS = GuardsConfig()


def word_flags(evidence: WordEvidence, limits: GuardsConfig = DEFAULTS) -> tuple[str, ...]:
    """The flags that the guards give to a segment's words, beyond those that it has.

    Args:
        evidence: what is known about them.
        limits: the settings.
    """
    return ()
