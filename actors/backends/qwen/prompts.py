"""The strings that the models read, character for character as in the official chat template (audio placeholder not yet expanded).

The system turn is always there, empty without context. A forced language is prefilled after the assistant header. The aligner's
input has no chat tokens at all: in front of the audio they shift every stamp by 92 ms (vllm-omni pull request 7240).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

AUDIO = "<|audio_start|><|audio_pad|><|audio_end|>"
TIMESTAMP = "<timestamp>"
# What the tokenizer reads as control: chat and audio tokens, and the two that have a meaning in our prompts.
_CONTROL_TOKEN = re.compile(
    r"<(\|[^<>|\s]{1,40}\||asr_text|timestamp|/?tool_call|/?tool_response|/?think|tts_[a-z_]{1,30})>"
)


def asr_prompt(context: str | None, language_name: str | None) -> str:
    """The recogniser's prompt, with `<|audio_pad|>` once.

    Args:
        context: background text for the system turn, put in as it is: pass it through `clean_context` first.
        language_name: English name of the language to force; None lets the model decide.
    """
    prefill = f"language {language_name}<asr_text>" if language_name else ""
    return f"<|im_start|>system\n{context or ''}<|im_end|>\n<|im_start|>user\n{AUDIO}<|im_end|>\n<|im_start|>assistant\n{prefill}"


def aligner_prompt(units: Iterable[str]) -> str:
    """The aligner's input: the audio, then each unit with a slot for its start and one for its end."""
    slots = TIMESTAMP + TIMESTAMP
    return (
        AUDIO + slots.join(units) + slots
    )  # without units there is one pair all the same, as in the reference


def clean_context(context: str | None) -> str:
    """Background text without anything that the tokenizer would read as control, so that no manifest can end the system turn.

    `<|im_end|>` becomes `< im_end >`; the reference passes it through. Everything else stays as it is.
    """
    return _CONTROL_TOKEN.sub(lambda match: f"< {match.group(1).strip('|')} >", context or "")
