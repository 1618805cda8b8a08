"""Where recordings end: by their header, by their bytes, and by what was decoded."""

from __future__ import annotations

from actors.audio.decoding import Decoded, decode_span
from actors.audio.header_facts import duration_is_estimated
from actors.audio.pts import longest_believable
from actors.audio.recordings.reader import Reader
from actors.audio.windows import Window
from actors.records import SAMPLING_RATE, Row

# Seconds that a recording may last beyond its header's duration.
_MAX_BEYOND = 3600.0
# Seconds that a file may end before its header's duration: 1 % of it, within these bounds. Encoders' delays
# and coarse time stamps cause less.
_MIN_SHORT = 0.25
_MAX_SHORT = 5.0
# Samples of a frame of ALAC. FFmpeg counts the last one as whole in the index of a CAF file.
_ALAC_FRAME = 4096


def sample_limit(row: Row, recording: Reader) -> int:
    """The sample that decoding must not exceed.

    A header's duration may be too short by `_MAX_BEYOND`. An estimated one may be any that the file has bytes
    for.
    """
    duration = Window.of(row).end_in_file(row.get("duration"))
    planned = max(duration or 0.0, row.get("end") or 0.0, row["start"], recording.header_duration or 0.0)
    if duration_is_estimated(recording.file, recording.format):
        planned = max(planned, longest_believable(recording.file.size))
    return round((planned + _MAX_BEYOND) * SAMPLING_RATE)


def ended_early(row: Row, recording: Reader, decoded: Decoded) -> bool:
    """Whether the file ended noticeably before what its header, its index or its end mark says."""
    window = Window.of(row)
    if window.end is not None:
        return recording.is_cut_off and window.lacks(decoded.end / SAMPLING_RATE)
    if recording.is_cut_off:
        return True
    duration = recording.header_duration
    if duration is None:
        return False
    allowed = min(_MAX_SHORT, max(_MIN_SHORT, 0.01 * duration))
    if recording.codec == "alac":
        allowed = max(allowed, _ALAC_FRAME / recording.sampling_rate)
    return decoded.end / SAMPLING_RATE < duration - allowed


def end_sample(recording: Reader, nominal: int) -> int:
    """The sample at which a recording ends that ends before sample `nominal`."""
    return min(nominal, decode_span(recording, nominal, nominal + 1).end)
