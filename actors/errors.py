"""All error classes and error codes.

    ScriptoriumError
    ├── UsageError        the command, config or manifest is wrong: reported before Ray starts, exit code 2
    ├── RowError          this input is bad: one dead letter with a stable code, never retried
    ├── RetryableError    transient error of a store or device: bounded back-off, then a dead letter
    ├── StorageError      OUT cannot be read or written: exit code 1, the same command resumes the run
    └── FatalError        this process is broken: it exits and the pool replaces it

A dead letter's `error_code` is one of `CODES`. Users filter and alert on them, so a code never changes its
meaning.
"""

from __future__ import annotations

from actors.redaction import redacted

CODES: dict[str, str] = {
    "empty_file": "the file has no bytes",
    "not_audio": "no decoder recognises the file's content",
    "no_audio_stream": "a container without an audio stream",
    "no_samples": "a valid header without any samples behind it",
    "bad_header": "the header claims something impossible (0 Hz, 2^31 samples, 200 channels)",
    "corrupt_audio": "decoding failed before any sample came out",
    "unsupported_codec": "the codec is known by name but cannot be decoded here",
    "audio_not_found": "there is nothing at this URI",
    "access_denied": "the store refuses access to this URI",
    "audio_changed": "the object is not the one that was planned",
    "storage_unavailable": "the store kept failing after all retries",
    "decode_timeout": "decoding did not finish within its time limit",
    "decoder_crashed": "the decoder killed its process",
    "decode_out_of_memory": "decoding needed more memory than a shard may have",
    "too_long": "far more audio than the header said, or a server that sends without end",
    "unsupported_language": "the model does not know this language",
    "model_failed": "the model raised an error for this segment, also in a batch of its own",
    "server_unavailable": "the recognition server kept failing after all retries",
    "device_out_of_memory": "this segment does not fit the device, even in a batch of its own",
    "alignment_failed": "the aligner raised an error for this segment, also in a batch of its own",
    "model_timeout": "the model did not finish this row within its time limit, also in a batch of its own",
    "worker_lost": "the process working on this row died every time",
    "internal_error": "a bug in scriptorium: please report it",
}


class ScriptoriumError(Exception):
    """Base of all errors that this code raises on purpose.

    Args:
        message: for people.
        code: one of `CODES` for an error that becomes a dead letter.
    """

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
    """The output directory cannot be read or written, even after all retries.

    The message says what failed, where and why.
    """


class FatalError(ScriptoriumError):
    """This process cannot continue: its engine is broken or its model cannot be loaded."""


def as_row_error(error: BaseException, default: str = "internal_error") -> tuple[str, str]:
    """The `(code, message)` of any exception, for a dead letter.

    Args:
        error: what was raised.
        default: the code of an exception that is neither a `ScriptoriumError` nor a known built-in one.

    Returns:
        The code, and the message as one line of at most 500 characters that is valid Unicode, without the
        passwords and queries of addresses.
    """
    code = error.code if isinstance(error, ScriptoriumError) else _code_of(error, default)
    if isinstance(error, UsageError) and code == "internal_error":
        # A setting or an address that only turned out to be wrong at this row is not a bug.
        code = "storage_unavailable"
    text = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, ScriptoriumError):
        text = f"{type(error).__name__}: {text}"
    return code, redacted(text)[:500].encode(errors="replace").decode()


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
