"""The text of the fake recogniser in a batch run, which the server's text must equal."""

import numpy as np

from actors.asr import ASRActor
from actors.config import ASRConfig


def fake_text(samples: np.ndarray) -> str:
    """The text of one segment: int16 at 16 kHz, shape (samples,)."""
    row = {
        "status": "ok",
        "language": None,
        "context": "",
        "segments": [{"start": 0.0, "samples": samples.tobytes()}],
    }
    return str(ASRActor(ASRConfig(backend="fake", model="fake"))([row])[0]["segments"][0]["text"])
