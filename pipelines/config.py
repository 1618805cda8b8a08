"""The settings of a run: the sections of the actors and of the pipelines, from YAML and `--set`.

They are checked before Ray starts. Every field has a default and a description. `scriptorium transcribe
--print-config` prints them all as YAML with the descriptions as comments; `configs/transcribe.yaml` is that
output.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from actors.config import AlignerConfig, ASRConfig, AudioConfig, SegmenterConfig, Settings
from actors.config.base import StorageConfig
from actors.config.given_text import GivenTextConfig
from actors.config.repair import RepairConfig
from actors.config.speakers import SpeakersConfig
from actors.config.trust import GuardsConfig
from actors.errors import UsageError
from actors.text.languages import CODES, code_of
from pipelines.config_files import (
    assign,
    current_name,
    explain,
    merge,
    read_yaml,
    refuse_both_names,
    resolve_models,
    section_names,
    with_current_names,
)
from pipelines.config_sections import ClusterConfig, EstimateConfig, OutputConfig, PlanConfig, ServeConfig

# Seconds. The aligner places words badly in longer segments; the reference package has the same limit.
WORDS_MAX_DURATION = 180


class RunConfig(Settings):
    """All settings, by section."""

    audio: AudioConfig = AudioConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    asr: ASRConfig = ASRConfig()
    aligner: AlignerConfig = AlignerConfig()
    guards: GuardsConfig = GuardsConfig()
    repair: RepairConfig = RepairConfig()
    speakers: SpeakersConfig = SpeakersConfig()
    given_text: GivenTextConfig = GivenTextConfig()
    plan: PlanConfig = PlanConfig()
    estimate: EstimateConfig = EstimateConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: StorageConfig = StorageConfig()
    output: OutputConfig = OutputConfig()
    serve: ServeConfig = ServeConfig()

    @model_validator(mode="after")
    def _segments_fit(self) -> RunConfig:
        if self.aligner.backend != "none" and self.segmenter.max_duration > WORDS_MAX_DURATION:
            raise ValueError(
                f"segmenter.max_duration is {self.segmenter.max_duration:g} s, but word times are only right "
                f"in segments of at most {WORDS_MAX_DURATION} s: lower it, or switch words off with "
                "aligner.backend=none"
            )
        realtime = self.asr.backend == "openai" and self.asr.remote.endpoint == "dashscope-realtime"
        if realtime and self.segmenter.max_duration > 60:
            raise ValueError(
                "DashScope's real-time API takes at most 60 s at a time: lower segmenter.max_duration to 60"
            )
        if self.segmenter.max_duration > self.plan.shard_duration:
            raise ValueError("segmenter.max_duration must not be above plan.shard_duration: lower it")
        return self

    @model_validator(mode="after")
    def _second_model_fits(self) -> RunConfig:
        if not set(self.repair.languages) <= {code_of(name) for name in self.asr.languages or CODES}:
            raise ValueError("repair.languages has languages that asr.languages does not allow")
        self.repair.second_model(self.asr)
        return self

    @model_validator(mode="after")
    def _fake_recognisers_get_any_sound(self) -> RunConfig:
        # Load tests use synthetic sound, in which a VAD hears no speech, and are to load no model.
        if self.asr.backend == "fake" and "backend" not in self.segmenter.model_fields_set:
            object.__setattr__(self, "segmenter", self.segmenter.model_copy(update={"backend": "energy"}))
        # Its texts have nothing to do with the sound.
        if self.asr.backend == "fake" and "enabled" not in self.guards.model_fields_set:
            object.__setattr__(self, "guards", self.guards.model_copy(update={"enabled": False}))
        return self

    @model_validator(mode="after")
    def _vllm_knows_the_longest_segment(self) -> RunConfig:
        longest = max(self.segmenter.max_duration, self.serve.stream_window)
        for name in ("asr", "aligner"):
            section = getattr(self, name)
            if section.backend == "vllm" and section.vllm.max_duration is None:
                vllm = section.vllm.model_copy(update={"max_duration": longest})
                object.__setattr__(self, name, section.model_copy(update={"vllm": vllm}))
        return self

    def identity(self) -> dict[str, Any]:
        """The settings that determine the output; those for where and how fast it runs are left out."""
        settings = self.model_dump(mode="json")
        speed = {"device", "max_batch_size", "max_batch_seconds", "threads", "timeout", "pool", "vllm"}
        return {
            # Only where it is set, because earlier versions had no tracks.
            "audio": {"channel": self.audio.channel}
            | ({} if self.audio.track == "auto" else {"track": self.audio.track}),
            "segmenter": settings["segmenter"],
            "asr": {
                k: v for k, v in settings["asr"].items() if k not in {*speed, *_unset(self.asr), "remote"}
            }
            | self._remote_endpoint()
            | _engine(self.asr),
            "aligner": {
                k: v for k, v in settings["aligner"].items() if k not in {*speed, *_unset(self.aligner)}
            }
            | _engine(self.aligner),
            "plan": {"shard_duration": settings["plan"]["shard_duration"]},
        } | self._later_sections()

    def _later_sections(self) -> dict[str, Any]:
        """Sections that version 0.1.0 did not have, where they are in use: its runs keep their hash."""
        guards, repair = self.guards.identity(), self.repair.identity()
        return (
            ({"guards": guards} if guards else {})
            | ({"repair": repair} if repair else {})
            | self._given_text()
            | self.speakers.identity()
        )

    def _given_text(self) -> dict[str, Any]:
        # Only where it is not the default, because earlier versions did not have it.
        return {} if self.given_text.verify else {"given_text": {"verify": False}}

    def _remote_endpoint(self) -> dict[str, Any]:
        # Under the name that the section had in version 0.1.0, so that runs begun by it keep their hash.
        return {"openai": {"endpoint": self.asr.remote.endpoint}} if self.asr.backend == "openai" else {}

    def hash(self) -> str:
        """A digest of `identity()`, 16 hex digits: rows with the same hash were made in the same way."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


def _unset(section: ASRConfig | AlignerConfig) -> set[str]:
    """Settings of a model that earlier versions did not have, where they change nothing."""
    return {name for name in ("languages", "calibration", "refine") if not getattr(section, name, None)}


def _engine(config: ASRConfig | AlignerConfig) -> dict[str, Any]:
    # Arguments of vLLM's engine, such as quantization, may change the output. Keys to a hub do not.
    engine = {name: value for name, value in config.vllm.engine.items() if not is_secret(name)}
    return {"vllm": {"engine": engine}} if config.backend == "vllm" and engine else {}


def is_secret(name: str) -> bool:
    """Whether the name of a third party's setting suggests a secret."""
    return re.search(r"token(?!iz|s)|secret|password|api_?key|credential", name, re.IGNORECASE) is not None


def load_config(
    path: str | None, overrides: Sequence[str] = (), start: dict[str, Any] | None = None, origin: str = ""
) -> RunConfig:
    """Read settings from a YAML file, apply overrides, and check the result.

    A relative model folder in the file is relative to that file if it exists there, so that a config file can
    be shipped with its models.

    Args:
        path: the file, on any fsspec URI; None: no file.
        overrides: `section.name=value`, with the value in YAML; they take precedence over the file.
        start: settings by section, over which the file takes precedence.
        origin: where `start` comes from, for messages.

    Raises:
        UsageError: a setting is wrong; the message names the file, the setting and what to do.
    """
    values = copy.deepcopy(start or {})
    names: list[str] = []
    if path is not None:
        given = read_yaml(path)
        names += section_names(given)
        resolve_models(given, path)
        values = merge(RunConfig, values, with_current_names(given))
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not name:
            raise UsageError(f"--set needs NAME=VALUE, such as asr.language=German, not {override!r}")
        names.append(name.strip())
        assign(values, current_name(name.strip()), value)
    refuse_both_names(names)
    try:
        return RunConfig.model_validate(with_current_names(values))
    except ValidationError as error:
        raise UsageError(explain(error, ", ".join(filter(None, (origin, path))))) from None


def describe(section: BaseModel, indent: int = 0) -> Iterator[str]:
    """The lines of YAML for a section: every setting with its value, and its description as a comment."""
    pad = "  " * indent
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            if indent == 0:
                yield ""
            # Python has no docstrings where PYTHONOPTIMIZE is 2.
            title = (type(value).__doc__ or "").partition("\n")[0]
            yield f"{pad}{name}:  # {title}" if title else f"{pad}{name}:"
            yield from describe(value, indent + 1)
        else:
            # Whole numbers are written without a decimal point, whether they were given as 60 or as 60.0.
            plain = int(value) if isinstance(value, float) and value.is_integer() else value
            yield f"{pad}{name}: {json.dumps(plain, ensure_ascii=False)}  # {field.description}"
