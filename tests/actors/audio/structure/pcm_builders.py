"""Builds WAVE, RF64, W64, AIFF, AU and CAF files with any header, chunk by chunk."""

from __future__ import annotations

import struct

import numpy as np

W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
CONTAINERS = ["wav", "rifx", "rf64", "w64", "aiff", "sowt", "au", "caf"]


def noise(seconds: float, rate: int = 16_000, channels: int = 1, seed: int = 0) -> np.ndarray:
    """int16 samples of shape (samples, channels) that look like sound: neighbours resemble each other."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(0, 300, (round(seconds * rate), channels)), axis=0)
    return (8000 * np.sin(walk / 3000)).astype(np.int16)


def chunk(
    name: bytes, content: bytes, size: int | None = None, order: str = "<", padded: bool = True
) -> bytes:
    """A chunk of RIFF (`order` "<") or AIFF (">"); `size` is what its header claims."""
    claimed = len(content) if size is None else size
    pad = b"\0" * (len(content) % 2) if padded else b""
    return name + struct.pack(order + "I", claimed & 0xFFFF_FFFF) + content + pad


def wave_format(
    rate: int = 16_000,
    channels: int = 1,
    width: int = 2,
    bits: int | None = None,
    valid: int | None = None,
    tag: int = 1,
    order: str = "<",
) -> bytes:
    """The content of a format chunk; with `valid` an extensible one. `width` is that of the block align."""
    bits = 8 * width if bits is None else bits
    head = struct.pack(
        order + "HHIIHH",
        tag if valid is None else 0xFFFE,
        channels,
        rate,
        rate * channels * width,
        channels * width,
        bits,
    )
    if valid is None:
        return head
    return head + struct.pack(order + "HHIH", 22, valid, 4, tag) + GUID_TAIL


def riff(*chunks: bytes, magic: bytes = b"RIFF", size: int | None = None, order: str = "<") -> bytes:
    content = b"WAVE" + b"".join(chunks)
    claimed = len(content) if size is None else size
    return magic + struct.pack(order + "I", claimed & 0xFFFF_FFFF) + content


def info(text: bytes = b"a comment") -> bytes:
    """A LIST chunk of metadata."""
    return chunk(b"LIST", b"INFO" + chunk(b"ICMT", text))


def w64_chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    claimed = 24 + len(content) if size is None else 24 + size
    return name + W64_TAIL + struct.pack("<Q", claimed) + content + b"\0" * (-len(content) % 8)


def extended(rate: int) -> bytes:
    """A rate as a float of 80 bits."""
    exponent = rate.bit_length() - 1
    return struct.pack(">HQ", 16383 + exponent, rate << (63 - exponent))


def metadata(container: str) -> bytes:
    """A chunk of metadata of this container; empty for AU, which has no chunks."""
    if container in ("aiff", "sowt"):
        return chunk(b"ANNO", b"a comment", order=">")
    if container == "w64":
        return w64_chunk(b"junk", b"a comment")
    if container == "caf":
        return b"info" + struct.pack(">q", 12) + b"a comment..."
    if container == "rifx":
        return chunk(b"LIST", b"INFO" + chunk(b"ICMT", b"a comment", order=">"), order=">")
    return b"" if container == "au" else info()


def pcm_file(
    container: str, samples: np.ndarray, rate: int = 16_000, size: int | None = None, behind: bytes = b""
) -> bytes:
    """A file of int16 samples.

    Args:
        container: one of `CONTAINERS`.
        samples: int16, shape (samples, channels).
        rate: in Hz.
        size: bytes of samples that the header claims; None for the true number.
        behind: bytes behind the samples.
    """
    channels = samples.shape[1]
    little, big = samples.astype("<i2").tobytes(), samples.astype(">i2").tobytes()
    claimed = len(little) if size is None else size
    if container == "wav":
        return riff(chunk(b"fmt ", wave_format(rate, channels)), chunk(b"data", little, claimed)) + behind
    if container == "rifx":
        form = chunk(b"fmt ", wave_format(rate, channels, order=">"), order=">")
        return riff(form, chunk(b"data", big, claimed, ">"), magic=b"RIFX", order=">") + behind
    if container == "rf64":
        sizes = struct.pack("<QQQI", 72 + claimed, claimed, claimed // (2 * channels), 0)
        chunks = chunk(b"ds64", sizes) + chunk(b"fmt ", wave_format(rate, channels))
        data = chunk(b"data", little, 0xFFFF_FFFF)
        return riff(chunks, data, magic=b"RF64", size=0xFFFF_FFFF) + behind
    if container == "w64":
        head = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
        body = w64_chunk(b"fmt ", wave_format(rate, channels)) + w64_chunk(b"data", little, claimed)
        return head + struct.pack("<Q", 40 + len(body)) + b"wave" + W64_TAIL + body + behind
    if container in ("aiff", "sowt"):
        common = struct.pack(">HIH", channels, min(claimed // (2 * channels), 2**31), 16) + extended(rate)
        kind = b"AIFF"
        if container == "sowt":
            kind, common = b"AIFC", common + b"sowt\0\0"
        sound = chunk(b"SSND", bytes(8) + (big if kind == b"AIFF" else little), 8 + claimed, ">")
        content = kind + chunk(b"COMM", common, order=">") + sound
        return b"FORM" + struct.pack(">I", len(content)) + content + behind
    if container == "au":
        return b".snd" + struct.pack(">IIIII", 24, claimed, 3, rate, channels) + big + behind
    desc = struct.pack(">d4sIIIII", rate, b"lpcm", 2, 2 * channels, 1, channels, 16)
    head = b"caff\x00\x01\x00\x00desc" + struct.pack(">q", 32) + desc
    return head + b"data" + struct.pack(">q", 4 + claimed) + bytes(4) + little + behind
