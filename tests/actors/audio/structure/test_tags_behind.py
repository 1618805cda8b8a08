"""Tags for readers of mp3 behind samples: what follows them is heard, or flagged."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from tests.actors.audio.structure.pcm_builders import pcm_file
from tests.actors.audio.structure.test_layout import JUNK, SOUND, equals, heard  # noqa: F401 - a fixture

TAGS = {
    "ID3v1": b"TAG" + bytes(125),
    "APE": b"APETAGEX" + struct.pack("<IIII", 2000, 2000, 1, 0xA000_0000) + bytes(8 + 2000),
    "lyrics": b"LYRICSBEGIN" + bytes(200) + b"LYRICSEND",
    "two": b"LYRICSBEGIN" + bytes(200) + b"000211LYRICS200" + b"TAG" + bytes(125),
    "many": (b"TAG" + bytes(125)) * 2000,
}


@pytest.mark.parametrize("kind", TAGS)
def test_what_follows_a_tag_is_heard_or_flagged(heard, kind):  # noqa: F811
    got, flags, _ = heard(pcm_file("wav", SOUND, behind=TAGS[kind]))
    assert equals(got, SOUND) and flags == (["audio_unread"] if kind == "many" else [])
    got, flags, _ = heard(pcm_file("wav", SOUND, behind=TAGS[kind] + pcm_file("wav", SOUND)))
    joined = kind != "many"
    assert flags == (["files_joined"] if joined else ["audio_unread"])
    assert equals(got, np.concatenate([SOUND, SOUND]) if joined else SOUND)
    _, flags, _ = heard(pcm_file("wav", SOUND, behind=TAGS[kind] + b"fLaC" + JUNK))
    assert flags == ["audio_unread"]
