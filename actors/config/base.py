"""The base of all settings sections, and what several sections have: types of fields, pools, storage."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

# Seconds: a week, which is as good as no limit. The clocks of poll, of threads and of stores overflow at 24
# days and more, each with an error of its own.
LONGEST_TIMEOUT = 604_800
Timeout = Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT)]

# A label's value, as in Kubernetes.
LABEL = r"[A-Za-z0-9](?:[\w.-]{0,61}[A-Za-z0-9])?"


class Settings(BaseModel):
    """Base of every settings section: frozen, and unknown names are refused."""

    # run.json is JSON, which has no infinity. In YAML a channel, a commit or a label may look like a number,
    # but is text.
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False, coerce_numbers_to_str=True
    )


def checked_labels(labels: dict[str, str]) -> dict[str, str]:
    """Check Ray's label selectors.

    Args:
        labels: selector by name of the label.

    Returns:
        The selectors without spaces, which Ray would take for a part of the value.

    Raises:
        ValueError: Ray would not understand a selector, and would say so only during the run.
    """
    for name, selector in labels.items():
        if not re.fullmatch(rf"([A-Za-z0-9.-]{{1,253}}/)?{LABEL}", name):
            raise ValueError(f"{name!r} cannot be the name of a label")
        if not re.fullmatch(rf"!?(in\({LABEL}(, ?{LABEL})*\)|{LABEL})", selector):
            raise ValueError(
                f"{name} must be VALUE, !VALUE, in(VALUE, ...) or !in(VALUE, ...), not {selector!r}"
            )
    return {name: selector.replace(" ", "") for name, selector in labels.items()}


Labels = Annotated[dict[str, str], AfterValidator(checked_labels)]


class PoolConfig(Settings):
    """The replicas of an actor, and what each of them takes from the cluster."""

    size: int | None = Field(
        None,
        ge=1,
        description="number of replicas; null: one for each GPU of the cluster (or for each `num_gpus` of "
        "them), one without GPUs",
    )
    num_gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs per replica; a fraction shares a GPU; null: 1 where the cluster has GPUs, else 0",
    )
    num_cpus: float = Field(
        0, ge=0, description="logical CPUs reserved per replica; 0 leaves all of them to decoding"
    )
    accelerator: str | None = Field(
        None,
        description="run only on nodes with GPUs of this type, in Ray's spelling (H100), or of these types "
        "(L4, A10G)",
    )
    labels: Labels = Field(
        {},
        description="run only on nodes with these labels; values are Ray's selectors: spot, !spot, in(a, b), "
        "!in(a, b)",
    )
    max_task_retries: int = Field(
        2, ge=0, description="how often a shard is retried, isolated, after the process that held it crashed"
    )

    @field_validator("num_gpus")
    @classmethod
    def _check_whole_gpus(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError(
                "more than one GPU per replica must be a whole number: Ray divides one GPU, not several"
            )
        return value

    @field_validator("accelerator")
    @classmethod
    def _check_accelerator(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(rf"{LABEL}(, ?{LABEL})*", value):
            raise ValueError(f"must be a type such as H100, or several such as L4, A10G, not {value!r}")
        return value


class StorageConfig(Settings):
    """Requests to stores: audio, manifests and the output directory."""

    retries: int = Field(
        8,
        ge=0,
        description="retries after a transient error, with exponential back-off and jitter: about a minute "
        "in all",
    )
    timeout: Timeout = Field(
        30, description="seconds without a response, or without its next byte, after which an attempt fails"
    )
