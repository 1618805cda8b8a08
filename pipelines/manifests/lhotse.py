"""Lhotse's recordings and cuts as manifest rows, read from their JSON without lhotse."""

from __future__ import annotations

from actors.errors import UsageError
from actors.records import Row

TOLERANCE = 0.05  # seconds by which a cut may be shorter than its recording and still count as the whole
_CUTS = frozenset({"MonoCut", "MultiCut", "DataCut"})


def flatten_lhotse(row: Row, uri: str, line: int) -> Row:
    """Convert an entry of a RecordingSet or a CutSet to the columns of a manifest; other rows stay unchanged.

    Text and language come from the supervisions of a cut; the supervisions and `custom` become metadata. A
    cut must cover its whole recording, because transcripts are of whole recordings.

    Raises:
        UsageError: the entry is a cut of a part of a recording, a mix, or audio that is not one file.
    """
    kind = row.get("type")
    try:
        if isinstance(row.get("sources"), list):
            return _recording(row, uri, line)
        if isinstance(kind, str) and kind in _CUTS and isinstance(row.get("recording"), dict):
            return _cut(row, uri, line)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise UsageError(
            f"{uri}: line {line}: this looks like a lhotse entry, but not as lhotse writes it ({error}); "
            "write the manifest with lhotse"
        ) from error
    if isinstance(kind, str) and kind in ("MixedCut", "PaddingCut"):
        raise UsageError(
            f"{uri}: line {line}: a lhotse {kind} has no audio file of its own; "
            "save it (`cut.save_audio`) and list the file"
        )
    return row


def _recording(row: Row, uri: str, line: int) -> Row:
    sources = row["sources"]
    if len(sources) != 1 or not isinstance(sources[0], dict) or sources[0].get("type") not in ("file", "url"):
        kinds = (
            ", ".join(str(source.get("type") if isinstance(source, dict) else source) for source in sources)
            or "none"
        )
        raise UsageError(
            f"{uri}: line {line}: a lhotse recording must have one source of type file or url, "
            f"not {len(sources)} ({kinds})"
        )
    # The rest is metadata, except for how lhotse loads the samples, which says nothing about the recording.
    columns: Row = {
        name: row[name] for name in row if name not in ("sources", "channel_ids", "num_samples", "transforms")
    }
    return {**columns, "audio": sources[0].get("source")}


def _cut(row: Row, uri: str, line: int) -> Row:
    recording = row["recording"]
    whole = recording.get("duration")
    start, duration = row.get("start", 0), row.get("duration", whole)
    if start > TOLERANCE or (whole is not None and duration is not None and duration < whole - TOLERANCE):
        raise UsageError(
            f"{uri}: line {line}: the cut {row.get('id')!r} is only {start:g} to {start + duration:g} s of a "
            f"recording of {whole:g} s; whole recordings are transcribed: list the recordings, or save the "
            "cuts as files (`cuts.save_audios`)"
        )
    flat = _recording(recording, uri, line)
    supervisions = sorted(row.get("supervisions") or [], key=lambda one: one.get("start", 0))
    texts = [one["text"] for one in supervisions if one.get("text")]
    languages = list(dict.fromkeys(one["language"] for one in supervisions if one.get("language")))
    channels = recording.get("channel_ids") or [0]
    columns: Row = {**flat, "id": row.get("id")}
    if texts:
        columns["text"] = " ".join(texts)
    if languages:
        columns["language"] = "+".join(languages)
    if isinstance(row.get("channel"), int) and len(channels) > 1:
        columns["channel"] = row["channel"]
    if supervisions:
        columns["supervisions"] = supervisions
    if row.get("custom"):
        columns["custom"] = row["custom"]
    return columns
