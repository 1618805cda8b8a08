"""One uploaded file to its transcript: the stages of the job, over the same actors' code, for one recording.

plan (header only) ─► decode (child process) ─► recognise ─► align (models that all requests share) ─► stitch
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from actors.aligner import aligned_row, without_words
from actors.asr import recognised_row, segment_requests
from actors.errors import UsageError
from actors.records import Hypothesis, Row, SegmentRequest, SegmentRow
from pipelines import __version__
from pipelines.config import RunConfig
from pipelines.manifests.columns import Recording
from pipelines.planning import planner
from pipelines.serving.inference.decoder_pool import Budget, Decoders, Taken
from pipelines.serving.inference.model_client import Models, gathered
from pipelines.serving.inference.partial_text import OnText, PartialText
from pipelines.stitching import stitch

log = logging.getLogger(__name__)

_NOTHING = Hypothesis(text="", language=None)
SHARDS_AT_ONCE = 2  # of one request: one in the models, the next one being decoded
SEGMENTS_AT_ONCE = (
    16  # of one request in the models: what comes later from others is not to wait for all of a long file
)
_NOT_ONE_PIECE = "the beginning of the text can only be given for audio that is one segment: it has several, or is longer than one may be"


class TooLong(UsageError):
    """A file with more audio than a request may have."""


class NotOnePiece(UsageError):
    """A file that is cut, of which the text's beginning was given: whose piece it is nobody knows."""


@dataclass(frozen=True)
class TranscriptionRequest:
    """What a client asks for about one file."""

    path: str  # local, ours
    language: str | None = None  # ISO code; None: the model decides
    context: str | None = None
    beginning: str = ""  # of the text, from which the model is to go on
    words: bool = True  # whether their times are wanted


class Transcriber:
    """Files to transcripts. All calls from one event loop.

    Args:
        config: the same as a run's; a file sent here and the same file in a run with these settings have the same transcript.
        models: the way to the models.
    """

    def __init__(self, config: RunConfig, models: Models) -> None:
        # What a client sent is ours by then: the rules about what a manifest may name are not about it.
        self._config = config.model_copy(update={"plan": config.plan.model_copy(update={"allowed_uris": []})})
        self._models = models
        self._decoders = Decoders(
            config.audio, config.segmenter, config.serve.decoders, config.plan.probe_timeout
        )
        self._decoded = Budget(config.serve.max_decoded)
        self._facts: dict[str, str | None] | None = None

    async def transcribe(self, wish: TranscriptionRequest, on_text: OnText | None = None) -> Row:
        """Transcribe a file.

        Args:
            wish: what and how.
            on_text: called whenever the text known so far has grown at its end.

        Returns:
            A TRANSCRIPT row, or a DEAD_LETTER row (it has `error_code`).

        Raises:
            TooLong: it has more audio than `serve.max_audio`.
            NotOnePiece: the text's beginning was given, and the file has several segments.
        """
        if self._facts is None:
            self._facts = await self._models.facts()
        shards = await self._decoders.plan(lambda probe: _planned(wish, self._config, probe))
        self._check_length(shards[0]["duration"])
        if wish.beginning and len(shards) > 1:
            raise NotOnePiece(_NOT_ONE_PIECE)
        # Shards may overlap, and what is said twice then is found by its words.
        words = wish.words or len(shards) > 1
        progress = PartialText(len(shards), on_text)
        at_once = asyncio.Semaphore(SHARDS_AT_ONCE)
        places = asyncio.Semaphore(SEGMENTS_AT_ONCE)

        async def one(shard: Row) -> Row:
            async with at_once, self._decoded.take(_seconds(shard)) as held:
                return await self._shard(shard, held, wish.beginning, words, places, progress)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(shard)) for shard in shards]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        rows = [task.result() for task in tasks]
        return await asyncio.to_thread(stitch, rows, config_hash=self._config.hash(), version=__version__)

    async def _shard(
        self,
        shard: Row,
        held: Taken,
        beginning: str,
        words: bool,
        places: asyncio.Semaphore,
        progress: PartialText,
    ) -> Row:
        """A PLAN row to a SHARD row."""
        decoded = await self._decoders.decode(shard)
        held.correct(_seconds_in(decoded))  # a header says what it likes
        if decoded["status"] != "error":
            self._check_length(decoded["decoded_end"])
        requests = segment_requests(decoded, self._config.asr)
        if beginning and isinstance(requests, list):
            if len(requests) > 1:
                raise NotOnePiece(_NOT_ONE_PIECE)
            requests = [replace(request, prefix=beginning) for request in requests]
        progress.begin(decoded["segments"] if isinstance(requests, list) else [], decoded["index"])

        async def recognise(number: int, request: SegmentRequest) -> Hypothesis:
            try:
                async with places:
                    hypothesis = await self._models.recognise(request)
            except Exception:  # it is flagged, and costs itself only: what follows is to be told
                progress.heard(decoded["index"], number, _NOTHING)
                raise
            progress.heard(decoded["index"], number, hypothesis)
            return hypothesis

        async def align(segment: SegmentRow) -> Any:
            if not words:
                return without_words(segment), None
            async with places:
                return await self._models.align(segment)

        if isinstance(requests, UsageError):
            row = recognised_row(decoded, requests)
        else:
            row = recognised_row(
                decoded, _only_errors(await gathered([recognise(*one) for one in enumerate(requests)]))
            )
        finished = await gathered([align(segment) for segment in row["segments"]])
        for result in finished:
            if isinstance(result, BaseException):
                raise result
        assert self._facts is not None
        return {**aligned_row(row, finished), **self._facts, "run_id": None, "created_at": datetime.now(UTC)}

    def _check_length(self, seconds: float | None) -> None:
        most = self._config.serve.max_audio
        if seconds is not None and seconds > most:
            raise TooLong(
                f"the file has {seconds:.0f} s of audio, a request may have {most:g}: cut it, or use `scriptorium transcribe`"
            )

    def close(self) -> None:
        """End the child processes."""
        self._decoders.close()


def _planned(wish: TranscriptionRequest, config: RunConfig, probe: Callable[..., Any]) -> list[Row]:
    """PLAN rows of one file."""
    recording = Recording(
        id=uuid.uuid4().hex,
        audio=wish.path,
        language=wish.language,
        context=wish.context,
        text=None,
        duration=None,
        channel=None,
        metadata={},
        origin="upload",
    )
    rows: list[Row] = (
        planner.plan_table([recording], config, probe=probe).drop_columns("probe_error").to_pylist()
    )
    return rows


def _seconds(shard: Row) -> float:
    """Of audio in a planned shard; an unknown length counts as a minute."""
    end = shard["end"] if shard["end"] is not None else shard["duration"]
    return float(end - shard["start"]) if end is not None else 60.0


def _seconds_in(decoded: Row) -> float:
    """Of audio in a decoded shard, in all of its channels."""
    return float(sum(segment["end"] - segment["start"] for segment in decoded["segments"]))


def _only_errors(results: list[Any]) -> list[Hypothesis | Exception]:
    """The same results, unless there is one that means this program and not a segment."""
    for result in results:
        if isinstance(result, Exception):
            log.warning("a segment could not be recognised: %s: %s", type(result).__name__, str(result)[:500])
        elif isinstance(result, BaseException):
            raise result
    return results
