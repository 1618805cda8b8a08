"""Voices with names: `speakers.enrolled` names a table of them, by their audio or by their embeddings.

An embedding can only be compared with those of the same model. A centroid of OUT/speakers can be enrolled.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from actors.config.speakers import SpeakersConfig
from actors.decoder import decode_shard
from actors.errors import UsageError
from actors.records import Row
from actors.speakers.actor import SpeakerActor
from actors.speakers.clustering import Bounds
from pipelines.config import RunConfig
from pipelines.manifests.file_formats import read_file
from pipelines.stitching.speakers import KnownVoice, SpeakerSettings
from pipelines.storage import files

# Seconds of one voice's audio that are listened to.
_LONGEST = 300.0


def speaker_settings(config: RunConfig) -> SpeakerSettings:
    """How a run tells speakers apart.

    Raises:
        UsageError: the table of known voices is wrong; the message says what to do.
        FatalError: the speaker model, which known audio needs, cannot be loaded.
    """
    speakers = config.speakers
    bounds = Bounds(speakers.count or speakers.min, speakers.count or speakers.max)
    known = known_voices(config) if speakers.backend != "none" and speakers.enrolled else ()
    return SpeakerSettings(
        bounds, speakers.threshold, config.audio.channel, known, speakers.enrolled_threshold
    )


def known_voices(config: RunConfig) -> tuple[KnownVoice, ...]:
    """The known voices of the settings; several rows of one name are one voice.

    Raises:
        UsageError: the table is wrong.
    """
    rows = [*check_table(config.speakers)]
    vectors: dict[str, list[np.ndarray]] = defaultdict(list)
    actor = SpeakerActor(config.speakers) if any(audio for _, audio, _ in rows) else None
    for name, audio, embedding in rows:
        vectors[name].append(embedding if embedding is not None else _heard(name, str(audio), actor, config))
    voices = []
    for name, own in vectors.items():
        if len({len(vector) for vector in own}) > 1:
            raise UsageError(
                f"speakers.enrolled: {name} has embeddings of different lengths: give one model's"
            )
        mean = np.mean([vector / np.linalg.norm(vector) for vector in own], axis=0)
        voices.append(KnownVoice(name, mean / np.linalg.norm(mean)))
    return tuple(voices)


def check_table(config: SpeakersConfig) -> Iterator[tuple[str, str | None, np.ndarray | None]]:
    """Read the table of known voices.

    Yields:
        Name, address of audio and embedding of each row; one of the latter two is None.

    Raises:
        UsageError: the table is wrong; the message names the row and says what to do.
    """
    uri = str(config.enrolled)
    for line, row in read_file(uri):
        name = str(row.get("name") or "").strip()
        if not name:
            raise UsageError(f"{uri}: row {line}: no `name`: each known voice needs one")
        embedding = row.get("embedding")
        if isinstance(embedding, str) and embedding.strip():
            try:
                embedding = json.loads(embedding)
            except ValueError:
                raise UsageError(f"{uri}: row {line}: `embedding` is no list of numbers") from None
        if embedding is not None and not isinstance(embedding, str):
            yield name, None, _vector(uri, line, embedding)
            continue
        audio = str(row.get("audio") or "").strip()
        if not audio:
            raise UsageError(f"{uri}: row {line}: {name} has neither `audio` nor `embedding`")
        is_relative = "://" not in audio and not audio.startswith("/")
        yield name, files.join(files.parent(uri), audio) if is_relative else audio, None


def _vector(uri: str, line: int, values: Sequence[Any]) -> np.ndarray:
    try:
        vector = np.array([float(value) for value in values])
    except (TypeError, ValueError):
        raise UsageError(f"{uri}: row {line}: `embedding` is no list of numbers") from None
    if not len(vector) or not np.isfinite(vector).all() or not np.linalg.norm(vector):
        raise UsageError(f"{uri}: row {line}: `embedding` is empty, zero or not finite")
    return vector


def _heard(name: str, audio: str, actor: SpeakerActor | None, config: RunConfig) -> np.ndarray:
    """The voice that speaks most in a recording."""
    assert actor is not None
    plan: Row = {
        "shard_id": audio, "audio": audio, "start": 0.0, "end": _LONGEST, "duration": None, "index": 0,
        "shard_count": 1, "channel": "mix",
    }  # fmt: skip
    row = decode_shard(plan, config.audio, config.segmenter)
    if row["status"] == "error":
        raise UsageError(f"speakers.enrolled: {name}: {audio} cannot be read: {row['error_message']}")
    [row] = actor([row])
    voices = row.get("voices") or []
    if not voices:
        raise UsageError(f"speakers.enrolled: {name}: nobody speaks in {audio}")
    vectors = np.stack([np.frombuffer(voice["embedding"], "<f2").astype(float) for voice in voices])
    weights = np.array([voice["seconds"] for voice in voices])
    mean = weights @ vectors
    # Twice the mean over what is like it: a second voice in the background does not count.
    for _ in range(2):
        alike = vectors @ (mean / np.linalg.norm(mean))
        near = alike >= min(float(np.median(alike)), math.cos(math.pi / 3))
        mean = weights[near] @ vectors[near]
    return mean
