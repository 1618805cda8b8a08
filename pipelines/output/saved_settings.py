"""The settings of the next run on OUT: those in OUT/run.json, from any version, and newly given ones."""

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

# Settings that determine the output and once had another default, by section and name, with that default.
# Version 0.1.0 had these.
FORMER_DEFAULTS: dict[tuple[str, str], Any] = {
    ("segmenter", "backend"): "energy",
    ("segmenter", "silence_dbfs"): -60,
}
# Sections that version 0.1.0 did not have, and that can be switched off.
LATER_SECTIONS = ("guards", "repair")


def load_settings(
    out: str, record: dict[str, Any], path: str | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Load the settings that a run was made with, without secrets, which are never stored.

    Args:
        out: the output directory.
        record: its run.json.
        path: a config file, which takes precedence over run.json.
        overrides: `section.name=value`, which take precedence over both.

    Raises:
        UsageError: the resulting settings are not valid; the message names run.json and the setting.
    """
    uri = files.join(out, "run.json")
    saved = record.get("config")
    if not isinstance(saved, dict):
        raise UsageError(f"{uri} has no settings: it does not describe a run of Scriptorium")
    start, unknown = _known(RunConfig, with_current_names(saved))
    if unknown:
        log.warning(
            "%s has settings that this version does not know; they are ignored: %s",
            uri,
            ", ".join(unknown),
        )
    # Versions without guards and repair ran as if these were switched off.
    for name in LATER_SECTIONS:
        start.setdefault(name, {"enabled": False})
    return load_config(
        path, overrides, _without_masks(start), f"the settings in {uri}, which --set can replace"
    )


def with_former_defaults(config: RunConfig, record: dict[str, Any] | None) -> RunConfig:
    """Settings with the defaults that `OUT` was made with, where they were others then.

    The same command line goes on with an output directory after an update, and its new rows are like its old
    ones. A setting that is given, in a file or by `--set`, is never replaced.

    Args:
        config: the settings of the next run.
        record: the run.json of its output directory; None where there is none yet.
    """
    identity = (record or {}).get("identity") or {}
    for (section, name), former in FORMER_DEFAULTS.items():
        settings = getattr(config, section)
        saved = identity.get(section, {}).get(name)
        if saved == former != getattr(settings, name) and name not in settings.model_fields_set:
            log.info("%s.%s stays %s, the default when this output was begun", section, name, former)
            config = config.model_copy(update={section: settings.model_copy(update={name: former})})
    for name in LATER_SECTIONS:
        settings = getattr(config, name)
        if identity and name not in identity and not settings.model_fields_set:
            # Begun by version 0.1.0, which did not have it, or with it switched off.
            config = config.model_copy(update={name: settings.model_copy(update={"enabled": False})})
    return config


def _known(
    settings: type[BaseModel], saved: dict[str, Any], prefix: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The saved settings that this version knows, and the dotted names of the others."""
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
    """Settings without the masks that `run_record` stores in place of secrets; modified in place."""
    if isinstance(start.get("cluster"), dict):
        start["cluster"]["runtime_env"] = {}
    for name in ("asr", "aligner"):
        vllm = start[name].get("vllm") if isinstance(start.get(name), dict) else None
        if isinstance(vllm, dict) and isinstance(vllm.get("engine"), dict):
            vllm["engine"] = {key: value for key, value in vllm["engine"].items() if not is_secret(key)}
    return start
