"""Stitches the shards of a recording into its transcript or dead letter. Pure, text only, deterministic.

A recording becomes a dead letter if it has neither text nor proven silence, or if a part of it was lost to a
transient error: `retry` then does all of it again. Otherwise it becomes a transcript. A transcript is
`partial` if a part of it is missing, with a flag `lost:START-END` (seconds) for each span that was not
recognised, and `error:CODE` for the cause.
"""

from pipelines.stitching.recording import stitch, stitch_with_speakers
from pipelines.stitching.segments import join_texts

__all__ = ["join_texts", "stitch", "stitch_with_speakers"]
