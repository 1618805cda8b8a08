"""Speakers of uploaded files: the speaker model runs in the server's own process, on its CPUs or a GPU."""

from __future__ import annotations

import asyncio

from actors.config.speakers import SpeakersConfig
from actors.records import Row
from actors.speakers.actor import SpeakerActor


class SpeakerFinder:
    """Finds turns and voices in decoded shards, one shard at a time, outside of the event loop.

    Args:
        config: settings of speakers; without a backend nothing is found.
        channel: the setting `audio.channel`.
    """

    def __init__(self, config: SpeakersConfig, channel: str) -> None:
        self._config, self._channel = config, channel
        self._actor: SpeakerActor | None = None
        self._one_at_a_time = asyncio.Lock()

    async def find(self, decoded: Row) -> Row:
        """A DECODED row with its turns and voices.

        Raises:
            FatalError: the speaker model cannot be loaded.
        """
        if self._config.backend == "none":
            return decoded
        async with self._one_at_a_time:
            return await asyncio.to_thread(self._find, decoded)

    def load(self) -> None:
        """Load the model now, so that a server that cannot have it does not start.

        Raises:
            FatalError: the speaker model cannot be loaded; the message says what to do.
        """
        if self._config.backend != "none" and self._actor is None:
            self._actor = SpeakerActor(self._config, self._channel)

    def _find(self, decoded: Row) -> Row:
        self.load()
        assert self._actor is not None
        [row] = self._actor([decoded])
        return row
