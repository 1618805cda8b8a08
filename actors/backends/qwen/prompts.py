"""Prompts of the models, character for character as in the official chat template, before audio is expanded.

The system turn is always present, empty without context. A forced language is prefilled after the assistant
header. The aligner's input has no chat tokens: before the audio they shift every time by 92 ms (vllm-omni
pull request 7240).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

AUDIO = "<|audio_start|><|audio_pad|><|audio_end|>"
TIMESTAMP = "<timestamp>"
# Control tokens of the tokenizer: chat and audio tokens, and the two that have a meaning in our prompts.
_CONTROL_TOKEN = re.compile(
    r"<(\|[^<>|\s]{1,40}\||asr_text|timestamp|/?tool_call|/?tool_response|/?think|tts_[a-z_]{1,30})>"
)


def asr_prompt(context: str | None, language_name: str | None) -> str:
    """The recogniser's prompt, with `<|audio_pad|>` once.

    Args:
        context: background text for the system turn, inserted unchanged: pass it through `clean_context`
            first.
        language_name: English name of the language to force; None: the model decides.
    """
    prefill = f"language {language_name}<asr_text>" if language_name else ""
    system = f"<|im_start|>system\n{context or ''}<|im_end|>\n"
    return f"{system}<|im_start|>user\n{AUDIO}<|im_end|>\n<|im_start|>assistant\n{prefill}"


def aligner_prompt(units: Iterable[str]) -> str:
    """The aligner's input: the audio, then each unit with a slot for its start and one for its end."""
    slots = TIMESTAMP + TIMESTAMP
    # Without units there is still one pair of slots, as in the reference.
    return AUDIO + slots.join(units) + slots


def clean_context(context: str | None) -> str:
    """Background text without control tokens, so that a manifest cannot end the system turn.

    `<|im_end|>` becomes `< im_end >`; the reference passes it through. All other text is unchanged.
    """
    return _CONTROL_TOKEN.sub(lambda match: f"< {match.group(1).strip('|')} >", context or "")
