"""Bare ffmpeg: each file to 16 kHz mono samples and to nowhere, one command a file, two at a time.

    python ffmpeg_files.py MANIFEST OUT

Writes the ids of files that were decoded to OUT/done. Standard library only: it runs in any environment.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

COMMANDS_AT_A_TIME = 2


def decode(row: dict) -> str | None:
    """Decode a file; its id, or None where ffmpeg reports an error."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", row["audio"]]
    command += ["-vn", "-ac", "1", "-ar", "16000", "-f", "s16le", "-y", "/dev/null"]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return None if done.returncode else row["id"]


manifest, out = sys.argv[1:]
rows = [json.loads(line) for line in Path(manifest).read_text().splitlines()]
Path(out).mkdir(parents=True)
with ThreadPoolExecutor(COMMANDS_AT_A_TIME) as pool, open(Path(out) / "done", "w") as file:
    for name in pool.map(decode, rows):
        if name is not None:
            print(name, file=file, flush=True)
