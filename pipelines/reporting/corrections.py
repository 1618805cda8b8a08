"""What people corrected in a run, as the report and `scriptorium status` count it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pipelines.corrections import store


def of_output(out: str) -> dict[str, Any]:
    """Count the newest correction of each segment.

    Args:
        out: the output directory.

    Returns:
        `recordings` and `segments` with a correction, `changed` segments whose text is another one than the
        model's, and `by`: segments by who corrected them.
    """
    rows = [row for of_recording in store.read(out).by_recording.values() for row in of_recording]
    return {
        "recordings": len({row["recording_id"] for row in rows}),
        "segments": len(rows),
        "changed": sum(row["after"] != row["original"] for row in rows),
        "by": dict(Counter(row["who"] for row in rows).most_common()),
    }
