"""Settings of what runs inside workers: typed, frozen, unknown names refused. Durations in seconds, memory in GiB."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from actors.text.languages import normalize_language

# A week is as good as no limit; clocks of poll, of threads and of stores end at 24 days and more, each with an error of its own.
LONGEST = 604_800
Timeout = Annotated[float, Field(gt=0, le=LONGEST)]


class Settings(BaseModel):
    """Base of every settings section."""

    # Infinity is no JSON, as run.json is. In YAML a channel, a commit or a label may look like a number, and is text all the same.
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, coerce_numbers_to_str=True
    )


_LABEL = r"[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"  # as in Kubernetes


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """Label selectors of Ray's, by label.

    Raises:
        ValueError: Ray would not understand one, and say so only when the run is under way.
    """
    for name, wanted in labels.items():
        if not re.fullmatch(rf"([A-Za-z0-9.-]{{1,253}}/)?{_LABEL}", name):
            raise ValueError(f"{name!r} cannot be the name of a label")
        if not re.fullmatch(rf"!?(in\({_LABEL}(, ?{_LABEL})*\)|{_LABEL})", wanted):
            raise ValueError(
                f"{name} must be VALUE, !VALUE, in(VALUE, ...) or !in(VALUE, ...), not {wanted!r}"
            )
    return {
        name: wanted.replace(" ", "") for name, wanted in labels.items()
    }  # Ray takes a space for a part of the value


Labels = Annotated[dict[str, str], AfterValidator(checked_labels)]


class PoolConfig(Settings):
    """How many replicas of an actor run, and what each takes from the cluster."""

    size: int | None = Field(
        None,
        ge=1,
        description="replicas; null: one for each GPU of the cluster (or each `num_gpus` of them), or one where there is none",
    )
    num_gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs a replica; fractions share a card; null: 1 where the cluster has GPUs, else 0",
    )
    num_cpus: float = Field(
        0, ge=0, description="logical CPUs that a replica reserves; 0 keeps them all for decoding"
    )
    accelerator: str | None = Field(
        None,
        description="only on nodes with GPUs of this type, as Ray names it (such as H100), or these: L4, A10G",
    )
    labels: Labels = Field(
        {},
        description="only on nodes with these labels; values as in Ray's selectors: spot, !spot, in(a, b), !in(a, b)",
    )
    max_task_retries: int = Field(
        2, ge=0, description="how often a shard is tried again, alone, when the process died that had it"
    )

    @field_validator("num_gpus")
    @classmethod
    def _whole_cards(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError(
                "more than one GPU a replica must be whole ones: Ray divides one card, not several"
            )
        return value

    @field_validator("accelerator")
    @classmethod
    def _types(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(rf"{_LABEL}(, ?{_LABEL})*", value):
            raise ValueError(f"must be a type such as H100, or several such as L4, A10G, not {value!r}")
        return value


class StorageConfig(Settings):
    """Asking stores: audio, manifests and the output directory."""

    retries: int = Field(
        8,
        ge=0,
        description="attempts after an error that may pass, with exponential back-off and jitter: about a minute",
    )
    timeout: Timeout = Field(
        30,
        description="seconds without an answer, or without another byte of it, after which an attempt has failed",
    )


class AudioConfig(Settings):
    """Fetching and decoding."""

    channel: str = Field(
        "mix", description="mix | left | right | each | a channel number from 0; a manifest's `channel` wins"
    )
    timeout: Timeout = Field(600, description="seconds that one shard may take to fetch and decode")
    max_memory: float = Field(
        4, gt=0, le=1_000_000, description="GiB that the decoding of one shard may take"
    )
    isolate: bool = Field(
        True, description="decode in a child process, so that a crash or a hang costs one row"
    )
    retries: int | None = Field(
        None, ge=0, description="attempts after a storage error while audio is read; null: storage.retries"
    )
    num_cpus: float = Field(1, gt=0, description="logical CPUs of one decoding task")

    @field_validator("channel")
    @classmethod
    def _known_channel(cls, value: str) -> str:
        if value not in ("mix", "left", "right", "each") and not (
            value.isascii() and value.isdigit() and len(value) <= 3
        ):
            raise ValueError(f"channel must be mix, left, right, each or a number from 0, not {value!r}")
        return value


class SegmenterConfig(Settings):
    """Where recordings are cut into model inputs."""

    backend: Literal["energy", "silero"] = Field(
        "energy", description="energy: fast, no model; silero: a VAD model (extra `vad`)"
    )
    max_duration: float = Field(
        60,
        ge=1,
        le=1200,
        description="longest segment in seconds, never exceeded; at most 180 where words are wanted",
    )
    min_silence: float = Field(0.5, ge=0.1, description="seconds of quiet that may be dropped or cut at")
    speech_pad: float = Field(0.2, ge=0, description="seconds of audio kept on both sides of speech")
    silence_dbfs: float = Field(
        -60, le=-20, description="louder than this is never proven silence (dB relative to full scale)"
    )
    vad_threshold: float = Field(
        0.5, gt=0, lt=1, description="silero: speech probability from which a frame is speech"
    )


class VLLMConfig(Settings):
    """vLLM as the engine: `backend: vllm` (extra `vllm`). It makes its own batches: max_batch_size and max_batch_seconds mean nothing to it."""

    max_num_seqs: int | None = Field(
        None,
        ge=1,
        description="segments that it works on at once; null: 256 (aligner: 32), on a CPU 16 (aligner: 2)",
    )
    gpu_memory_utilization: float | None = Field(
        None,
        gt=0,
        le=1,
        description="part of a card's memory that a replica takes; null: nine tenths of its share (pool.num_gpus)",
    )
    max_duration: float | None = Field(
        None,
        gt=0,
        description="longest segment in seconds, from which its limits in tokens follow; null: that of the segmenter",
    )
    engine: dict[str, Any] = Field(
        {},
        description="further arguments of vLLM's engine as they are (kv_cache_dtype, quantization, max_model_len ...)",
    )


class ModelConfig(Settings):
    """What ASR and aligner have in common."""

    kind: ClassVar[Literal["asr", "aligner"]]
    revision: str | None = Field(None, description="hub revision (branch, tag or commit)")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:N")
    dtype: Literal["auto", "float64", "float32", "bfloat16", "float16", "int8"] = Field(
        "auto",
        description="auto: bf16 where the device is fast at it, else fp32 (fp16 on older GPUs, fp64 for tiny models on CPUs); int8: language "
        "model in 8 bits, CPUs only, faster than fp32, but texts may differ a little with what else is in a batch",
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        "auto", description="auto: sdpa, and flash_attention_2 for the audio encoder where it is installed"
    )
    max_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="segments in one model call; auto: 256 on a GPU (aligner: 64), 128 on a CPU (aligner: 16)"
    )
    max_batch_seconds: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="padded seconds in one model call, memory grows with it; auto: by the memory of the GPU (960 on "
        "16 GB, 1,920 on 24, 7,680 on 80, 15,360 on 141; aligner: 1,920), 960 on a CPU (aligner: 480)",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads of a replica; null: the cores divided among the pools"
    )
    timeout: Timeout | None = Field(
        None,
        description="seconds after which a model call counts as hung and its process is replaced; null: 600, and 0.1 (on a CPU 10) for each "
        "second of audio in it",
    )
    pool: PoolConfig = PoolConfig()
    vllm: VLLMConfig = VLLMConfig()

    def _fit_vllm(self, model: str) -> None:
        """Refuse what vLLM has not; where no model was named, take one that it reads."""
        for name, known in (("dtype", ("auto", "float32", "bfloat16", "float16")), ("attention", ("auto",))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)} is for backend transformers; with vllm it must be {' or '.join(known)}"
                )
        if "model" not in self.model_fields_set:
            object.__setattr__(self, "model", model)


class RemoteConfig(Settings):
    """A server with OpenAI's API as the recogniser: `backend: openai` (extra `openai`)."""

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="the server's address, with the /v1 or what it has instead"
    )
    endpoint: Literal["chat", "transcriptions", "dashscope", "dashscope-files", "dashscope-realtime"] = Field(
        "chat",
        description="chat: /chat/completions of vLLM, SGLang, our own server; transcriptions: /audio/transcriptions; dashscope: its compatible "
        "mode; dashscope-files, dashscope-realtime: its own APIs",
    )
    key_variable: str = Field(
        "OPENAI_API_KEY",
        description="name of the environment variable, of the processes that ask, with the key; unset: none is sent",
    )
    concurrency: int = Field(
        16,
        ge=1,
        description="requests under way at a time, of each replica; raise max_batch_seconds with it: 960 are 16 segments of 60 s",
    )
    retries: int = Field(
        8,
        ge=0,
        description="further attempts for a segment after errors that may pass; being told to wait is not counted",
    )
    timeout: Timeout = Field(120, description="seconds that one request may take")
    patience: Timeout = Field(
        300, description="seconds without any good answer after which what waits is given up"
    )

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, value: str) -> str:
        value = re.sub(r"^ws(s?)://", r"http\1://", value)  # as DashScope's real-time API is described
        if not re.fullmatch(
            r"https?://[^\s/?#@]+(/[^\s?#@]*)?", value
        ):  # the value may hold a password: it is not repeated
            raise ValueError("must be http(s)://HOST[:PORT]/PATH, without user, password, query or fragment")
        return value.rstrip("/")

    @field_validator("key_variable")
    @classmethod
    def _name_of_variable(cls, value: str) -> str:
        if not re.fullmatch(
            r"[A-Za-z_][A-Za-z0-9_]{0,99}", value
        ):  # it may be the key itself: it is not repeated
            raise ValueError("must be the name of an environment variable, not the key itself")
        return value


class ASRConfig(ModelConfig):
    """Recognition."""

    kind: ClassVar[Literal["asr", "aligner"]] = "asr"

    backend: Literal["transformers", "vllm", "openai", "fake"] = Field(
        "transformers", description="the engine that runs the model"
    )
    model: str = Field(
        "Qwen/Qwen3-ASR-0.6B-hf",
        description="hub id or folder of the checkpoint; with vllm Qwen/Qwen3-ASR-0.6B by default",
    )
    language: str | None = Field(
        None,
        description="force this language (name or ISO code); null: the model decides, a manifest's `language` wins",
    )
    context: str = Field("", description="background text for every segment; a manifest's `context` wins")
    max_tokens_per_second: float = Field(
        10, gt=0, description="token budget of a segment: this many for each of its seconds ..."
    )
    min_tokens: int = Field(48, ge=1, description="... and this many on top")
    compatible: bool = Field(
        False, description="parse exactly as the reference package does, its known defects included"
    )
    remote: RemoteConfig = RemoteConfig()

    @field_validator("language")
    @classmethod
    def _known_language(cls, value: str | None) -> str | None:
        return normalize_language(value)

    @model_validator(mode="after")
    def _backend_fits(self) -> ASRConfig:
        if self.backend == "vllm":
            self._fit_vllm("Qwen/Qwen3-ASR-0.6B")
        if self.backend == "openai" and self.pool.num_gpus is None:
            object.__setattr__(self, "pool", self.pool.model_copy(update={"num_gpus": 0}))
        return self


class AlignerConfig(ModelConfig):
    """Word times."""

    kind: ClassVar[Literal["asr", "aligner"]] = "aligner"

    backend: Literal["transformers", "vllm", "fake", "none"] = Field(
        "transformers", description="none: no word times"
    )
    model: str = Field(
        "Qwen/Qwen3-ForcedAligner-0.6B-hf",
        description="hub id or folder of the checkpoint; with vllm Qwen/Qwen3-ForcedAligner-0.6B by default, as it reads no -hf aligner",
    )

    @model_validator(mode="after")
    def _backend_fits(self) -> AlignerConfig:
        if self.backend == "vllm":
            self._fit_vllm("Qwen/Qwen3-ForcedAligner-0.6B")
        return self
