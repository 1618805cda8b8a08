"""Guards of a segment's text: one flag for each kind of fault."""

from __future__ import annotations

from actors.config.trust import GuardsConfig
from actors.guards.evidence import TextEvidence

# Flags of a text that is probably wrong: each calls for a repair.
SUSPECT_TEXT_FLAGS: frozenset[str] = frozenset(
    {
        # From the parser and the backends.
        "truncated",
        "loop_collapsed",
        "repetitive",
        "unreliable",
        "unknown_language",
        "language_not_forced",
        "language_none_with_text",
        # From the guards.
        "too_much_text",
        "too_little_text",
        "text_without_speech",
        "context_leaked",
        "language_doubtful",
        "language_not_allowed",
        "low_confidence",
        "text_unlike_audio",
    }
)
DEFAULTS = GuardsConfig()


def text_flags(evidence: TextEvidence, limits: GuardsConfig = DEFAULTS) -> tuple[str, ...]:
    """The flags that the guards give to a segment's text, beyond those that it has.

    Args:
        evidence: what is known about it.
        limits: the settings.
    """
    return ()
