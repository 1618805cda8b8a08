"""Settings as users give them: YAML files and overrides, merging them, and messages about wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import fsspec
import yaml
from pydantic import BaseModel, ValidationError

from actors.errors import UsageError

# Settings that may contain a secret: messages do not repeat their values.
MAY_BE_SECRET = ("api_keys", "base_url", "key_variable", "runtime_env", "engine")
# Sections that were renamed, as (section, former name, current name); both names are accepted.
RENAMED_SECTIONS = (("asr", "openai", "remote"),)  # until version 0.1.0 `asr.openai`


def read_yaml(path: str) -> dict[str, Any]:
    """Read the sections in a YAML file on any fsspec URI.

    Raises:
        UsageError: there is no such file, it is not a mapping of sections, or it has a key twice.
    """
    try:
        with fsspec.open(path, "r", encoding="utf-8") as file:
            values = _load_yaml(file)
    except DuplicateKey as error:
        raise UsageError(f"{path}: {error}: keep one of them") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {error}") from None
    except Exception as error:
        raise UsageError(f"cannot read the config file {path}: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{path}: a config file is a mapping of sections (asr:, aligner:, ...), "
            f"not a {type(values).__name__}"
        )
    return values


class DuplicateKey(Exception):
    """A mapping has the same key twice. YAML forbids it, but PyYAML takes the last one without a word."""


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping.

        Raises:
            DuplicateKey: it has a key twice; the message has the lines of both.
        """
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise DuplicateKey(f"{key.value!r} is given twice, in line {lines[key.value]} and {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


def _load_yaml(source: str | TextIO) -> Any:
    return yaml.load(source, _Loader)


def resolve_models(values: dict[str, Any], path: str) -> None:
    """Make the model folders, and the calibration, in `values` absolute that exist relative to `path`."""
    asr = values.get("asr")
    calibration = asr.get("calibration") if isinstance(asr, dict) else None
    if isinstance(calibration, str) and "://" not in path and "://" not in calibration:
        beside = Path(path).resolve().parent / calibration
        if isinstance(asr, dict) and beside.is_file():
            asr["calibration"] = str(beside)
    for section in ("asr", "aligner", "repair"):
        model = values.get(section, {}).get("model") if isinstance(values.get(section), dict) else None
        if isinstance(model, str) and "://" not in path and not Path(model).is_absolute():
            beside = Path(path).resolve().parent / model
            if beside.is_dir():
                values[section]["model"] = str(beside)


def section_of(settings: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The class of a setting that is a section; None if it is a value or does not exist."""
    field = settings.model_fields.get(name)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def merge(settings: type[BaseModel], old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Merge `new` into `old`, section by section. A value that is a mapping, such as labels, is replaced."""
    both = {**old, **new}
    for name, value in new.items():
        section = section_of(settings, name)
        if section and isinstance(value, dict) and isinstance(old.get(name), dict):
            both[name] = merge(section, old[name], value)
    return both


def assign(values: dict[str, Any], name: str, text: str) -> None:
    """Set the setting with a dotted name to the YAML value in `text`.

    Raises:
        UsageError: a part of the name is a value, not a section, or the value is a mapping with a key twice.
    """
    try:
        value = _load_yaml(text) if text else ""
    except DuplicateKey as error:
        raise UsageError(f"--set {name}: {error}: keep one of them") from None
    except yaml.YAMLError:
        value = text
    *sections, last = name.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise UsageError(f"--set {name}: {section} is a value, not a section")
    values[last] = value


def with_current_names(values: dict[str, Any]) -> dict[str, Any]:
    """Settings with the current names of renamed sections; a section that has both names keeps both."""
    renamed = dict(values)
    for parent, former, current in RENAMED_SECTIONS:
        section = renamed.get(parent)
        if isinstance(section, dict) and former in section and current not in section:
            renamed[parent] = {current if name == former else name: value for name, value in section.items()}
    return renamed


def current_name(name: str) -> str:
    """A dotted name of a setting, with the current name of its section."""
    for parent, former, current in RENAMED_SECTIONS:
        if f"{name}.".startswith(f"{parent}.{former}."):
            return f"{parent}.{current}{name[len(parent) + len(former) + 1 :]}"
    return name


def section_names(values: dict[str, Any]) -> list[str]:
    """Dotted names of everything in the sections of `values`, two levels deep."""
    return [
        f"{name}.{below}"
        for name, section in values.items()
        if isinstance(section, dict)
        for below in section
    ]


def refuse_both_names(names: Sequence[str]) -> None:
    """Check that no renamed section is set under both of its names.

    Args:
        names: dotted names of the settings that were given.

    Raises:
        UsageError: a section has its former and its current name among them.
    """
    for parent, former, current in RENAMED_SECTIONS:
        if all(
            any(f"{name}.".startswith(f"{parent}.{part}.") for name in names) for part in (former, current)
        ):
            raise UsageError(
                f"{parent}.{former} is the former name of {parent}.{current}: set only {parent}.{current}"
            )


def explain(error: ValidationError, origin: str) -> str:
    """Explain all problems of invalid settings in one message; `origin` says where the settings come from."""
    problems = []
    for problem in error.errors():
        name = ".".join(str(part) for part in problem["loc"]) or "settings"
        if problem["type"] == "extra_forbidden":
            problems.append(
                f"{name}: there is no such setting (`scriptorium transcribe --print-config` lists them)"
            )
        else:
            show_value = (
                problem["loc"]
                and not isinstance(problem["input"], dict)
                and not any(part in MAY_BE_SECRET for part in problem["loc"])
            )
            got = f" (got {problem['input']!r})" if show_value else ""
            problems.append(f"{name}: {problem['msg'].removeprefix('Value error, ')}{got}")
    where = f"{origin}: " if origin else ""
    return where + "; ".join(problems)
