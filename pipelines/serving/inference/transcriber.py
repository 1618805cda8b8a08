"""Transcribes one uploaded file, with the stages and actors of a batch run.

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
from pipelines.output import calibrations
from pipelines.planning import planner
from pipelines.serving.inference.decoder_pool import Budget, DecoderPool, Reservation
from pipelines.serving.inference.model_client import ModelClient, gather_results
from pipelines.serving.inference.partial_text import OnText, PartialText
from pipelines.serving.inference.speakers import SpeakerFinder
from pipelines.speakers.enrolled import speaker_settings
from pipelines.stitching import stitch_with_speakers

log = logging.getLogger(__name__)

_EMPTY = Hypothesis(text="", language=None)
MAX_CONCURRENT_SHARDS = 2  # of one request: one in the models, while the next one is decoded
# Of one request in the models: requests that arrive later must not wait for the whole of a long file.
MAX_CONCURRENT_SEGMENTS = 16
_SEVERAL_SEGMENTS = (
    "a text prefix can only be given for audio that is one segment: this audio has several segments, "
    "or is longer than the longest segment"
)


class AudioTooLong(UsageError):
    """The file has more audio than a request may have."""


class SeveralSegments(UsageError):
    """A text prefix was given, but the file has several segments; the prefix could belong to any of them."""


@dataclass(frozen=True)
class TranscriptionRequest:
    """The file to transcribe, and how."""

    path: str  # local, chosen by the server
    language: str | None = None  # ISO code; None: detected by the model
    context: str | None = None
    prefix: str = ""  # beginning of the text, which the model continues
    words: bool = True  # whether to align words
    speakers: bool = False  # whether to tell speakers apart, where the server has a model for it
    progress: bool = False  # whether partial texts come with the seconds that are done


class Transcriber:
    """Transcribes files. All calls must come from one event loop.

    Args:
        config: settings; a batch run with the same settings gives the same transcript for the same file.
        models: client of the models.
    """

    def __init__(self, config: RunConfig, models: ModelClient) -> None:
        # `plan.allowed_uris` restricts manifests; uploads are local files that the server has written.
        self._config = config.model_copy(update={"plan": config.plan.model_copy(update={"allowed_uris": []})})
        self._models = models
        self._calibration = calibrations.read(config.asr)
        self._speakers = SpeakerFinder(config.speakers, config.audio.channel)
        self._speakers.load()
        self._speaker_settings = speaker_settings(config)
        self._decoders = DecoderPool(
            config.audio, config.segmenter, config.serve.decoders, config.plan.probe_timeout
        )
        self._decoded_audio = Budget(config.serve.max_decoded)  # in seconds
        self._model_columns: dict[str, str | None] | None = None

    async def transcribe(self, request: TranscriptionRequest, on_text: OnText | None = None) -> Row:
        """Transcribe a file.

        Args:
            request: the file, and how to transcribe it.
            on_text: called whenever the partial text has grown.

        Returns:
            A TRANSCRIPT row, or a DEAD_LETTER row (which has `error_code`).

        Raises:
            AudioTooLong: the file has more audio than `serve.max_audio`.
            SeveralSegments: a prefix was given, and the file has several segments.
        """
        if self._model_columns is None:
            self._model_columns = await self._models.model_columns()
        shards = await self._decoders.plan(lambda probe: _plan(request, self._config, probe))
        self._check_length(shards[0]["duration"])
        if request.prefix and len(shards) > 1:
            raise SeveralSegments(_SEVERAL_SEGMENTS)
        # Shards may overlap; stitching needs words to remove what both contain.
        words = request.words or len(shards) > 1
        durations = [*map(_planned_seconds, shards)] if request.progress else None
        partial_text = PartialText(len(shards), on_text, durations)
        shard_limit = asyncio.Semaphore(MAX_CONCURRENT_SHARDS)
        segment_limit = asyncio.Semaphore(MAX_CONCURRENT_SEGMENTS)

        async def transcribe_shard(shard: Row) -> Row:
            async with shard_limit, self._decoded_audio.reserve(_planned_seconds(shard)) as reservation:
                decoded = await self._decode(shard, reservation)
                decoded = await self._speakers.find(decoded) if request.speakers else decoded
                return await self._transcribe_shard(
                    decoded, request.prefix, words, segment_limit, partial_text
                )

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(transcribe_shard(shard)) for shard in shards]
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        rows = [task.result() for task in tasks]
        row, _ = await asyncio.to_thread(
            stitch_with_speakers,
            rows,
            self._speaker_settings,
            config_hash=self._config.hash(),
            version=__version__,
            calibration=self._calibration,
        )
        return row

    async def _decode(self, shard: Row, reservation: Reservation) -> Row:
        """Decode a PLAN row to a DECODED row."""
        decoded = await self._decoders.decode(shard)
        reservation.correct(_decoded_seconds(decoded))  # the header may be wrong
        if decoded["status"] != "error":
            self._check_length(decoded["decoded_end"])
        return decoded

    async def _transcribe_shard(
        self,
        decoded: Row,
        prefix: str,
        words: bool,
        segment_limit: asyncio.Semaphore,
        partial_text: PartialText,
    ) -> Row:
        """Recognise and align a DECODED row to a SHARD row."""
        requests = segment_requests(decoded, self._config.asr)
        if prefix and isinstance(requests, list):
            if len(requests) > 1:
                raise SeveralSegments(_SEVERAL_SEGMENTS)
            requests = [replace(request, prefix=prefix) for request in requests]
        partial_text.add_shard(decoded["segments"] if isinstance(requests, list) else [], decoded["index"])

        async def recognise(number: int, request: SegmentRequest) -> Hypothesis:
            try:
                async with segment_limit:
                    hypothesis = await self._models.recognise(request)
            except Exception:  # the transcript flags this segment; the text behind it must still be streamed
                partial_text.add_hypothesis(decoded["index"], number, _EMPTY)
                raise
            partial_text.add_hypothesis(decoded["index"], number, hypothesis)
            return hypothesis

        async def align(segment: SegmentRow) -> Any:
            if not words:
                return without_words(segment), None
            async with segment_limit:
                return await self._models.align(segment)

        if isinstance(requests, UsageError):
            row = recognised_row(decoded, requests)
        else:
            results = await gather_results([recognise(*pair) for pair in enumerate(requests)])
            row = recognised_row(decoded, _raise_base_exceptions(results))
        aligned = await gather_results([align(segment) for segment in row["segments"]])
        for result in aligned:
            if isinstance(result, BaseException):
                raise result
        assert self._model_columns is not None
        columns = {**self._model_columns, "run_id": None, "created_at": datetime.now(UTC)}
        return {**aligned_row(row, aligned), **columns}

    def _check_length(self, seconds: float | None) -> None:
        limit = self._config.serve.max_audio
        if seconds is not None and seconds > limit:
            raise AudioTooLong(
                f"the file has {seconds:.0f} s of audio; the limit of a request is {limit:g} s: "
                "split the file, or use `scriptorium transcribe`"
            )

    def close(self) -> None:
        """End the child processes."""
        self._decoders.close()


def _plan(request: TranscriptionRequest, config: RunConfig, probe: Callable[..., Any]) -> list[Row]:
    """PLAN rows of one file."""
    recording = Recording(
        id=uuid.uuid4().hex,
        audio=request.path,
        language=request.language,
        context=request.context,
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


def _planned_seconds(shard: Row) -> float:
    """Seconds of audio in a planned shard; an unknown duration counts as one minute."""
    end = shard["end"] if shard["end"] is not None else shard["duration"]
    return float(end - shard["start"]) if end is not None else 60.0


def _decoded_seconds(decoded: Row) -> float:
    """Seconds of audio in a decoded shard, summed over its channels."""
    return float(sum(segment["end"] - segment["start"] for segment in decoded["segments"]))


def _raise_base_exceptions(results: list[Any]) -> list[Hypothesis | Exception]:
    """Return the results, and log those that are errors; exceptions such as cancellation are raised."""
    for result in results:
        if isinstance(result, Exception):
            log.warning("a segment could not be recognised: %s: %s", type(result).__name__, str(result)[:500])
        elif isinstance(result, BaseException):
            raise result
    return results
