"""The settings of the guards, which flag what a model probably got wrong."""

from __future__ import annotations

from pydantic import Field

from actors.config.base import Settings


class GuardsConfig(Settings):
    """Flags for what a model probably got wrong: loops, cuts, inventions, leaks, wrong languages and times."""

    enabled: bool = Field(True, description="check texts and word times, and flag what is doubtful")
