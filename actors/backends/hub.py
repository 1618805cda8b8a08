"""Fetching checkpoints from the hub, and what its errors mean for a person."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from actors.errors import FatalError


def fetch_config(name: str, kind: str, revision: str | None) -> Path:
    """Fetch a model's config.json, or find it in the cache, as `.../snapshots/COMMIT/config.json`.

    Args:
        name: hub id.
        kind: section of the settings that names it, for messages.
        revision: branch, tag or commit; None is the main branch.

    Raises:
        FatalError: the message says what to do.
    """
    from huggingface_hub import hf_hub_download

    with _hub_errors(name, kind, revision):
        return Path(hf_hub_download(name, "config.json", revision=revision))


def download(name: str, kind: str, revision: str | None) -> Path:
    """Fetch all of a model that loading needs; the folder. Arguments and errors as for `fetch_config`."""
    from huggingface_hub import snapshot_download

    with _hub_errors(name, kind, revision):
        return Path(snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.txt", "*.jinja", "*.safetensors"]))


@contextlib.contextmanager
def _hub_errors(name: str, kind: str, revision: str | None) -> Iterator[None]:
    from huggingface_hub import errors

    where = f"{kind}.model {name!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        yield
    # Order matters: a gated repository is also "not found", and "not in the cache" is also an entry that was not found.
    except errors.GatedRepoError as error:
        raise FatalError(f"{where} is gated: accept its terms on the hub and log in with `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise FatalError(f"{where}: the hub has no such revision") from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise FatalError(f"{where}: the hub has no such model, and there is no such folder (from {Path.cwd()})") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, OSError) as error:
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            raise FatalError(f"{where} has no config.json: it is not a checkpoint for transformers") from error
        advice = f"fetch it where there is a network (`hf download {name}`) and set {kind}.model to that folder, or share HF_HOME"
        raise FatalError(f"{where} is not in the local cache and the hub cannot be reached: {advice}") from error
