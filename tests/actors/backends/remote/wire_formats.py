"""WAV files, forms and log-probabilities, as the servers of these tests read and write them."""

from __future__ import annotations

import io
import itertools
import math
import wave
from typing import Any

import numpy as np

from actors.records import Hypothesis

TAG = "<asr_text>"


def wav_samples(data: bytes) -> np.ndarray:
    """The samples of a mono WAV file, int16, 16 kHz, shape (samples,)."""
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def form_fields(content_type: str, body: bytes) -> dict[str, bytes]:
    """The fields of a multipart form by name."""
    boundary = b"--" + content_type.partition("boundary=")[2].encode()
    parts = {}
    for part in body.split(boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        parts[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value.removesuffix(b"\r\n")
    return parts


def token_logprobs(raw: str, hypothesis: Hypothesis) -> list[dict[str, Any]]:
    """As many tokens as the engine counts.

    Those of the text have the confidence as their probability; those of the tag and of the end have others.
    """
    head, tag, text = raw.rpartition(TAG)
    tag_tokens = min(3, hypothesis.tokens - bool(text)) if tag else 0
    tokens = [
        [],
        [(head + TAG, -0.01)],
        [(head, -0.01), (TAG, -0.02)],
        [(head, -0.01), ("<asr", -0.02), ("_text>", -0.03)],
    ][max(0, tag_tokens)]
    score = math.log(hypothesis.confidence) if hypothesis.confidence else 0.0
    count = hypothesis.tokens - len(tokens)
    borders = [round(len(text) * number / count) for number in range(count + 1)] if count else []
    tokens = [
        *tokens,
        *[(text[start:end], score) for start, end in itertools.pairwise(borders)],
        ("<|im_end|>", -7.0),
    ]
    return [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in tokens]
