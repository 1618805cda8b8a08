"""Samples that a list, a wrong field or a wrong size of another chunk would hide are read."""

# ruff: noqa: F811 - the fixture is imported
from __future__ import annotations

import struct

import numpy as np

from tests.actors.audio.structure.pcm_builders import chunk, info, pcm_file, riff
from tests.actors.audio.structure.test_layout import BYTES, FORMAT, SOUND, equals, heard  # noqa: F401


def test_a_list_of_sound_and_silence_is_read(heard):
    """`LIST wavl`: data chunks, and silence that the file describes instead of having it."""
    first, second = (
        chunk(b"data", part.astype("<i2").tobytes()) for part in (SOUND[:20_000], SOUND[20_000:])
    )
    silent = chunk(b"slnt", struct.pack("<I", 8000))
    for between, silence in ((b"", 0), (silent, 8000), (silent + silent, 16_000)):
        content = chunk(b"LIST", b"wavl" + first + between + second)
        got, flags, is_cut_off = heard(riff(FORMAT, content, info()))
        assert equals(got, SOUND[:20_000], np.zeros((silence, 1), np.int16), SOUND[20_000:])
        assert (flags, is_cut_off) == ([], False)
    # A few bytes must not become days of silence.
    huge = chunk(b"slnt", struct.pack("<I", 2**32 - 1))
    assert len(heard(riff(FORMAT, chunk(b"LIST", b"wavl" + first + huge + second)))[0]) == len(SOUND)


def test_a_width_that_two_other_fields_contradict_is_wrong(heard):
    for align in (0, 1, 3, 4, 6, 8):
        content = bytearray(riff(FORMAT, chunk(b"data", BYTES)))
        place = content.index(b"fmt ") + 8 + 12
        content[place : place + 2] = struct.pack("<H", align)
        assert equals(heard(bytes(content))[0], SOUND)


def test_a_wrong_size_of_another_chunk_does_not_hide_the_samples(heard):
    for container, name in (("aiff", b"COMM"), ("wav", b"fmt "), ("caf", b"desc")):
        content = bytearray(pcm_file(container, SOUND))
        place = content.index(name) + 4
        width = 8 if container == "caf" else 4
        order = "little" if container == "wav" else "big"
        size = int.from_bytes(content[place : place + width], order)
        content[place : place + width] = (size + 8).to_bytes(width, order)
        assert equals(heard(bytes(content))[0], SOUND), container


def test_an_au_file_whose_samples_would_begin_behind_its_end_is_read(heard):
    content = bytearray(pcm_file("au", SOUND))
    content[4:8] = struct.pack(">I", 2**31)
    assert equals(heard(bytes(content))[0], SOUND)
