"""A film that gets a further stream on the way is decoded to its end."""

import struct

from actors.config import AudioConfig, SegmenterConfig
from actors.decoder import decode_shard


def tags(data):
    """Start and end of each FLV tag, with the size behind it."""
    place = 13
    while place + 11 <= len(data):
        end = place + 15 + int.from_bytes(data[place + 1 : place + 4], "big")
        yield place, end
        place = end


def text_tag(time):
    """A tag of a script with a text, from which ffmpeg makes a stream of subtitles."""
    body = b"\2" + struct.pack(">H", 10) + b"onTextData" + b"\x08\0\0\0\1" + struct.pack(">H", 4) + b"text"
    body += b"\2" + struct.pack(">H", 5) + b"hello" + b"\0\0\x09"
    head = b"\x12" + len(body).to_bytes(3, "big") + (time & 0xFFFFFF).to_bytes(3, "big") + bytes(4)
    return head + body + struct.pack(">I", 11 + len(body))


def test_a_stream_that_appears_late_does_not_end_the_sound(tmp_path, speech, write):
    path = write(tmp_path / "a.flv", speech(20, 44_100), "libmp3lame", 44_100)
    data = path.read_bytes()
    places = list(tags(data))
    middle = places[len(places) // 2][0]
    time = int.from_bytes(data[middle + 4 : middle + 7], "big")
    path.write_bytes(data[:middle] + text_tag(time) + data[middle:])
    for start in (0.0, 8.0):
        row = {"audio": str(path), "start": start, "end": None, "duration": 20.0}
        got = decode_shard(row, AudioConfig(isolate=False, retries=0), SegmenterConfig(backend="energy"))
        assert got["error_code"] is None, got["error_message"]
        assert 19.9 < got["decoded_end"] < 20.2
