"""What a file's header says about it, from a few kilobytes: enough to plan with.

Where the header does not say, the file's packets are counted on request; where it says what is hard to believe, always.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Literal

from actors.audio.containers import Opened, open_container
from actors.audio.header_facts import duration_is_estimated, riff_facts
from actors.audio.pts import duration_of, furthest, is_chained, longest_believable, walk
from actors.audio.rates import is_constant
from actors.audio.sources import AudioFile, open_audio
from actors.errors import RowError, as_row_error
from actors.process.isolation import Child
from actors.records import Probe

_BLOCK = 128 << 10  # bytes read ahead: a header is small
_PROBE_BYTES = 64 << 10  # bytes behind the header
_SMALL = 256 << 10  # bytes: whatever is no larger is scanned where its header leaves questions
SCAN_BYTES = (
    1 << 20
)  # a file below this fits into one shard: `probe_many` does not read all of it to learn its length
_COUNTED = 1 << 30  # bytes: a larger file is not read as a whole only because its length is a guess
# Estimated formats whose bit rate does not change: the guess is right.
_CONSTANT = frozenset({"ac3", "eac3", "dts", "gsm", "adx"})
_WIDTHS = {  # bytes of a sample
    "pcm_u8": 1,
    "pcm_mulaw": 1,
    "pcm_alaw": 1,
    "pcm_s16le": 2,
    "pcm_s24le": 3,
    "pcm_s32le": 4,
    "pcm_f32le": 4,
    "pcm_f64le": 8,
}


def probe(uri: str, scan: bool = False, retries: int | None = None) -> Probe:
    """Read a file's header.

    Args:
        uri: a local path or any fsspec URI.
        scan: where the header does not give a duration to rely on, read all packets (without decoding them) to learn it.
        retries: attempts after a storage error; None: the setting.

    Returns:
        The facts. `duration` is None where the header does not say, or says something absurd. Flags: duration_estimated (a guess from the bit
        rate), constant_rate (and a good one), duration_scanned (counted), duration_from_size (a WAVE whose writer never filled in its length),
        duration_of_video (its sound may end sooner), absurd_duration (and few bytes a second: counted, too), chained (several recordings
        behind each other, of which the header knows one: counted, too).

    Raises:
        RowError: a code that names what is wrong with the file.
        RetryableError: storage_unavailable.
    """
    with open_audio(uri, retries, block_size=_BLOCK, whole=_SMALL) as file:
        try:
            facts, duration, flags = _header(file, _PROBE_BYTES)
        except RowError as error:
            if error.code == "empty_file":
                raise
            facts, duration, flags = _header(file, None)  # a video may need more bytes until its audio shows
        if duration is None or "duration_estimated" in flags:
            if scan or file.size <= _SMALL or "absurd_duration" in flags or "chained" in flags:
                duration, flags = (
                    _scanned(file),
                    [flag for flag in flags if flag not in ("duration_estimated", "constant_rate")],
                )
                flags.append("duration_scanned")
            if duration == 0:
                raise RowError("a valid header, but not one sample behind it", "no_samples")
        return Probe(
            duration,
            facts.codec,
            facts.format,
            facts.sampling_rate,
            facts.channels,
            file.size,
            file.etag,
            tuple(flags),
        )


def _header(file: AudioFile, probe_bytes: int | None) -> tuple[Opened, float | None, list[str]]:
    with open_container(file, probe_bytes=probe_bytes) as opened:
        return opened, *_duration(opened, file)


def _duration(opened: Opened, file: AudioFile) -> tuple[float | None, list[str]]:
    duration, certain = duration_of(opened)
    facts = riff_facts(file) if opened.format == "wav" else None
    if facts and facts.is_placeholder and facts.data_start is not None:
        width = _WIDTHS.get(opened.codec)
        if width:
            samples = (file.size - facts.data_start) // (width * opened.channels)
            return (samples / opened.sampling_rate, ["duration_from_size"]) if samples > 0 else (None, [])
    if opened.format == "ogg" and is_chained(file):
        return None, ["chained"]
    if duration is None or duration <= 0:
        return None, []
    if duration > longest_believable(file.size):
        return None, ["absurd_duration"]
    if duration_is_estimated(file, opened.format):
        constant = opened.format in _CONSTANT or (
            opened.format == "mp3" and file.size > _SMALL and is_constant(file)
        )
        return duration, ["duration_estimated", "constant_rate"] if constant else ["duration_estimated"]
    return duration, [] if certain else ["duration_of_video"]


def _scanned(file: AudioFile) -> float:
    """Seconds that all packets last, with the pauses between them."""
    with open_container(file) as opened:
        return walk(opened, furthest(opened, file)).duration


def worth_counting(found: Probe) -> bool:
    """Whether a header leaves the length of a large file so unclear that its packets are to be counted: shards are cut by it."""
    guessed = (
        "duration_estimated" in found.flags
        and "constant_rate" not in found.flags
        and found.size_bytes <= _COUNTED
    )
    return found.size_bytes > SCAN_BYTES and (found.duration is None or guessed)


Answer = Probe | tuple[str, str] | Literal["stuck", "waiting"]


def probe_many(uris: Sequence[str], concurrency: int, patience: float | None) -> list[Answer]:
    """Probe many files at the same time; counts the packets of large ones whose header does not tell their length, or guesses it.

    Args:
        uris: of the files.
        concurrency: files read at the same time.
        patience: seconds without any answer after which those under way are given up; None: never.

    Returns:
        For each file its facts, or (error code, message), or "stuck" where it was given up, or "waiting" where its turn had not come by then.
    """
    pool = ThreadPoolExecutor(concurrency)
    futures = [pool.submit(_probe_fully, uri) for uri in uris]
    pending: set[Future[Answer]] = set(futures)
    while pending:
        done, pending = wait(pending, patience, FIRST_COMPLETED)
        if not done:
            break
    pool.shutdown(wait=False, cancel_futures=True)
    return [
        future.result() if future.done() and not future.cancelled() else _unfinished(future)
        for future in futures
    ]


def _unfinished(future: Future[Answer]) -> Answer:
    return "waiting" if future.cancelled() else "stuck"


def _probe_fully(uri: str) -> Answer:
    try:
        found = probe(uri)
        return probe(uri, scan=True) if worth_counting(found) else found
    except Exception as error:
        return as_row_error(error)


def probe_in_child(child: Child, uris: Sequence[str], concurrency: int, timeout: float) -> list[Answer]:
    """`probe_many`, run in a child process: a file that crashes or hangs the child loses only its own answer.

    Args:
        child: runs the calls. It is killed where some of its threads hang.
        uris: of the files.
        concurrency: files read at the same time.
        timeout: seconds without any answer after which the reads under way are given up.

    Returns:
        For each file its facts, or (error code, message), or "stuck".
    """
    # Each file may take `timeout`; two more cover the start of the child and the last answer.
    call_timeout = timeout * (2 + len(uris) // concurrency)
    try:
        answers: list[Answer] = child.call(
            "actors.audio.probing:probe_many", uris, concurrency, timeout, timeout=call_timeout
        )
    except RowError as error:
        if len(uris) == 1:
            return [as_row_error(error)]
        return [answer for uri in uris for answer in probe_in_child(child, [uri], 1, timeout)]
    if "stuck" in answers:
        child.kill()
    # A file that needs too much memory also takes it from the files that are read at the same time.
    out_of_memory = [
        number
        for number, answer in enumerate(answers)
        if len(uris) > 1 and isinstance(answer, tuple) and answer[0] == "decode_out_of_memory"
    ]
    for number in out_of_memory:
        answers[number] = probe_in_child(child, [uris[number]], 1, timeout)[0]
    waiting = [number for number, answer in enumerate(answers) if answer == "waiting"]
    if waiting:
        again = probe_in_child(child, [uris[number] for number in waiting], concurrency, timeout)
        for number, answer in zip(waiting, again, strict=True):
            answers[number] = answer
    return answers
