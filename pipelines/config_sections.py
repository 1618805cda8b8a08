"""The settings of the pipelines, by section: planning, estimate, cluster, output and server."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from actors.config.base import LONGEST_TIMEOUT, Labels, Settings, Timeout


class PlanConfig(Settings):
    """How the work is divided before any of it runs."""

    shard_duration: float = Field(
        600,
        ge=10,
        le=3600,
        description="longest shard in seconds; a shard is the unit of work, of storage and of resume",
    )
    task_seconds: float | None = Field(
        None, gt=0, description="audio seconds per Ray task; null: chosen by the amount of work"
    )
    probe_concurrency: int = Field(32, ge=1, description="number of headers read at the same time")
    probe_timeout: Timeout = Field(120, description="time limit for reading one header, in seconds")
    trust_durations: bool = Field(
        False, description="use the manifest's `duration` and do not read headers where it is given"
    )
    allowed_uris: list[str] = Field(
        [],
        description="URI prefixes that audio must be under, after links are resolved; empty: everything but "
        "chained addresses, unusual protocols, cloud metadata and, for manifests read over a network, files "
        "and servers of this machine",
    )


class EstimateConfig(Settings):
    """Assumptions of the `plan` command. They are not measurements of your machines: set your own values."""

    asr_rtfx: float = Field(
        1500, gt=0, description="assumed speed of recognition: audio seconds per second and GPU"
    )
    aligner_rtfx: float = Field(
        3000, gt=0, description="assumed speed of alignment: audio seconds per second and GPU"
    )
    decode_rtfx: float = Field(
        500, gt=0, description="assumed speed of fetching and decoding: audio seconds per second and core"
    )
    asr_rtfx_per_core: float = Field(
        2, gt=0, description="the same on CPUs, where there are no GPUs: audio seconds per second and core"
    )
    aligner_rtfx_per_core: float = Field(
        4, gt=0, description="the same on CPUs, where there are no GPUs: audio seconds per second and core"
    )
    gpus: int | None = Field(
        None,
        ge=1,
        description="number of GPUs to plan for; null: those of this machine; without any, the models run "
        "on CPUs",
    )
    cores: int | None = Field(
        None, ge=1, description="number of CPU cores to plan for; null: those of this machine"
    )
    gpu_hour_price: float = Field(2.5, ge=0, description="assumed price of one GPU hour")
    core_hour_price: float = Field(
        0.05, ge=0, description="assumed price of one core hour; counts only where there are no GPUs"
    )
    currency: str = Field("", description="currency of the prices, shown with the cost, such as EUR")
    run: str | None = Field(
        None,
        description="output directory of an earlier run, whose measured speeds replace the assumed ones",
    )
    gpu_type: str | None = Field(
        None,
        description="name of the GPUs to plan for, such as H200; only speeds that were measured on them are "
        "used; null: that of this machine's GPUs, or any if it has none and estimate.gpus is set",
    )


class ClusterConfig(Settings):
    """The Ray cluster."""

    address: str = Field(
        "local",
        description="local: start Ray on this machine; auto, ray://... or host:port: connect to that cluster",
    )
    num_cpus: int | None = Field(
        None, ge=1, description="local only: number of logical CPUs; null: the machine's cores plus two"
    )
    num_gpus: int | None = Field(
        None, ge=0, description="local only: number of GPUs; null: all that are found"
    )
    object_store_memory: Annotated[float, Field(gt=0.07)] | Literal["auto"] = Field(
        "auto",
        description="local only: memory for rows between stages, in GiB; auto: 1, on a machine with GPUs 2 "
        "and 2 more for each GPU, as far as its memory and shared memory allow",
    )
    decode_nodes: Literal["any", "cpu", "gpu"] = Field(
        "any", description="where decoding runs; cpu: on nodes without GPUs; gpu: on nodes with GPUs; any"
    )
    decode_labels: Labels = Field(
        {}, description="decode only on nodes with these labels; values as in pool.labels"
    )
    no_progress_timeout: int = Field(
        1200,
        ge=1,
        le=LONGEST_TIMEOUT,
        description="stop the run with an error after this many seconds without progress",
    )
    runtime_env: dict[str, Any] = Field(
        {}, description="runtime_env for ray.init, passed on unchanged (env_vars, working_dir, pip, ...)"
    )


class OutputConfig(Settings):
    """The result tables."""

    recordings_per_file: int = Field(
        2000, ge=1, description="largest number of recordings in one file of OUT/transcripts"
    )
    compression: Literal["zstd", "snappy", "gzip", "brotli", "lz4", "none"] = Field(
        "zstd", description="compression codec of the Parquet files"
    )


class ServeConfig(Settings):
    """The server: `scriptorium serve`."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; any other than loopback requires api_keys"
    )
    port: int = Field(
        8000,
        ge=0,
        le=65535,
        description="port to listen on; 0: a free port, which the first line of output names",
    )
    model_names: list[str] = Field(
        [],
        description="model names that clients may use, with any aliases; empty: the hub id, or the name of "
        "the "
        "model's folder, and OpenAI's names such as whisper-1",
    )
    lenient: bool = Field(
        False,
        description="ignore what cannot be done as asked (temperature, unknown languages and other values) "
        "and tell so in the header x-scriptorium-warning, instead of answering 400",
    )
    max_prompt: int = Field(
        10_000,
        ge=1,
        le=10_000,
        description="longest prompt of a request in characters; of longer ones the end is used, which the "
        "header x-scriptorium-warning tells",
    )
    api_keys: list[str] = Field(
        [],
        description="SHA-256 of each API key in hex, optionally with a name for the log (NAME:SHA256); "
        "empty: no authentication",
    )
    allow_anonymous: bool = Field(False, description="allow other addresses than loopback without api_keys")
    requests_per_minute: float | None = Field(
        None,
        gt=0,
        description="limit per API key (without keys: per client address), above which the answer is 429; "
        "null: no limit",
    )
    max_upload: float = Field(
        512,
        gt=0,
        description="largest request body in MiB; larger ones are refused before or while they are read",
    )
    max_audio: float = Field(
        14_400,
        gt=0,
        description="longest audio of a request in seconds; longer audio is refused before decoding if its "
        "header gives the duration",
    )
    max_requests: int = Field(
        128, ge=1, description="most requests in progress or waiting, above which the answer is 503"
    )
    max_streams: int = Field(64, ge=1, description="most realtime connections; further ones are refused")
    max_decoded: float = Field(
        3600,
        gt=0,
        description="most decoded audio held in memory for the models, in seconds (115 MB per hour)",
    )
    decoders: int | None = Field(
        None, ge=1, description="number of child processes that decode; null: one per core"
    )
    timeout: Timeout = Field(
        3600, description="time limit for a request, from its last byte to the response, in seconds"
    )
    upload_timeout: Timeout = Field(600, description="time limit for receiving a request body, in seconds")
    drain_timeout: float = Field(
        60,
        ge=0,
        le=LONGEST_TIMEOUT,
        description="time limit for finishing the requests in progress after SIGTERM, in seconds",
    )
    min_replicas: int = Field(
        1,
        ge=1,
        description="replicas of each model while idle; asr.pool.size and aligner.pool.size are the maximum",
    )
    call_seconds: float = Field(
        1.0,
        gt=0,
        description="longest intended model call with open streams, in seconds; four times that without",
    )
    stream_window: float = Field(
        16,
        ge=4,
        le=60,
        description="longest utterance of a realtime stream in seconds; longer ones are cut at a pause",
    )
    allowed_uris: list[str] = Field(
        [], description="http(s) URI prefixes that `audio_url` may name; empty: only data: URIs"
    )
    allowed_hosts: list[str] = Field(
        [],
        description="host names that clients may use; empty: any, but on loopback only loopback names",
    )
    cors_origins: list[str] = Field(
        [],
        description="origins of web pages that may call, such as https://example.org; empty: only the "
        "server's own page",
    )
    log_text: bool = Field(
        False,
        description="write transcripts to the access log, which otherwise contains no text and no audio",
    )

    @field_validator("api_keys")
    @classmethod
    def _hashed(cls, value: list[str]) -> list[str]:
        for number, entry in enumerate(value, 1):
            # The entry may be a key in clear text: the message does not repeat it.
            if not re.fullmatch(r"([\w.@ -]{1,60}:)?[0-9a-f]{64}", entry):
                raise ValueError(
                    f"entry {number} is no SHA-256 in hex: `printf %s KEY | sha256sum` makes one"
                )
        return value
