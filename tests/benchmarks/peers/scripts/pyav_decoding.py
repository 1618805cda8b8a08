"""Decoding with PyAV as the examples of Ray and Daft do it; alone, it says what it costs beside nothing else.

    python pyav_decoding.py MANIFEST

Prints the core-seconds of one process for all files of the manifest. Runs in a contestant's environment, so
it imports nothing of this project.
"""

import io
import json
import sys
import time
from pathlib import Path

import av
import numpy as np

RATE = 16_000


def decoded(data: bytes) -> np.ndarray:
    """int16 mono samples at 16 kHz of a file's bytes."""
    resampler, parts = av.AudioResampler("s16", "mono", RATE), []
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
        parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
    return np.concatenate(parts)


if __name__ == "__main__":
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    decoded(Path(rows[0]["audio"]).read_bytes())  # loads what is loaded once
    started = time.process_time()
    for row in rows:
        decoded(Path(row["audio"]).read_bytes())
    print(json.dumps({"cpu": time.process_time() - started}))
