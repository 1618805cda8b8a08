"""Plain lists of paths, one a line: text files, playlists (m3u), and Kaldi's `wav.scp` with ids."""

from __future__ import annotations

from collections.abc import Iterator

from actors.errors import UsageError
from actors.records import Row
from pipelines.manifests.folders import is_audio, is_tar

LIST_SUFFIXES = (".txt", ".lst", ".list", ".scp", ".m3u", ".m3u8")
_PLAYLIST = "#EXTM3U"


def is_path_list(uri: str, first: str) -> bool:
    """Whether a text without a header is a list of paths, by its name or its first line."""
    name = uri.lower()
    for packed in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(packed)
    line = first.strip()
    if name.endswith((".csv", ".tsv")):
        return False
    return name.endswith(LIST_SUFFIXES) or line.startswith(_PLAYLIST) or is_audio(line) or "://" in line


def read_path_list(
    uri: str, number: int, first: str, lines: Iterator[tuple[int, str]]
) -> Iterator[tuple[int, Row]]:
    """Read a list of paths.

    Args:
        uri: the manifest's address: `.scp` has an id before each path, `.m3u` has comments.
        number: the number of the first line.
        first: the first line.
        lines: the numbered lines behind it.

    Yields:
        (line, columns) of each row.

    Raises:
        UsageError: an entry is not the address of a file.
    """
    name = uri.lower()
    is_playlist = first.startswith(_PLAYLIST) or name.endswith((".m3u", ".m3u8"))
    while True:
        entry = first.rstrip("\r\n")
        if is_playlist and entry.startswith("#EXT-X-"):
            raise UsageError(
                f"{uri}: line {number}: an HLS playlist, with pieces of one recording; join them into "
                "one file, such as with ffmpeg"
            )
        if entry.strip() and not (is_playlist and entry.startswith("#")):
            yield number, scp_entry(uri, number, entry) if name.endswith(".scp") else {"audio": entry}
        number, first = next(lines, (0, ""))
        if not number:
            return


def scp_entry(uri: str, number: int, entry: str) -> Row:
    """The id and the path of a line of Kaldi's `wav.scp`.

    Raises:
        UsageError: the line has a command, or a place in an archive of Kaldi's.
    """
    parts = entry.split(maxsplit=1)
    if len(parts) == 1 and (is_audio(entry) or "/" in entry):
        return {"audio": entry.strip()}
    if len(parts) == 1:
        raise UsageError(f"{uri}: line {number}: only an id without a path: {entry.strip()[:80]!r}")
    recording, path = parts[0], parts[1].strip()
    if path.endswith("|"):
        raise UsageError(
            f"{uri}: line {number}: {recording!r} is the output of a command, and commands are not "
            f"executed; name the audio file itself: {path[:80]!r}"
        )
    stem, colon, place = path.rpartition(":")
    if colon and place.isdigit() and not is_audio(path) and not is_tar(stem):
        raise UsageError(
            f"{uri}: line {number}: {recording!r} is in an archive of Kaldi's ({path[:80]!r}); name a file"
        )
    return {"id": recording, "audio": path}
