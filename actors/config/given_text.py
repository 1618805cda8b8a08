"""The settings of texts that the manifest gives."""

from __future__ import annotations

from pydantic import Field

from actors.config.base import Settings


class GivenTextConfig(Settings):
    """Texts that the manifest gives, for `align`."""

    verify: bool = Field(
        True,
        description="recognise every recording, to find what of its text is said; false: only recordings of "
        "several segments or without a language are recognised, and all of the text counts as said",
    )
