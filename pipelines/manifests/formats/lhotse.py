"""Lhotse's recordings and cuts as manifest rows, read from their JSON without lhotse."""

from __future__ import annotations

from actors.errors import UsageError
from actors.records import Row

TOLERANCE = 0.05  # seconds by which a cut may be shorter than its recording and still count as the whole
_CUTS = frozenset({"MonoCut", "MultiCut", "DataCut"})


def flatten_lhotse(row: Row, uri: str, line: int) -> Row:
    """Convert an entry of a RecordingSet or a CutSet to the columns of a manifest; other rows stay unchanged.

    A cut of a part of a recording becomes a window. Text and language come from the supervisions of a cut;
    the supervisions and `custom` become metadata.

    Raises:
        UsageError: the entry is a mix, has audio that is not one file, transforms its samples, or takes some
            of
            several channels.
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
    _refuse_transforms(row, uri, line)
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
    # The rest is metadata, except for what says nothing about the recording.
    columns: Row = {
        name: row[name] for name in row if name not in ("sources", "channel_ids", "num_samples", "transforms")
    }
    return {**columns, "audio": sources[0].get("source")}


def _cut(row: Row, uri: str, line: int) -> Row:
    _refuse_transforms(row, uri, line)
    recording = row["recording"]
    whole = recording.get("duration")
    start, duration = row.get("start") or 0, row.get("duration", whole)
    flat = _recording(recording, uri, line)
    supervisions = sorted(row.get("supervisions") or [], key=lambda one: one.get("start", 0))
    texts = [one["text"] for one in supervisions if one.get("text")]
    languages = list(dict.fromkeys(one["language"] for one in supervisions if one.get("language")))
    columns: Row = {**flat, "id": row.get("id")}
    if start > TOLERANCE or (duration is not None and (whole is None or duration < whole - TOLERANCE)):
        columns |= {"start": start, "duration": duration}
    elif duration is not None:
        columns["duration"] = duration
    if texts:
        columns["text"] = " ".join(texts)
    if languages:
        columns["language"] = "+".join(languages)
    channel = _channel(row, recording, uri, line)
    if channel is not None:
        columns["channel"] = channel
    if supervisions:
        columns["supervisions"] = supervisions
    if row.get("custom"):
        columns["custom"] = row["custom"]
    return columns


def _channel(cut: Row, recording: Row, uri: str, line: int) -> int | None:
    """The channel that a cut takes; None if it takes all, which the setting `audio.channel` mixes."""
    available: list[int] = recording.get("channel_ids") or [0]
    given: int | list[int] = cut.get("channel", available)
    wanted = sorted({given} if isinstance(given, int) else set(given))
    if wanted == sorted(available):
        return None
    if len(wanted) == 1:
        return wanted[0]
    raise UsageError(
        f"{uri}: line {line}: the cut {cut.get('id')!r} takes the channels {', '.join(map(str, wanted))} of "
        f"{len(available)}; one channel or all can be taken: list a cut per channel"
    )


def _refuse_transforms(row: Row, uri: str, line: int) -> None:
    """Refuse an entry whose samples lhotse would change while it loads them, such as their speed."""
    transforms = row.get("transforms")
    if not transforms:
        return
    names = ", ".join(str(one.get("name") if isinstance(one, dict) else one) for one in transforms)
    raise UsageError(
        f"{uri}: line {line}: {row.get('id')!r} has transforms ({names}), which are not applied; list the "
        "original, or save the transformed audio (`cut.save_audio`)"
    )
