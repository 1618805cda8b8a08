"""What asking somebody else's machine comes to, counted on our side."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Cost:
    """What a backend has asked for since it was ready; requests and audio count as often as they were sent."""

    requests: int = 0
    repeated: int = 0  # of the requests
    audio_seconds: float = 0.0
    prompt_tokens: int = 0  # as far as the server tells
    completion_tokens: int = 0

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests ({self.repeated:,} of them repeated), {self.audio_seconds / 3600:.3f} h of audio sent, "
            f"{self.prompt_tokens:,} + {self.completion_tokens:,} tokens"
        )
