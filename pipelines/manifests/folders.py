"""What is in a folder or behind a glob: recordings by their names, and files that are passed over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from actors.records import Row
from pipelines.plurals import counted
from pipelines.storage import files

logger = logging.getLogger(__name__)

# The names of the formats that are decoded: see `actors.audio.formats.allowed`. Not among them are raw
# samples, whose format only a manifest can give.
_AUDIO_NAMES = """
    3g2 3gp 3gpp 8svx aa3 aac ac3 adts aif aifc aiff amr ape asf au avi avr awb bonk bwf c2 caf dav dff
    dif divx dsf dss dts dtshd dv eac3 ec3 f4a f4b f4p f4v fap flac flv gsm gxf ircam ism isma ismv latm
    lbc lc3 loas lxf m1a m2a m2p m2t m2ts m4a m4b m4p m4r m4v mac mk3d mka mkv mlp mov mp1 mp2 mp3 mp4
    mpa mpc mpe mpeg mpg mpga mts mxf nist nsp nsv nut nuv oga ogg ogm ogv ogx oma omg opus osq paf psp
    pva pvf qcp qoa qt ra rf64 rm rmvb sf shn snd sox sph spx swf tak thd trp ts tta ty vob voc vqf vro
    w64 wa wav wave weba webm wma wmv wsd wtv wv wve
"""
# Video files are included: their sound is transcribed.
AUDIO_SUFFIXES: tuple[str, ...] = tuple(f".{name}" for name in _AUDIO_NAMES.split())
TAR_SUFFIX = ".tar"
_PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")


def is_audio(uri: str) -> bool:
    """Whether a file is a recording by its name; `._a.wav` has what macOS stores about `a.wav`."""
    return uri.lower().endswith(AUDIO_SUFFIXES) and not files.name_of(uri).startswith("._")


def is_tar(uri: str) -> bool:
    """Whether a file is an archive by its name; compressed ones are refused when they are read."""
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
