"""Our own decoding alone in one process: the counterpart of `pyav_decoding.py`.

python -m tests.benchmarks.peers.scripts.our_decoding MANIFEST
"""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from actors.audio.probing import probe
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard

SHARD_SECONDS = 600.0


def decode(address: str, duration: float) -> None:
    """Decode a recording in its shards."""
    count = max(1, math.ceil(duration / SHARD_SECONDS))
    for index in range(count):
        end = None if index == count - 1 else (index + 1) * duration / count
        row: dict[str, Any] = {"audio": address, "recording_id": address, "start": index * duration / count}
        row |= {"end": end, "duration": duration, "channel": None, "etag": None}
        decode_shard(row, AudioConfig(), SegmenterConfig())


def main() -> None:
    """Print the core-seconds for all files of the manifest. A plan has read their headers before."""
    addresses = [json.loads(line)["audio"] for line in Path(sys.argv[1]).read_text().splitlines()]
    durations = [probe(address).duration or 0.0 for address in addresses]
    decode(addresses[0], durations[0])
    started = time.process_time()
    for address, duration in zip(addresses, durations, strict=True):
        decode(address, duration)
    print(json.dumps({"cpu": time.process_time() - started}))


if __name__ == "__main__":
    main()
