"""Messages between a process and its child: pickles over pipes.

Large buffers of an answer (`pickle.PickleBuffer`, arrays) follow the pickle as raw bytes and are not copied
on either side.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import struct
import time
from typing import Any, BinaryIO

import numpy as np

_LENGTH = struct.Struct("<Q")
# Bytes of the pipe for answers, instead of 64 KiB: tens of megabytes of samples then need fewer turns.
_PIPE_BYTES = 1 << 20
# Seconds per `poll` at most: it counts milliseconds in a C int, which overflows after 24 days.
_POLL_SECONDS = 86_400.0


def enlarge_pipe(stream: Any) -> None:
    """Let the pipe of a stream hold more, where the system allows it."""
    import fcntl

    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(stream.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def send_call(stream: Any, call: tuple[str, tuple[Any, ...]]) -> None:
    """Write a function's name and its arguments, for `receive_call`.

    Raises:
        BrokenPipeError: the child is gone.
    """
    data = pickle.dumps(call, protocol=5)
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[os.write(stream.fileno(), view) :]


def receive_call(stream: BinaryIO) -> tuple[str, tuple[Any, ...]] | None:
    """Read what `send_call` has written; None: the parent has closed the pipe."""
    header = stream.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return None
    call: tuple[str, tuple[Any, ...]] = pickle.loads(stream.read(_LENGTH.unpack(header)[0]))
    return call


def receive_answer(stream: Any, deadline: float) -> tuple[str, Any]:
    """Read what `send_answer` has written.

    Args:
        stream: unbuffered.
        deadline: of `time.monotonic`.

    Raises:
        EOFError: the child is gone.
        TimeoutError: the deadline is over.
    """
    count = _LENGTH.unpack(_read_exactly(stream, _LENGTH.size, deadline))[0]
    lengths = struct.unpack(f"<{count}Q", _read_exactly(stream, count * _LENGTH.size, deadline))
    message = _read_exactly(stream, lengths[0], deadline)
    # One block for all buffers, which then follow each other in memory.
    block, buffers = _read_exactly(stream, sum(lengths[1:]), deadline), []
    for length in lengths[1:]:
        buffers.append(block[:length])
        block = block[length:]
    answer: tuple[str, Any] = pickle.loads(message, buffers=buffers)
    return answer


def send_answer(stream: BinaryIO, message: tuple[str, Any]) -> None:
    """Write what kind of answer it is, and the answer."""
    buffers: list[pickle.PickleBuffer] = []
    try:
        data = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
    except MemoryError as error:
        data, buffers = pickle.dumps(("memory", str(error))), []
    pieces: list[bytes | memoryview] = [data, *(buffer.raw() for buffer in buffers)]
    stream.write(struct.pack(f"<{1 + len(pieces)}Q", len(pieces), *(len(piece) for piece in pieces)))
    for piece in pieces:
        stream.write(piece)
    stream.flush()


def _read_exactly(stream: Any, count: int, deadline: float) -> memoryview:
    # np.empty does not write zeros first, as bytearray would.
    data = np.empty(count, np.uint8).data
    view = data
    poll = select.poll()
    poll.register(stream.fileno(), select.POLLIN | select.POLLHUP)
    while view:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if not poll.poll(min(left, _POLL_SECONDS) * 1000):
            continue
        received = stream.readinto(view)
        if not received:
            raise EOFError
        view = view[received:]
    return data
