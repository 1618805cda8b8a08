"""What a file is that is no recording, by its first bytes: archives, documents, pages, pictures, pointers.

Such files may have recordings inside, and ffmpeg would find the frames of an mp3 in a tar archive. They are
refused with a message that says what they look like.
"""

from __future__ import annotations

import re

import numpy as np

from actors.audio.files.audio_file import AudioFile

# Bytes from the beginning of a file that are looked at.
_HEAD = 64 << 10
# Byte 257 of a tar archive, and the sum in its header.
_TAR_MAGIC, _TAR_SUM, _TAR_BLOCK = 257, slice(148, 156), 512
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"PK\x07\x08", "a zip archive"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x1f\x9d", "a compressed file (compress)"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\0", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\x04\x22\x4d\x18", "lz4"),
    (0, b"LZIP", "lzip"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"MSCF\0\0\0\0", "a cabinet archive"),
    (0, b"!<arch>\n", "an ar archive"),
    (0, b"070701", "a cpio archive"),
    (0, b"070707", "a cpio archive"),
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"hsqs", "a file system (SquashFS)"),
    (0x8001, b"CD001", "a disk image (ISO 9660)"),
    (0, b"%!PS", "PostScript"),
    (0, b"{\\rtf", "an RTF document"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document (OLE)"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"PAR1", "Parquet"),
    (0, b"ARROW1", "Arrow"),
    (0, b"Obj\x01", "Avro"),
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (0, b"8BPS", "a Photoshop picture"),
    (8, b"WEBP", "a WebP picture"),
    (4, b"ftypheic", "a HEIC picture"),
    (4, b"ftypavif", "an AVIF picture"),
    (0, b"\x7fELF", "a program (ELF)"),
    (0, b"MZ", "a program for Windows"),
    (0, b"\xca\xfe\xba\xbe", "a compiled program"),
    (0, b"\xcf\xfa\xed\xfe", "a program for macOS"),
    (0, b"\0asm", "WebAssembly"),
    (0, b"OTTO", "a font"),
    (0, b"wOF", "a font"),
    (0, b"MThd", "MIDI, which has notes and no sound"),
    (8, b"RMIDdata", "MIDI, which has notes and no sound"),
    (
        0,
        b"\0\x05\x16\x07",
        "an AppleDouble file (`._name`), which macOS writes beside the file with the sound",
    ),
    (0, b"L\0\0\0\x01\x14\x02\0", "a shortcut of Windows"),
    (0, b"\xd4\xc3\xb2\xa1", "captured network traffic (pcap)"),
    (0, b"\xa1\xb2\xc3\xd4", "captured network traffic (pcap)"),
    (0, b"\x0a\x0d\x0d\x0a", "captured network traffic (pcapng)"),
    (0, b"Salted__", "a file encrypted with OpenSSL"),
    (0, b"bplist00", "a property list"),
    (0, b"\0\0\0\x01Bud1", "a .DS_Store file"),
)
_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (
            rb"version https://git-lfs\.github\.com/spec/",
            "a Git LFS pointer: fetch the file with `git lfs pull`",
        ),
        (
            rb"version https://hawser\.github\.com/spec/",
            "a Git LFS pointer: fetch the file with `git lfs pull`",
        ),
        (rb"\S*/annex/objects/", "a git-annex pointer: fetch the file with `git annex get`"),
        (
            rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*(<!doctype html|<html|<head|<body|<title|<meta|<script)",
            "an HTML page",
        ),
        (rb"(<\?xml[^>]*>\s*)?<(\w+:)?Error\b", "an error message in XML, as stores answer"),
        (rb"(<\?xml[^>]*>\s*)?(<!doctype svg[^>]*>\s*)?<svg\b", "an SVG picture"),
        (rb"<\?xml|<!doctype|<[a-z][\w:.-]*[\s/>]", "XML"),
        (rb"[{[]\s*([\"{[\]}]|-?[0-9]|true|false|null)", "JSON"),
        (rb"#EXTM3U", "a playlist (m3u): list its files in the manifest"),
        (rb"\[playlist\]", "a playlist (pls): list its files in the manifest"),
        (rb"webvtt\b|[0-9]+\s*\r?\n[0-9:,.]+ --> ", "subtitles"),
        (rb"HTTP/[0-9.]+ [0-9]{3}", "the answer of a web server with its headers"),
        (
            rb"(From [^\r\n]*\r?\n)?((Return-Path|Received|Delivered-To|Date|From|To|Cc|Subject|MIME-Version|"
            rb"Message-ID|Content-Type|X-[\w-]+): [^\r\n]*\r?\n([ \t][^\r\n]*\r?\n)*){2}",
            "an e-mail",
        ),
    )
)
# Characters that a text has; others than these are in sound.
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# Bytes of a match that sound does not have by chance.
_LONG_MATCH = 20
# Samples of 16 bits that follow each other differ by much less than they are loud, where they are sound.
_SMOOTH = 0.5
_FEWEST_SAMPLES = 512


def other_content(file: AudioFile) -> str | None:
    """What the file looks like that is certainly no recording; None where it may be one."""
    file.seek(0)
    head: bytes = file.read(_HEAD) or b""
    if _is_tar(head):
        return "a tar archive"
    for place, magic, kind in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return kind
    # What reads PDF looks for its mark in the first kilobyte.
    if b"%PDF-" in head[:1024]:
        return "a PDF document"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") and b"\0" in head[2:4]:
        text = head.decode("utf-16", "ignore").encode().lstrip()
    if not text:
        return "an empty page: white space only, such as a web server may answer"
    if head.count(0) == len(head):
        return (
            "nothing but zeros, such as a file that was allocated and never written"
            if _ends_with_zeros(file)
            else None
        )
    for pattern, kind in _TEXTS:
        found = pattern.match(text)
        # A long match is no chance, also with binary content behind it.
        if found and (found.end() >= _LONG_MATCH or not _NOT_TEXT.search(text[:4096])):
            return kind
    return None


def unknown_content(file: AudioFile) -> str | None:
    """What a file looks like that nothing recognises: text, or samples without a header; else None."""
    file.seek(0)
    head: bytes = file.read(_HEAD) or b""
    if head and not _NOT_TEXT.search(head):
        return "text"
    if _is_pcm(head):
        return (
            "raw PCM, samples without a header: to read it, give the columns `sampling_rate`, `channels` and "
            "`format` (such as s16le) in the manifest"
        )
    return None


def _is_tar(head: bytes) -> bool:
    if len(head) < _TAR_BLOCK or not head[0]:
        return False
    if head[_TAR_MAGIC : _TAR_MAGIC + 5] == b"ustar":
        return True
    # Archives of the oldest kind have no mark.
    digits = head[_TAR_SUM].strip(b" \0")
    if not re.fullmatch(rb"[0-7]{3,6}", digits):
        return False
    block = bytearray(head[:_TAR_BLOCK])
    block[_TAR_SUM] = b" " * 8
    return sum(block) == int(digits, 8)


def _ends_with_zeros(file: AudioFile) -> bool:
    """Whether the middle and the end of a file that begins with zeros are zeros, too."""
    for place in (file.size // 2, max(0, file.size - _HEAD)):
        file.seek(place)
        data: bytes = file.read(_HEAD) or b""
        if data.count(0) != len(data):
            return False
    return True


def _is_pcm(head: bytes) -> bool:
    samples = np.frombuffer(head[: len(head) // 2 * 2], "<i2").astype(np.float64)
    for candidate in (samples, samples.astype(np.int16).byteswap().astype(np.float64)):
        if len(candidate) < _FEWEST_SAMPLES:
            return False
        energy = float(np.mean(candidate**2))
        if energy and float(np.mean(np.diff(candidate) ** 2)) < _SMOOTH * energy:
            return True
    return False


# Beginnings of recordings with a header.
_RECORDINGS = (
    *(
        (0, magic)
        for magic in (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"FRM8", b".snd", b"caff", b"OggS")
    ),
    *((0, magic) for magic in (b"fLaC", b"ID3", b"wvpk", b"MAC ", b"#!AMR", b"FLV\x01", b"\x1a\x45\xdf\xa3")),
    (0, b"riff\x2e\x91\xcf\x11"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    (4, b"ftyp"),
)
# Bytes of a mark that samples do not have by chance.
_SURE = 4


def is_recording(file: AudioFile) -> bool:
    """Whether a file that is said to be samples without a header has a header, or is no recording at all."""
    file.seek(0)
    head: bytes = file.read(_HEAD) or b""
    known = [*_RECORDINGS, *((place, magic) for place, magic, _ in _MAGIC if len(magic) >= _SURE)]
    if any(head[place : place + len(magic)] == magic for place, magic in known):
        return True
    return _is_tar(head) or (
        bool(head.strip()) and not _NOT_TEXT.search(head) and other_content(file) is not None
    )
