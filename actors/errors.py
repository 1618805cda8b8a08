"""Everything that can go wrong, and whose problem it is.

    ScriptoriumError
    ├── UsageError        the person's command, config or manifest is wrong: told before Ray starts, exit code 2
    ├── RowError          this input is bad: one dead letter with a stable code, never retried
    ├── RetryableError    store or device hiccup: bounded back-off, then a dead letter
    ├── StorageError      the output directory cannot be read or written: the run stops, exit code 1, the same command resumes it
    └── FatalError        this process is broken: it exits and the pool replaces it

A dead letter's `error_code` is one of `CODES`; people filter and alert on them, so a code never changes its meaning.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

CODES: dict[str, str] = {
    "empty_file": "the file has no bytes",
    "not_audio": "no decoder recognises the file's content",
    "no_audio_stream": "a container without an audio stream",
    "no_samples": "a valid header, but not one sample behind it",
    "bad_header": "the header claims something absurd (0 Hz, 2^31 samples, 200 channels)",
    "corrupt_audio": "decoding failed before any sample came out",
    "unsupported_codec": "the codec is known by name but cannot be decoded here",
    "audio_not_found": "there is nothing at this URI",
    "access_denied": "the store refuses access to this URI",
    "audio_changed": "the object is not the one that was planned",
    "storage_unavailable": "the store kept failing after all retries",
    "decode_timeout": "decoding did not finish within its time limit",
    "decoder_crashed": "the decoder killed its process",
    "decode_out_of_memory": "decoding needed more memory than a shard may have",
    "too_long": "there is far more audio than the header said, or the server sends without end",
    "unsupported_language": "the model does not know this language",
    "model_failed": "the model raised on this segment alone",
    "server_unavailable": "the recognition server kept failing after all retries",
    "device_out_of_memory": "even this segment alone does not fit the device",
    "alignment_failed": "the aligner raised on this segment alone",
    "model_timeout": "the model did not finish this row within its time limit, also alone",
    "worker_lost": "the process working on this row died every time",
    "internal_error": "a defect of ours: please report it",
}


class ScriptoriumError(Exception):
    """Base of all errors that we raise on purpose. `code` is one of `CODES` for those that end in a dead letter."""

    def __init__(self, message: str, code: str = "internal_error") -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.message, self.code)


class UsageError(ScriptoriumError):
    """The command, the config or the manifest is wrong. The message says what, where, and what to do."""


class RowError(ScriptoriumError):
    """This input is bad; another attempt would end the same way."""


class RetryableError(ScriptoriumError):
    """Another attempt may succeed."""


class StorageError(ScriptoriumError):
    """The output directory cannot be read or written, also after all retries. The message says what failed, where and why."""


class FatalError(ScriptoriumError):
    """This process cannot go on: its engine is broken or its model cannot be loaded."""


def as_row_error(error: BaseException, default: str = "internal_error") -> tuple[str, str]:
    """Turn any exception into `(code, message)` for a dead letter; the message is one line of at most 500 characters, and valid Unicode."""
    code = error.code if isinstance(error, ScriptoriumError) else _code_of(error, default)
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, ScriptoriumError):
        text = f"{type(error).__name__}: {text}"
    return code, text[:500].encode(errors="replace").decode()


def _code_of(error: BaseException, default: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "audio_not_found"
    if isinstance(error, PermissionError):
        return "access_denied"
    if isinstance(error, MemoryError):
        return "decode_out_of_memory"
    if isinstance(error, TimeoutError | ConnectionError):
        return "storage_unavailable"
    return default


_last_words: list[Callable[[FatalError], None]] = []


def before_exit(tell: Callable[[FatalError], None]) -> None:
    """Have `tell` called by `exit_process` with its reason, from whatever thread that is; it replaces the one given before."""
    _last_words[:] = [tell]


def exit_process(error: FatalError) -> NoReturn:
    """End this process because its engine is broken or hangs; the pool starts another and gives it the same rows.

    Not `raise`: Ray tries a failed call again on the same actor, and after a sticky CUDA error every call there fails, so that one broken
    replica would use up the retries of row after row. Not `sys.exit`: Ray then counts the actor as ended on purpose and the pool waits for
    it for ever. Only a process that dies is replaced and its call repeated elsewhere. `os._exit` also does not wait for threads that hang
    in the driver.
    """
    logging.getLogger(__name__).critical("this process ends: %s", error)
    for tell in _last_words:
        with contextlib.suppress(Exception):
            tell(error)
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)
