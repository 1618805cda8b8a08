"""The settings of the repair: what is done about segments whose text is doubtful, and how much of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from actors.config import ASRConfig, RemoteConfig, VLLMConfig
from actors.config.base import PoolConfig, Settings
from actors.text.languages import code_of, normalize_language

# The languages in which the smaller model is weak, by the tables of the technical report (arXiv 2601.21337).
WEAK_LANGUAGES = ("cs", "da", "el", "fa", "fi", "fil", "hu", "mk", "ro", "sv")
_WEAK = "weak"
# Settings of `asr` that depend on its engine; another engine has its defaults.
_OF_ENGINE = ("device", "dtype", "attention", "max_batch_size", "max_batch_seconds", "threads", "timeout")


class RepairConfig(Settings):
    """Doubtful segments are decoded again in other ways, and the best text is kept: see docs/repair.md."""

    enabled: bool = Field(True, description="repair doubtful segments; false switches all of this off")
    max_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="most audio that is decoded again, as a share of the run's audio; what `languages` sends "
        "to the second model does not count",
    )
    repetition_penalty: float = Field(
        1.05,
        ge=1,
        le=2,
        description="penalty for repeated tokens in the third step; 1: no such step",
    )
    second_look: bool = Field(
        True,
        description="decode segments again of which only the word times show that their text is wrong, in a "
        "pass after the first one; with `model` that one hears them",
    )
    model: str | None = Field(
        None,
        description="second model, for what the other steps do not repair: hub id or folder; null: none; its "
        "replicas only start where something needs them",
    )
    backend: Literal["transformers", "vllm", "openai", "fake"] | None = Field(
        None, description="engine that runs the second model; null: that of asr"
    )
    revision: str | None = Field(None, description="revision of the second model on the hub")
    languages: list[str] = Field(
        [],
        description="languages whose segments all go to the second model (names or ISO codes); weak: those "
        "in which the 0.6B model is weak (cs, da, el, fa, fi, fil, hu, mk, ro, sv)",
    )
    remote: RemoteConfig = RemoteConfig()
    pool: PoolConfig = PoolConfig()
    vllm: VLLMConfig = VLLMConfig()

    @field_validator("languages", mode="before")
    @classmethod
    def _read_languages(cls, value: Any) -> Any:
        entries = [part for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            return value
        codes: list[str] = []
        for entry in entries:
            code = code_of(normalize_language(entry)) if entry.strip().lower() != _WEAK else None
            codes += [code] if code else WEAK_LANGUAGES
        return list(dict.fromkeys(codes))

    @model_validator(mode="after")
    def _check_second_model(self) -> RepairConfig:
        given = [name for name in ("backend", "revision", "languages") if getattr(self, name)]
        if given and self.model is None:
            raise ValueError(f"{', '.join(given)}: these are for a second model: set repair.model")
        return self

    def second_model(self, asr: ASRConfig) -> ASRConfig | None:
        """Settings of the second model as a recogniser; None without one.

        Args:
            asr: settings of the first model, which the second one shares where it has none of its own.

        Raises:
            ValueError: the engine does not support them.
        """
        if not self.enabled or self.model is None:
            return None
        backend = self.backend or asr.backend
        values = asr.model_dump(exclude_unset=True)
        if backend != asr.backend:
            values = {name: value for name, value in values.items() if name not in _OF_ENGINE}
        own = self.model_dump(include={"remote", "pool", "vllm"}, exclude_unset=True)
        if backend != asr.backend or "pool" not in own:
            values.pop("pool", None)
        second = {"backend": backend, "model": self.model, "revision": self.revision}
        return ASRConfig.model_validate({**values, **own, **second})

    def identity(self) -> dict[str, Any]:
        """What of it determines the output; empty where it is switched off."""
        if not self.enabled:
            return {}
        names = {"max_share", "repetition_penalty", "model", "backend", "revision", "languages"}
        values = self.model_dump(mode="json", include=names, exclude_none=True)
        # Versions without a second look are not told apart from those with it.
        return values if self.second_look else {**values, "second_look": False}
