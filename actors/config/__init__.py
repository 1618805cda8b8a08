"""The settings of the actors, by section. Durations are in seconds, memory in GiB."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from actors.config.base import PoolConfig, Settings, Timeout
from actors.text.languages import language_set, normalize_language


class AudioConfig(Settings):
    """Fetching and decoding of audio."""

    channel: str = Field(
        "mix",
        description="mix | left | right | each | number of a channel from 0; a manifest's `channel` takes "
        "precedence",
    )
    track: str = Field(
        "auto",
        description="audio track of files with several: auto: the one that FFmpeg selects, and the next one "
        "where that is silent | number from 0 | each | mix; a manifest's `track` takes precedence",
    )
    timeout: Timeout = Field(600, description="time limit for fetching and decoding one shard, in seconds")
    max_memory: float = Field(
        4, gt=0, le=1_000_000, description="memory limit for decoding one shard, in GiB"
    )
    isolate: bool = Field(
        True, description="decode in a child process, so that a crash or a hang fails only one row"
    )
    retries: int | None = Field(
        None, ge=0, description="retries after a storage error while audio is read; null: storage.retries"
    )
    num_cpus: float = Field(1, gt=0, description="logical CPUs of one decoding task")

    @field_validator("channel")
    @classmethod
    def _check_channel(cls, value: str) -> str:
        is_number = value.isascii() and value.isdigit() and len(value) <= 3
        if value not in ("mix", "left", "right", "each") and not is_number:
            raise ValueError(f"channel must be mix, left, right, each or a number from 0, not {value!r}")
        return value

    @field_validator("track")
    @classmethod
    def _check_track(cls, value: str) -> str:
        is_number = value.isascii() and value.isdigit() and len(value) <= 3
        if value not in ("auto", "each", "mix") and not is_number:
            raise ValueError(f"track must be auto, each, mix or a number from 0, not {value!r}")
        return value


class SegmenterConfig(Settings):
    """How recordings are cut into segments, the inputs of the models."""

    backend: Literal["hybrid", "energy", "silero"] = Field(
        "hybrid",
        description="energy: removes silence, without a model; hybrid: also removes noise, and music "
        "without a voice, by a VAD model where needed (extra `vad`; without it, and with the fake "
        "recogniser, energy); "
        "silero: the VAD model decides",
    )
    max_duration: float = Field(
        60,
        ge=1,
        le=1200,
        description="longest segment in seconds, never exceeded; at most 180 where words are requested",
    )
    min_silence: float = Field(
        0.5, ge=0.1, description="shortest silence in seconds that may be dropped or cut at"
    )
    speech_pad: float = Field(0.2, ge=0, description="seconds of audio kept before and after speech")
    silence_dbfs: float = Field(
        -50,
        le=-20,
        description="level in dB relative to full scale above which audio is never proven silence",
    )
    vad_threshold: float = Field(
        0.5, gt=0, lt=1, description="silero: speech probability from which a frame is speech"
    )


class VLLMConfig(Settings):
    """The engine vLLM: `backend: vllm` (extra `vllm`). It makes its own batches and ignores max_batch_*."""

    max_num_seqs: int | None = Field(
        None,
        ge=1,
        description="segments processed at once; null: 256 (aligner: 32), on a CPU 16 (aligner: 2)",
    )
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        le=1,
        description="fraction of a GPU's memory per replica; null: nine tenths of its share (pool.num_gpus)",
    )
    max_duration: float | None = Field(
        None,
        gt=0,
        description="longest segment in seconds, which determines vLLM's token limits; null: the segmenter's",
    )
    engine: dict[str, Any] = Field(
        {},
        description="further arguments of vLLM's engine, passed unchanged (kv_cache_dtype, quantization, "
        "max_model_len ...)",
    )


class ModelConfig(Settings):
    """The settings that the recogniser and the aligner share."""

    kind: ClassVar[Literal["asr", "aligner"]]
    revision: str | None = Field(None, description="revision on the hub (branch, tag or commit)")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N")
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="auto: bf16 where the device is fast at it, else fp32 (fp16 on older GPUs, fp64 for tiny "
        "models on CPUs); int8: the language model in 8 bits, on CPUs only, faster than fp32, but texts may "
        "depend a little on the other segments of a batch",
    )
    attention: Literal["auto", "triton", "flash", "sdpa"] = Field(
        "auto",
        description="kernels of backend transformers; auto: flash attention and Triton's kernels on GPUs "
        "from Ampere on in half precision where they work, sdpa elsewhere; triton: both, or an error that "
        "says why not; flash: flash attention without Triton, or an error; sdpa: torch's operations only",
    )
    max_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="segments per model call; auto: 256 on a GPU (aligner: 64), 128 on a CPU (aligner: 16)",
    )
    max_batch_seconds: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="padded seconds per model call, which determine its memory; auto: by the memory of the "
        "GPU (960 on 16 GB, 1,920 on 24, 7,680 on 80, 15,360 on 141; aligner: 1,920), 960 on a CPU (aligner: "
        "480)",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads per replica; null: the cores, divided among the pools"
    )
    timeout: Timeout | None = Field(
        None,
        description="seconds after which a model call counts as hung and its process is replaced; null: 600, "
        "plus 0.1 (on a CPU 10) for each second of its audio",
    )
    pool: PoolConfig = PoolConfig()
    vllm: VLLMConfig = VLLMConfig()

    @field_validator("attention", mode="before")
    @classmethod
    def _rename_attention(cls, value: Any) -> Any:
        """Accept the names of version 0.1.0, which had transformers' own kernels."""
        former = {"eager": "sdpa", "flash_attention_2": "auto"}
        return former.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_attention(self) -> ModelConfig:
        if self.attention in ("triton", "flash"):
            for name, given in (("device", self.device), ("dtype", self.dtype)):
                if given in ("cpu", "float64", "float32", "int8"):
                    raise ValueError(
                        f"attention {self.attention} is for GPUs in half precision, and {name} is {given}"
                    )
        return self

    def _fit_vllm(self, model: str) -> None:
        """Refuse settings that vLLM does not support, and replace the default model by one that it reads."""
        supported = {"dtype": ("auto", "float32", "bfloat16", "float16"), "attention": ("auto",)}
        for name, values in supported.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"{name} {getattr(self, name)} is for backend transformers; with vllm it must be "
                    f"{' or '.join(values)}"
                )
        if "model" not in self.model_fields_set:
            object.__setattr__(self, "model", model)


class RemoteConfig(Settings):
    """A server as the recogniser: `backend: openai` (extra `openai`). Its former name is `openai`."""

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="URL of the server, including /v1 or its equivalent"
    )
    endpoint: Literal["chat", "transcriptions", "dashscope", "dashscope-files", "dashscope-realtime"] = Field(
        "chat",
        description="chat: /chat/completions of vLLM, SGLang, our own server; transcriptions: "
        "/audio/transcriptions; dashscope: DashScope's compatible mode; dashscope-files, dashscope-realtime: "
        "DashScope's own APIs",
    )
    key_variable: str = Field(
        "OPENAI_API_KEY",
        description="name of the environment variable with the API key, in the processes that send the "
        "requests; where it is unset, no key is sent",
    )
    concurrency: int = Field(
        16,
        ge=1,
        description="requests in progress at a time, per replica; raise max_batch_seconds with it: 960 are "
        "16 segments of 60 s",
    )
    retries: int = Field(
        8,
        ge=0,
        description="retries of a segment after transient errors; a server's request to wait is not counted",
    )
    timeout: Timeout = Field(120, description="time limit for one request, in seconds")
    patience: Timeout = Field(
        300, description="give up pending requests after this many seconds without a successful response"
    )

    @field_validator("base_url")
    @classmethod
    def _check_base_url(cls, value: str) -> str:
        # The descriptions of DashScope's real-time API have ws:// and wss://.
        value = re.sub(r"^ws(s?)://", r"http\1://", value)
        # The value may contain a password, so the message does not repeat it.
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#@]*)?", value):
            raise ValueError("must be http(s)://HOST[:PORT]/PATH, without user, password, query or fragment")
        return value.rstrip("/")

    @field_validator("key_variable")
    @classmethod
    def _check_key_variable(cls, value: str) -> str:
        # The value may be the key itself, so the message does not repeat it.
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,99}", value):
            raise ValueError("must be the name of an environment variable, not the key itself")
        return value


class ASRConfig(ModelConfig):
    """Speech recognition."""

    kind: ClassVar[Literal["asr", "aligner"]] = "asr"
    backend: Literal["transformers", "vllm", "openai", "fake"] = Field(
        "transformers", description="engine that runs the model; openai: any remote server, see `remote`"
    )
    model: str = Field(
        "Qwen/Qwen3-ASR-0.6B-hf",
        description="hub id or folder of the checkpoint; the default with vllm is Qwen/Qwen3-ASR-0.6B",
    )
    language: str | None = Field(
        None,
        description="force this language (name or ISO code); null: the model decides; a manifest's "
        "`language` takes precedence",
    )
    languages: list[str] = Field(
        [],
        description="languages that are expected (names or ISO codes); a segment in another one is decoded "
        "again in the most probable of these; empty: all; a manifest's `languages` takes precedence",
    )
    context: str = Field(
        "", description="background text for every segment; a manifest's `context` takes precedence"
    )
    max_tokens_per_second: float = Field(
        10, gt=0, description="token limit of a segment: this many for each second of its audio ..."
    )
    min_tokens: int = Field(48, ge=1, description="... plus this many")
    calibration: str | None = Field(
        None,
        description="file of `scriptorium evaluate --write-calibration`, a path or URI, which turns the "
        "confidences of transcripts into shares of right words; null: as the model has them",
    )
    compatible: bool = Field(
        False, description="parse outputs exactly as the reference package does, including its known defects"
    )
    remote: RemoteConfig = RemoteConfig()

    @field_validator("language")
    @classmethod
    def _check_language(cls, value: str | None) -> str | None:
        return normalize_language(value)

    @field_validator("languages", mode="before")
    @classmethod
    def _check_languages(cls, value: Any) -> Any:
        return list(language_set(value)) if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _fit_languages(self) -> ASRConfig:
        if self.language and self.languages and self.language not in self.languages:
            raise ValueError(f"language {self.language} is none of languages: {', '.join(self.languages)}")
        return self

    @model_validator(mode="after")
    def _fit_backend(self) -> ASRConfig:
        if self.backend == "vllm":
            self._fit_vllm("Qwen/Qwen3-ASR-0.6B")
        if self.backend == "openai" and self.pool.num_gpus is None:
            object.__setattr__(self, "pool", self.pool.model_copy(update={"num_gpus": 0}))
        return self


class AlignerConfig(ModelConfig):
    """Forced alignment: word times."""

    kind: ClassVar[Literal["asr", "aligner"]] = "aligner"
    backend: Literal["transformers", "vllm", "fake", "none"] = Field(
        "transformers", description="engine that runs the model; none: no word times"
    )
    model: str = Field(
        "Qwen/Qwen3-ForcedAligner-0.6B-hf",
        description="hub id or folder of the checkpoint; the default with vllm is "
        "Qwen/Qwen3-ForcedAligner-0.6B, as vllm reads no -hf aligner",
    )
    refine: float | None = Field(
        None,
        gt=0,
        le=1,
        description="a segment is aligned again, in two parts, where word times and sound disagree for this "
        "share of it; null: never",
    )

    @model_validator(mode="after")
    def _fit_backend(self) -> AlignerConfig:
        if self.backend == "vllm":
            self._fit_vllm("Qwen/Qwen3-ForcedAligner-0.6B")
        return self
