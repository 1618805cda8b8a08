"""Downloads of checkpoints from the hub, with errors that say what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from actors.errors import FatalError
from actors.retries import LASTING_ERRNOS

# HTTP statuses below 500 after which another attempt may succeed.
_TRANSIENT = (408, 425, 429)
# The hub's client uses one of these: errors during a download are raised as theirs.
_LIBRARIES = ("httpx", "httpx2")


def fetch_config(name: str, kind: str, revision: str | None) -> Path:
    """Fetch a model's config.json, or find it in the cache, as `.../snapshots/COMMIT/config.json`.

    Args:
        name: hub id.
        kind: section of the settings that names the model, for messages.
        revision: branch, tag or commit; None is the main branch.

    Raises:
        FatalError: the message says what to do.
    """
    from huggingface_hub import hf_hub_download

    with _hub_errors(name, kind, revision):
        return Path(hf_hub_download(name, "config.json", revision=revision))


def download(name: str, kind: str, revision: str | None) -> Path:
    """Fetch the files of a model; returns their folder. Arguments and errors as for `fetch_config`."""
    from huggingface_hub import snapshot_download

    with _hub_errors(name, kind, revision):
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=["*.json", "*.txt", "*.jinja", "*.safetensors"]
            )
        )


@contextlib.contextmanager
def _hub_errors(name: str, kind: str, revision: str | None) -> Iterator[None]:
    """Turn errors of the hub into FatalError, code storage_unavailable if another attempt may succeed."""
    from huggingface_hub import errors

    where = f"{kind}.model {name!r}" + (f" at revision {revision!r}" if revision else "")
    advice = (
        f"fetch it where there is a network (`hf download {name}`) and set {kind}.model to that folder, "
        "or share HF_HOME"
    )
    try:
        yield
    # The order matters: a gated repository is also "not found", and "not in the cache" is also "entry not
    # found".
    except errors.GatedRepoError as error:
        raise FatalError(
            f"{where} is gated: accept its terms on the hub and log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise FatalError(f"{where}: the hub has no such revision") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise FatalError(
            f"{where}: the hub has no such model, and there is no such folder (from {Path.cwd()})"
        ) from error
    except errors.RemoteEntryNotFoundError as error:
        raise FatalError(f"{where} has no config.json: it is not a checkpoint for transformers") from error
    except Exception as error:
        cause = (
            error.__cause__
            if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__
            else error
        )
        if isinstance(cause, OSError) and cause.errno in LASTING_ERRNOS:
            message = (
                f"{where} cannot be written to the hub's cache: {cause}; check free space and permissions, "
                "or set HF_HOME to another folder"
            )
            raise FatalError(message) from error
        status = cause.response.status_code if isinstance(cause, errors.HfHubHTTPError) else None
        if status is not None and status < 500 and status not in _TRANSIENT:
            raise FatalError(
                f"{where} is not in the local cache, and the hub refuses it: {_one_line(cause)}"
            ) from error
        if status is not None:
            message = (
                f"{where} is not in the local cache, and the hub currently answers HTTP {status}: {advice}"
            )
            raise FatalError(message, "storage_unavailable") from error
        if not isinstance(error, OSError) and type(error).__module__.split(".")[0] not in _LIBRARIES:
            raise
        # The user asked for it with HF_HUB_OFFLINE, so another attempt cannot succeed.
        offline = isinstance(cause, errors.OfflineModeIsEnabled)
        message = f"{where} is not in the local cache and the hub cannot be reached: {advice}"
        raise FatalError(message, "internal_error" if offline else "storage_unavailable") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
