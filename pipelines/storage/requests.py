"""What we ask of a store: tried again while it hiccups, and named where that does not help."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from actors.errors import RetryableError, RowError, ScriptoriumError, StorageError
from actors.retries import retried

T = TypeVar("T")

_ADVICE = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there, or have the quota raised",
    errno.EROFS: "it is read-only: mount it for writing, or choose another directory",
    errno.EACCES: "check the rights of this user",
    errno.EPERM: "check the rights of this user",
}


def ask(verb: str, uri: str, action: Callable[[], T]) -> T:
    """Run `action`, again with back-off while its errors may pass.

    Args:
        verb: what the action does, for messages: read, write, list, delete, look for.
        uri: with what.
        action: may be cut off anywhere and be run again.

    Raises:
        FileNotFoundError: there is nothing at `uri` to read.
        StorageError: all else that a store may answer.
    """
    try:
        return retried(action)
    except FileNotFoundError as error:
        if verb != "write":
            raise
        raise trouble(verb, uri, error) from error
    except (RowError, RetryableError) as error:
        if error.code == "audio_not_found":
            raise FileNotFoundError(errno.ENOENT, error.message, uri) from error
        raise StorageError(error.message) from error
    except ScriptoriumError:
        raise
    except Exception as error:
        raise trouble(verb, uri, error) from error


def trouble(verb: str, uri: str, error: BaseException) -> StorageError:
    """The name of a storage error that has come to stay."""
    said = " ".join(str(error).split()).rstrip(".")
    said = said if isinstance(error, OSError) and said else f"{type(error).__name__}: {said}"
    advice = _ADVICE.get(getattr(error, "errno", None) or 0)
    if advice is None and (
        isinstance(error, PermissionError) or "ACCESS_DENIED" in said or "Credentials" in type(error).__name__
    ):
        advice = "check the rights of the credentials in the environment"
    if advice is None and (isinstance(error, FileNotFoundError) or "NO_SUCH_BUCKET" in said):
        advice = "is the bucket or the folder still there?"
    return StorageError(f"cannot {verb} {uri}: {said[:600]}" + (f" ({advice})" if advice else ""))
