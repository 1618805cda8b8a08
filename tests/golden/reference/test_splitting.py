"""Guarantees of the reference's splitter, and its differences from our segmentation."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.golden.reference.splitting import split_compatible

RATE = 1000  # Hz; the rules scale with it


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 40_000), st.integers(0, 2**32 - 1), st.sampled_from([6, 7.5, 10]))
def test_chunks_cover_the_recording(samples, seed, max_seconds):
    waveform = np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)
    chunks = split_compatible(waveform, RATE, max_seconds)
    assert np.array_equal(np.concatenate([chunk.waveform[: chunk.length] for chunk in chunks]), waveform)
    assert [chunk.offset for chunk in chunks] == np.cumsum(
        [0] + [chunk.length for chunk in chunks[:-1]]
    ).tolist()
    assert all(chunk.length <= (max_seconds + 5) * RATE for chunk in chunks)
    assert all(not chunk.waveform[chunk.length :].any() for chunk in chunks)


def test_a_cut_is_in_a_quiet_place_and_may_be_beyond_the_limit():
    """Chunks of the reference can exceed the limit by 5 s; our segments never exceed it."""
    waveform = np.full(20_000, 0.5, np.float32)
    waveform[13_000:13_200] = 0.0
    chunks = split_compatible(waveform, RATE, 10)
    assert [chunk.length for chunk in chunks] == [13_000, 7_000]


def test_only_a_recording_that_was_cut_is_padded():
    """A clip of 0.2 s is not padded by the reference; we pad every clip to 0.5 s."""
    assert len(split_compatible(np.ones(200, np.float32), RATE, 10)[0].waveform) == 200
    waveform = np.ones(10_300, np.float32)
    waveform[10_100:10_200] = 0.0
    tail = split_compatible(waveform, RATE, 10)[-1]
    assert (tail.length, len(tail.waveform)) == (200, 500)
