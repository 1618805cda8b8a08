"""Encrypted sound is refused, and the message says so, in every container that marks it."""

import struct

import pytest

from actors.audio.probing import probe
from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard
from actors.errors import RowError

TRACKS, TRACK_ENTRY, SEGMENT = b"\x16\x54\xae\x6b", b"\xae", b"\x18\x53\x80\x67"
CONTENT_ENCRYPTION = bytes.fromhex("fbb3112223bdd211b4b700a0c955fc6e")
ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")


def decoded(path, **columns):
    row = {"audio": str(path), "start": 0.0, "end": None, "duration": None, **columns}
    return decode_shard(row, AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy"))


def refused(path):
    row = decoded(path)
    assert row["error_code"] == "unsupported_codec", row
    assert "encrypted" in row["error_message"]
    with pytest.raises(RowError, match="encrypted"):
        probe(str(path))


def size(data, place):
    """A size of EBML and its bytes."""
    length = 9 - data[place].bit_length()
    return int.from_bytes(data[place : place + length], "big") & ((1 << 7 * length) - 1), length


def element(name, content):
    """An element whose size has eight bytes."""
    return name + (len(content) | 1 << 56).to_bytes(8, "big") + content


def encrypted_webm(data, tracks=None):
    """The file with a ContentEncryption in its tracks; `tracks` are the numbers of those, None for all."""
    start = data.index(SEGMENT)
    length, width = size(data, start + 4)
    segment = data[start + 4 + width : start + 4 + width + length]
    # Behind the mention in the index of the top elements.
    place = segment.index(TRACKS, segment.index(TRACKS) + 4)
    length, width = size(segment, place + 4)
    first = place + 4 + width
    old, entries, inside, number = segment[first : first + length], b"", 0, 0
    encryption = element(b"\x47\xe1", b"\5") + element(b"\x47\xe2", bytes(range(16)))
    encoding = element(b"\x50\x33", b"\1") + element(b"\x50\x35", encryption)
    encodings = element(b"\x6d\x80", element(b"\x62\x40", encoding))
    while inside < len(old):
        count, wide = size(old, inside + 1)
        content = old[inside + 1 + wide : inside + 1 + wide + count]
        if old[inside : inside + 1] == TRACK_ENTRY:
            content += encodings if tracks is None or number in tracks else b""
            number += 1
            entries += element(TRACK_ENTRY, content)
        inside += 1 + wide + count
    body = segment[:place] + element(TRACKS, entries) + segment[first + length :]
    return data[:start] + element(SEGMENT, body)


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libopus"), ("a.mka", "aac"), ("b.mka", "flac")])
def test_encrypted_webm_and_matroska_are_refused(tmp_path, speech, write, name, codec):
    path = write(tmp_path / name, speech(5, 48_000), codec, 48_000)
    path.write_bytes(encrypted_webm(path.read_bytes()))
    refused(path)


def asf_with(data, content):
    """The file with a further object in its header."""
    assert data.startswith(ASF_HEADER)
    length, objects = struct.unpack("<QI", data[16:28])
    head = ASF_HEADER + struct.pack("<QI", length + len(content), objects + 1)
    return head + data[28:30] + content + data[30:]


def test_encrypted_asf_is_refused(tmp_path, speech, write):
    path = write(tmp_path / "a.asf", speech(5, 44_100), "libmp3lame", 44_100)
    data = path.read_bytes()
    parts = [bytes(8), b"DRM\0", b"key\0", b"http://licence.example/\0"]
    for count in (4, 3):
        # The second one is damaged, too, so that it cannot be opened.
        secret = b"".join(struct.pack("<I", len(part)) + part for part in parts[:count])
        path.write_bytes(asf_with(data, CONTENT_ENCRYPTION + struct.pack("<Q", 24 + len(secret)) + secret))
        refused(path)
    # Another object is none of encryption.
    path.write_bytes(asf_with(data, bytes(16) + struct.pack("<Q", 30) + b"harmle"))
    assert decoded(path)["status"] == "ok"


def scrambled(data, share):
    """The transport stream with scrambled packets, but for its tables."""
    packets = [bytearray(data[place : place + 188]) for place in range(0, len(data), 188)]
    for number, packet in enumerate(packets):
        identifier = (packet[1] & 31) << 8 | packet[2]
        if identifier >= 0x100 and identifier != 0x1000 and number < share * len(packets):
            packet[3] |= 0x80
            packet[-100:] = bytes(byte ^ 0x5A for byte in packet[-100:])
    return b"".join(bytes(packet) for packet in packets)


def test_a_scrambled_transport_stream_is_refused(tmp_path, speech, write):
    path = write(tmp_path / "a.ts", speech(20, 48_000), "aac", 48_000)
    path.write_bytes(scrambled(path.read_bytes(), 1.0))
    refused(path)


def test_a_few_scrambled_packets_cost_only_themselves(tmp_path, speech, write):
    path = write(tmp_path / "a.ts", speech(20, 48_000), "aac", 48_000)
    path.write_bytes(scrambled(path.read_bytes(), 0.05))
    row = decoded(path)
    assert row["status"] in ("ok", "partial")
    assert row["flags"]
