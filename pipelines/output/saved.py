"""The settings in OUT/run.json as the start of another run: of whatever version wrote them, with what a person gives now on top."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from actors.errors import UsageError
from pipelines.config import RunConfig, is_secret, load_config
from pipelines.config_files import section_of, with_current_names
from pipelines.storage import files

log = logging.getLogger(__name__)


def settings_of(
    out: str, record: dict[str, Any], path: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """The settings that a run was made with, but for the secrets among them, which were not stored.

    Args:
        out: the output directory.
        record: its run.json.
        path: a config file whose settings win.
        overrides: `section.name=value`, which win over both.

    Raises:
        UsageError: together they are not valid; the message names run.json and the setting.
    """
    uri = files.join(out, "run.json")
    saved = record.get("config")
    if not isinstance(saved, dict):
        raise UsageError(f"{uri} has no settings: it is not a run of Scriptorium")
    start, unknown = _known(RunConfig, with_current_names(saved))
    if unknown:
        log.warning(
            "%s has settings that this version does not know; it goes on without them: %s",
            uri,
            ", ".join(unknown),
        )
    return load_config(
        path, overrides, _without_masks(start), f"the settings in {uri}, which --set can replace"
    )


def _known(
    settings: type[BaseModel], saved: dict[str, Any], prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """What of the saved settings there is today, and the names of the others."""
    known, unknown = {}, []
    for name, value in saved.items():
        section = section_of(settings, name)
        if name not in settings.model_fields:
            unknown.append(prefix + name)
        elif section and isinstance(value, dict):
            known[name], below = _known(section, value, f"{prefix}{name}.")
            unknown += below
        else:
            known[name] = value
    return known, unknown


def _without_masks(start: dict[str, Any]) -> dict[str, Any]:
    """Nothing that stands in for a secret: see `runs`."""
    if isinstance(start.get("cluster"), dict):
        start["cluster"]["runtime_env"] = {}
    for name in ("asr", "aligner"):
        vllm = start[name].get("vllm") if isinstance(start.get(name), dict) else None
        if isinstance(vllm, dict) and isinstance(vllm.get("engine"), dict):
            vllm["engine"] = {key: value for key, value in vllm["engine"].items() if not is_secret(key)}
    return start
