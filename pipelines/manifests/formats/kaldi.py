"""Kaldi's data folders: `wav.scp` names the files, `segments` the windows of them that are utterances."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.formats.path_lists import scp_entry
from pipelines.plurals import counted
from pipelines.storage import files

logger = logging.getLogger(__name__)

WAV_SCP = "wav.scp"
Lines = Callable[[str], Iterator[tuple[int, str]]]


def is_kaldi_folder(uri: str) -> bool:
    """Whether a folder is one of Kaldi's."""
    return files.exists(files.join(uri, WAV_SCP))


def kaldi_rows(uri: str, lines: Lines) -> Iterator[tuple[str, int, Row, str]]:
    """The utterances of a folder, or its recordings if it has no `segments`, as (file, line, columns, base).

    Text, language and speaker come from `text`, `utt2lang` and `utt2spk`.

    Args:
        uri: the folder; relative paths in `wav.scp` start from it.
        lines: reads the numbered lines of a text file.

    Raises:
        UsageError: a line is wrong, or a segment is of a recording that `wav.scp` does not have.
    """
    scp = files.join(uri, WAV_SCP)
    audio: dict[str, tuple[int, str]] = {}
    for number, line in lines(scp):
        row = scp_entry(scp, number, line.rstrip("\r\n")) if line.strip() else {}
        if "audio" in row:
            name = str(row.get("id", row["audio"]))
            if name in audio:
                raise UsageError(
                    f"{scp}: line {number}: the id {name!r} is already taken by line {audio[name][0]}"
                )
            audio[name] = (number, row["audio"])
    columns = {
        name: _table(files.join(uri, file), lines)
        for name, file in (("text", "text"), ("language", "utt2lang"), ("speaker", "utt2spk"))
    }
    channels = _channels(files.join(uri, "reco2file_and_channel"), lines)

    def row_of(utterance: str, recording: str) -> Row:
        row: Row = {"id": utterance, "audio": audio[recording][1]}
        row |= {name: values[utterance] for name, values in columns.items() if utterance in values}
        return row | ({"channel": channels[recording]} if recording in channels else {})

    segments = files.join(uri, "segments")
    if not files.exists(segments):
        for name, (number, _) in audio.items():
            yield scp, number, row_of(name, name), uri
        return
    used = set()
    for number, line in lines(segments):
        cells = line.split()
        if not cells:
            continue
        if len(cells) < 4 or cells[1] not in audio:
            what = "is not in wav.scp" if len(cells) >= 4 else "has no start and end"
            raise UsageError(
                f"{segments}: line {number}: {' '.join(cells)[:80]!r} {what}; a line is: utterance, "
                "recording, start, end"
            )
        utterance, recording, start, end = cells[:4]
        used.add(recording)
        window = {"start": start, "recording": recording}
        # -1: to the end of the recording.
        yield (
            segments,
            number,
            row_of(utterance, recording) | window | ({} if end == "-1" else {"end": end}),
            uri,
        )
    if len(used) < len(audio):
        logger.warning(
            "%s: %s of wav.scp without a segment: not transcribed",
            segments,
            counted(len(audio) - len(used), "file"),
        )


def _table(uri: str, lines: Lines) -> dict[str, str]:
    """A file of a key and a value per line; empty if there is none."""
    if not files.exists(uri):
        return {}
    pairs = (line.strip().split(maxsplit=1) for _, line in lines(uri))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _channels(uri: str, lines: Lines) -> dict[str, str]:
    """The channel of each recording: A and B are the first and the second one."""
    found = {}
    for name, value in _table(uri, lines).items():
        letter = value.split()[-1].upper()
        if letter in ("A", "B"):
            found[name] = "AB".index(letter)
    return {name: str(number) for name, number in found.items()}
