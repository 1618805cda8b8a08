"""The settings of a run: the actors' sections and the pipelines' own, from YAML and `--set`, checked before Ray starts.

Every field has a default and a description; `scriptorium transcribe --print-config` prints them all as YAML with the descriptions as
comments, and `configs/transcribe.yaml` is that print.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from actors.config import (
    LONGEST,
    AlignerConfig,
    ASRConfig,
    AudioConfig,
    Labels,
    SegmenterConfig,
    Settings,
    StorageConfig,
    Timeout,
)
from actors.errors import UsageError
from pipelines.config_files import (
    assign,
    current_name,
    explain,
    laid_over,
    read_yaml,
    refuse_both_names,
    resolve_models,
    section_names,
    with_current_names,
)

WORDS_MAX_DURATION = (
    180  # seconds: the aligner places words badly in longer segments (the reference's own limit)
)


class PlanConfig(Settings):
    """How work is divided before any of it runs."""

    shard_duration: float = Field(
        600,
        ge=10,
        le=3600,
        description="longest shard in seconds: the unit of work, of storage and of resume",
    )
    task_seconds: float | None = Field(
        None, gt=0, description="audio seconds of one Ray task; null: from the amount of work"
    )
    probe_concurrency: int = Field(32, ge=1, description="headers read at the same time")
    probe_timeout: Timeout = Field(120, description="seconds that one header may take")
    trust_durations: bool = Field(
        False, description="believe the manifest's `duration` and do not read headers"
    )
    allowed_uris: list[str] = Field(
        [],
        description="prefixes that audio must lie under, links resolved; empty: all but chained addresses, unusual protocols, cloud metadata "
        "and, for manifests read over a network, this machine's own files and servers",
    )


class EstimateConfig(Settings):
    """Assumptions of the `plan` command. They are not measurements of your machines: set your own."""

    asr_rtfx: float = Field(
        1500, gt=0, description="assumed: audio seconds that one GPU recognises per second"
    )
    aligner_rtfx: float = Field(
        3000, gt=0, description="assumed: audio seconds that one GPU aligns per second"
    )
    decode_rtfx: float = Field(
        500, gt=0, description="assumed: audio seconds that one core fetches and decodes per second"
    )
    gpus: int | None = Field(
        None, ge=1, description="GPUs to plan for; null: those of this machine, at least one"
    )
    cores: int | None = Field(None, ge=1, description="cores to plan for; null: those of this machine")
    gpu_hour_price: float = Field(2.5, ge=0, description="assumed: price of one GPU hour, in your currency")


class ClusterConfig(Settings):
    """Where Ray runs."""

    address: str = Field(
        "local",
        description="local: start Ray on this machine; auto, or ray://..., or host:port: use that cluster",
    )
    num_cpus: int | None = Field(
        None, ge=1, description="local only: logical CPUs; null: the machine's cores and two"
    )
    num_gpus: int | None = Field(None, ge=0, description="local only: GPUs; null: those that are found")
    object_store_memory: float = Field(
        1.0, gt=0.07, description="local only: GiB for rows on their way between stages"
    )
    decode_nodes: Literal["any", "cpu", "gpu"] = Field(
        "any", description="where decoding runs: cpu: nodes without GPUs; gpu: those with; any"
    )
    decode_labels: Labels = Field({}, description="decode only on nodes with these labels, as for pools")
    no_progress_timeout: int = Field(
        1200,
        ge=1,
        le=LONGEST,
        description="seconds without any progress after which the run stops with an error",
    )
    runtime_env: dict[str, Any] = Field(
        {}, description="passed to ray.init as it is (env_vars, working_dir, pip ...)"
    )


class OutputConfig(Settings):
    """How tables are written."""

    recordings_per_file: int = Field(2000, ge=1, description="recordings in one file of OUT/transcripts")
    compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = Field(
        "zstd", description="Parquet codec"
    )


class ServeConfig(Settings):
    """The server: `scriptorium serve`."""

    host: str = Field("127.0.0.1", description="address to listen on; beyond this machine it wants api_keys")
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="port to listen on; 0: a free one, which the first line of output tells",
    )
    model_names: list[str] = Field(
        [], description="what clients may call the model; empty: its hub id, or the name of its folder"
    )
    api_keys: list[str] = Field(
        [],
        description="SHA-256 of each key in hex, with a name for the log in front if you like (NAME:SHA256); empty: nobody is asked",
    )
    allow_anonymous: bool = Field(
        False, description="listen beyond this machine although there are no api_keys"
    )
    requests_per_minute: float | None = Field(
        None, gt=0, description="for each key (without keys: each address); more is answered with 429"
    )
    max_upload: float = Field(512, gt=0, description="MiB of a request; refused before it is read, or while")
    max_audio: float = Field(
        14_400,
        gt=0,
        description="seconds of audio in a request; refused before they are decoded where the header tells",
    )
    max_requests: int = Field(
        128, ge=1, description="requests in work or waiting; more are answered with 503"
    )
    max_streams: int = Field(64, ge=1, description="realtime connections; more are refused")
    max_decoded: float = Field(
        3600, gt=0, description="seconds of decoded audio held in memory for the models (115 MB an hour)"
    )
    decoders: int | None = Field(None, ge=1, description="child processes that decode; null: one a core")
    timeout: Timeout = Field(
        3600, description="seconds that a request may take from its last byte to its answer"
    )
    upload_timeout: Timeout = Field(600, description="seconds that the body of a request may take to arrive")
    drain_timeout: float = Field(
        60, ge=0, le=LONGEST, description="seconds that requests in work may take to end after SIGTERM"
    )
    min_replicas: int = Field(
        1,
        ge=1,
        description="replicas of each model when nothing happens; asr.pool.size and aligner.pool.size: at most",
    )
    call_seconds: float = Field(
        1.0,
        gt=0,
        description="how long a model call may last while there are streams, four times that without",
    )
    stream_window: float = Field(
        16,
        ge=4,
        le=60,
        description="longest utterance of a realtime stream in seconds; longer ones are cut at a pause",
    )
    allowed_uris: list[str] = Field(
        [], description="http(s) prefixes that `audio_url` may name; empty: data: URIs only"
    )
    allowed_hosts: list[str] = Field(
        [], description="names under which clients may call; empty: any, but on loopback only its own names"
    )
    cors_origins: list[str] = Field(
        [],
        description="origins of web pages that may call, such as https://example.org; empty: none but our own page",
    )
    log_text: bool = Field(
        False, description="write transcripts into the access log, which otherwise has neither text nor audio"
    )

    @field_validator("api_keys")
    @classmethod
    def _hashed(cls, value: list[str]) -> list[str]:
        for number, entry in enumerate(value, 1):
            if not re.fullmatch(
                r"([\w.@ -]{1,60}:)?[0-9a-f]{64}", entry
            ):  # the entry may be a key in clear: it is not repeated
                raise ValueError(
                    f"entry {number} is no SHA-256 in hex: `printf %s KEY | sha256sum` makes one"
                )
        return value


class RunConfig(Settings):
    """Everything that can be set."""

    audio: AudioConfig = AudioConfig()
    segmenter: SegmenterConfig = SegmenterConfig()
    asr: ASRConfig = ASRConfig()
    aligner: AlignerConfig = AlignerConfig()
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
                f"segmenter.max_duration is {self.segmenter.max_duration:g} s, but words are only right in segments of at most "
                f"{WORDS_MAX_DURATION} s: lower it, or switch words off with aligner.backend=none"
            )
        realtime = self.asr.backend == "openai" and self.asr.remote.endpoint == "dashscope-realtime"
        if realtime and self.segmenter.max_duration > 60:
            raise ValueError(
                "DashScope's real-time API takes 60 s at a time: lower segmenter.max_duration to it"
            )
        if self.segmenter.max_duration > self.plan.shard_duration:
            raise ValueError("segmenter.max_duration must not be above plan.shard_duration")
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
        """The settings that change what is written, without those that only change where and how fast it runs."""
        settings = self.model_dump(mode="json")
        speed = {"device", "max_batch_size", "max_batch_seconds", "threads", "timeout", "pool", "vllm"}
        return {
            "audio": {"channel": settings["audio"]["channel"]},
            "segmenter": settings["segmenter"],
            "asr": {k: v for k, v in settings["asr"].items() if k not in {*speed, "remote"}}
            | self._remote_endpoint()
            | _engine(self.asr),
            "aligner": {k: v for k, v in settings["aligner"].items() if k not in speed}
            | _engine(self.aligner),
            "plan": {"shard_duration": settings["plan"]["shard_duration"]},
        }

    def _remote_endpoint(self) -> dict[str, Any]:
        # Under the name that the section had in version 0.1.0, so that runs begun by it keep their hash.
        return {"openai": {"endpoint": self.asr.remote.endpoint}} if self.asr.backend == "openai" else {}

    def hash(self) -> str:
        """A digest of `identity()`, 16 hex digits: rows with the same hash were made the same way."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]


def _engine(config: ASRConfig | AlignerConfig) -> dict[str, Any]:
    """What is passed on to vLLM's engine may change what it says: quantization, for one. Keys to a hub do not."""
    engine = {name: value for name, value in config.vllm.engine.items() if not is_secret(name)}
    return {"vllm": {"engine": engine}} if config.backend == "vllm" and engine else {}


def is_secret(name: str) -> bool:
    """Whether a setting of somebody else's is called as secrets are."""
    return re.search(r"token(?!iz|s)|secret|password|api_?key|credential", name, re.IGNORECASE) is not None


def load_config(
    path: str | None, overrides: Sequence[str] = (), start: dict[str, Any] | None = None, origin: str = ""
) -> RunConfig:
    """Read a YAML file (any fsspec URI), apply `section.name=value` overrides (values in YAML) and check everything.

    A relative model folder in the file is relative to that file if it is there, so that a config can ship with its models.

    Args:
        path: the file; None: no file.
        overrides: they win over the file.
        start: settings over which all of this is laid, by section.
        origin: where `start` comes from, for messages.

    Raises:
        UsageError: naming the file, the setting and what to do.
    """
    values = copy.deepcopy(start or {})
    names: list[str] = []
    if path is not None:
        given = read_yaml(path)
        names += section_names(given)
        resolve_models(given, path)
        values = laid_over(RunConfig, values, with_current_names(given))
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not name:
            raise UsageError(f"--set wants NAME=VALUE such as asr.language=German, not {override!r}")
        names.append(name.strip())
        assign(values, current_name(name.strip()), value)
    refuse_both_names(names)
    try:
        return RunConfig.model_validate(with_current_names(values))
    except ValidationError as error:
        raise UsageError(explain(error, ", ".join(filter(None, (origin, path))))) from None


def describe(section: BaseModel, indent: int = 0) -> Iterator[str]:
    """Lines of YAML with every setting of a section, its value and its description as a comment."""
    pad = "  " * indent
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            if indent == 0:
                yield ""
            yield f"{pad}{name}:  # {(type(value).__doc__ or '').splitlines()[0]}"
            yield from describe(value, indent + 1)
        else:
            # Whole seconds are written as such, whether they came as 60 or as 60.0.
            plain = int(value) if isinstance(value, float) and value.is_integer() else value
            yield f"{pad}{name}: {json.dumps(plain, ensure_ascii=False)}  # {field.description}"
