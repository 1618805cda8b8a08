"""Reads the facts that planning needs from a file's header, a few kilobytes.

Where the header has no duration, the file's packets are counted on request; where it has an implausible one,
always.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Literal

from actors.audio.containers import Opened, open_container, require_audio
from actors.audio.formats.late_streams import find_audio
from actors.audio.header_facts import duration_is_estimated, has_constant_bit_rate
from actors.audio.pts import duration_of, is_chained, longest_believable, max_hole_end, walk_packets
from actors.audio.recordings.chained_reader import ChainedReader, open_chain
from actors.audio.sources import AudioFile, open_audio
from actors.audio.structure.contents import Contents, read_contents
from actors.errors import RowError, as_row_error
from actors.process.isolation import Child
from actors.records import Probe

# Bytes up to which a file fits into one shard: `probe_many` does not read all of it to learn its length.
SCAN_BYTES = 1 << 20
# Bytes read ahead; a header is small.
_BLOCK = 128 << 10
# Bytes behind the header that are read to learn about the streams.
_PROBE_BYTES = 64 << 10
# Bytes up to which a file is scanned wherever its header does not have a reliable duration.
_SMALL = 256 << 10
# Bytes above which a file is not read as a whole only because its duration is an estimate.
_MAX_COUNTED = 1 << 30
# Formats with an estimated duration whose bit rate does not change, so that the estimate is right.
_CONSTANT_BIT_RATE = frozenset({"ac3", "eac3", "dts", "gsm", "adx"})


def probe(uri: str, scan: bool = False, retries: int | None = None) -> Probe:
    """Read a file's header.

    Args:
        uri: a local path or any fsspec URI.
        scan: where the header does not give a reliable duration, read all packets (without decoding them) to
            learn it.
        retries: attempts after a storage error; None takes the setting.

    Returns:
        The facts. `duration` is None where the header has none. Flags:
            duration_estimated: the duration is estimated from the bit rate.
            constant_rate: that estimate is good, because the bit rate is constant.
            duration_scanned: the packets were counted.
            duration_from_size: a PCM file whose writer never filled in its length.
            duration_of_video: the sound may end earlier.
            absurd_duration: the header's duration has too few bytes per second; the packets were counted.
            chained: several recordings one after another, of which the header describes one; the packets were
                counted.

    Raises:
        RowError: a code that names what is wrong with the file.
        RetryableError: storage_unavailable.
    """
    with open_audio(uri, retries, block_size=_BLOCK, single_request_bytes=_SMALL) as whole:
        require_audio(whole)
        chain = open_chain(whole, briefly=not scan)
        if chain is not None:
            return _chain_facts(chain, whole)
        contents = read_contents(whole)
        if contents.parts is not None:
            return _pcm_facts(contents, whole)
        file = contents.file
        try:
            facts, duration, flags = _read_header(file, _PROBE_BYTES)
        except RowError as error:
            if error.code == "empty_file":
                raise
            # A video may need more bytes until its first audio packet.
            file = find_audio(file)[0]
            facts, duration, flags = _read_header(file, None)
        if duration is None or "duration_estimated" in flags:
            if scan or file.size <= _SMALL or "absurd_duration" in flags or "chained" in flags:
                duration = _scan(file)
                flags = [flag for flag in flags if flag not in ("duration_estimated", "constant_rate")]
                flags.append("duration_scanned")
            if duration == 0:
                raise RowError("a valid header without any samples behind it", "no_samples")
        return Probe(
            duration,
            facts.codec,
            facts.format,
            facts.sampling_rate,
            facts.channels,
            whole.size,
            whole.etag,
            tuple(flags),
        )


def _chain_facts(chain: ChainedReader, whole: AudioFile) -> Probe:
    flags = ("chained", "duration_scanned")
    return Probe(
        chain.header_duration,
        chain.codec,
        chain.format,
        chain.sampling_rate,
        chain.channels,
        whole.size,
        whole.etag,
        flags,
    )


def _pcm_facts(contents: Contents, whole: AudioFile) -> Probe:
    assert contents.parts is not None
    first = contents.parts[0].format
    flags = ("duration_from_size",) if contents.is_open else ()
    return Probe(
        contents.duration,
        first.codec,
        contents.container,
        first.sampling_rate,
        first.channels,
        whole.size,
        whole.etag,
        flags,
    )


def _read_header(file: AudioFile, probe_bytes: int | None) -> tuple[Opened, float | None, list[str]]:
    with open_container(file, probe_bytes=probe_bytes) as opened:
        return opened, *_duration(opened, file)


def _duration(opened: Opened, file: AudioFile) -> tuple[float | None, list[str]]:
    duration, certain = duration_of(opened, file)
    if opened.format == "ogg" and is_chained(file):
        return None, ["chained"]
    if duration is None or duration <= 0:
        return None, []
    if duration > longest_believable(file.size):
        return None, ["absurd_duration"]
    if duration_is_estimated(file, opened.format):
        constant = opened.format in _CONSTANT_BIT_RATE or (
            opened.format == "mp3" and file.size > _SMALL and has_constant_bit_rate(file)
        )
        return duration, ["duration_estimated", "constant_rate"] if constant else ["duration_estimated"]
    return duration, [] if certain else ["duration_of_video"]


def _scan(file: AudioFile) -> float:
    """Seconds that all packets last, with the gaps between them."""
    with open_container(file) as opened:
        return walk_packets(opened, max_hole_end(opened, file)).duration


def worth_counting(found: Probe) -> bool:
    """Whether the packets of a large file must be counted, because its shards are planned by its duration."""
    estimated = "duration_estimated" in found.flags and "constant_rate" not in found.flags
    return found.size_bytes > SCAN_BYTES and (
        found.duration is None or (estimated and found.size_bytes <= _MAX_COUNTED)
    )


Answer = Probe | tuple[str, str] | Literal["stuck", "waiting"]


def probe_many(uris: Sequence[str], concurrency: int, timeout: float | None) -> list[Answer]:
    """Probe many files at the same time. Counts the packets of large files without a reliable duration.

    Args:
        uris: of the files.
        concurrency: files read at the same time.
        timeout: seconds without any answer after which the reads under way are given up; None never gives up.

    Returns:
        For each file its facts, or (error code, message), or "stuck" where it was given up, or "waiting"
        where its read had not started by then.
    """
    pool = ThreadPoolExecutor(concurrency)
    futures = [pool.submit(_probe_fully, uri) for uri in uris]
    pending: set[Future[Answer]] = set(futures)
    while pending:
        done, pending = wait(pending, timeout, FIRST_COMPLETED)
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
