"""What is in a folder or behind a glob: which files are recordings by their names, and what is passed over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from actors.records import Row
from pipelines.plurals import counted
from pipelines.storage import files

logger = logging.getLogger(__name__)

# Of the containers and codecs that decoders here read and that carry speech, music or films. Not among them:
# the sound of games, pictures, subtitles, video without sound, and raw samples, whose format no name gives.
_AUDIO_NAMES = """
    3g2 3gp 3gpp 722 8svx aa aa3 aac aax ac3 adts aif aifc aiff al alac amr ape asf au avi awb bwf caf dav dff
    dif divx dsf dss dts dtshd dv eac3 ec3 f4a f4b f4p f4v flac flv g722 gsm gxf ircam ism isma ismv kux lvf
    m1a m2a m2p m2t m2ts m4a m4b m4p m4r m4v mac mka mk3d mkv mlp mov mp1 mp2 mp3 mp4 mpa mpc mpe mpeg mpg
    mpga mts mxf nist nsv nut oga ogg ogm ogv ogx oma omg opus paf psp pvf qoa qt ra rf64 rm rmvb sbc sd2 sf
    shn sln snd sph spx tak thd trp ts tta ty ul voc vob vqf vro w64 wav wave weba webm wma wmv wtv wv
"""
# Video files are included: their sound is transcribed.
AUDIO_SUFFIXES: tuple[str, ...] = tuple(f".{name}" for name in _AUDIO_NAMES.split())
TAR_SUFFIX = ".tar"
_PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def is_audio(uri: str) -> bool:
    """Whether a file is a recording by its name."""
    return uri.lower().endswith(AUDIO_SUFFIXES)


def is_tar(uri: str) -> bool:
    """Whether a file is an archive of recordings by its name; compressed ones are refused when they are read."""
    return uri.lower().endswith((TAR_SUFFIX, *_PACKED_TARS))


def audio_rows(uris: Sequence[str], base: str) -> Iterator[tuple[str, int, Row, str]]:
    """Files as rows of a manifest: (file, 0, columns, base). The id is the path below `base`."""
    for file in uris:
        # A name that is not UTF-8 has no place in a table: nothing is at this address, which costs one row.
        name = file.encode(errors="surrogateescape").decode(errors="backslashreplace")
        yield name, 0, {"audio": name, "id": name.removeprefix(base).lstrip("/")}, base


def report_passed_over(uri: str, uris: Sequence[str], taken: Sequence[str]) -> None:
    """Log how many files of a listing are not read, by their suffixes."""
    passed = len(uris) - len(taken)
    if not passed:
        return
    used = set(taken)
    suffixes = Counter(_suffix(file) for file in uris if file not in used)
    shown = ", ".join(f"{suffix} {count:,}" for suffix, count in suffixes.most_common(10))
    more = len(suffixes) - 10
    logger.warning(
        "%s: %s passed over: %s%s",
        uri,
        counted(passed, "file"),
        shown,
        f" and {counted(more, 'other ending')}" if more > 0 else "",
    )


def _suffix(uri: str) -> str:
    name = files.name_of(uri)
    stem, dot, suffix = name.rpartition(".")
    readable = suffix.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return f".{readable.lower()}" if stem and dot and len(suffix) <= 12 else "without a suffix"
