"""Turns and windows from what the model says about chunks."""

import numpy as np
import pytest

from actors.records import SAMPLING_RATE
from actors.speakers.base import CHUNK_FRAMES, CHUNK_SAMPLES, LOCAL_SPEAKERS, WINDOW_SAMPLES
from actors.speakers.fake import FakeSpeakers
from actors.speakers.turn_finding import Region, Turn, find_turns, regions_of, voice_windows
from tests.actors.speakers.tones import conversation

TOLERANCE = 0.06  # seconds: three frames


def turns_of(samples, start=0):
    region = Region([(start, samples)])
    activities = FakeSpeakers().activities(np.stack(list(region.chunks())))
    return find_turns(region, activities, 0, 0)


def seconds(turns):
    return [(turn.start / SAMPLING_RATE, turn.end / SAMPLING_RATE) for turn in turns]


def test_turns_begin_and_end_with_their_voices():
    found = turns_of(conversation([(1.0, 3.0, 0), (3.5, 7.0, 1), (8.0, 9.0, 0)], 10))
    assert np.allclose(seconds(found), [(1.0, 3.0), (3.5, 7.0), (8.0, 9.0)], atol=TOLERANCE)
    assert found[0].track == found[2].track != found[1].track


def test_a_change_without_a_pause_is_found():
    found = turns_of(conversation([(0.5, 4.0, 0), (4.0, 8.0, 1)], 9))
    assert np.allclose(seconds(found), [(0.5, 4.0), (4.0, 8.0)], atol=TOLERANCE)


def test_two_who_speak_at_once_have_overlapping_turns():
    found = turns_of(conversation([(0.5, 5.0, 0), (4.0, 8.0, 1)], 9))
    assert np.allclose(seconds(found), [(0.5, 5.0), (4.0, 8.0)], atol=TOLERANCE)


def test_a_track_holds_over_many_chunks():
    found = turns_of(conversation([(0.5, 42.0, 0)], 43))
    assert len({turn.track for turn in found}) == 1
    assert np.allclose(seconds(found)[0][0], 0.5, atol=TOLERANCE)


@pytest.mark.parametrize("start", [0, 12_345, 7 * 79_920, 600 * SAMPLING_RATE + 7])
def test_turns_do_not_depend_on_where_the_shard_begins(start):
    samples = conversation([(1.0, 3.0, 0), (3.5, 12.0, 1), (13.0, 24.0, 0)], 25)
    found = [(turn.start - start, turn.end - start) for turn in turns_of(samples, start)]
    assert np.allclose(np.array(found) / SAMPLING_RATE, [(1, 3), (3.5, 12), (13, 24)], atol=TOLERANCE)


def test_chunks_cover_the_region():
    region = Region([(100_000, np.ones(400_000, np.int16))])
    covered = np.zeros(600_000, bool)
    for number in region.chunk_numbers:
        covered[max(0, number * 79_920) : number * 79_920 + CHUNK_SAMPLES] = True
    assert covered[100_000:500_000].all()


def test_a_clip_within_one_chunk_is_one_chunk():
    assert len(Region([(0, np.ones(48_000, np.int16))]).chunk_numbers) == 1


def test_a_long_silence_begins_a_new_region():
    piece = np.ones(16_000, np.int16)
    regions = regions_of([(0, piece), (30_000, piece), (300_000, piece)])
    assert [(region.start, region.end) for region in regions] == [(0, 46_000), (300_000, 316_000)]


def test_speakers_of_overlapping_chunks_are_linked_whatever_their_numbers():
    activities = np.zeros((2, CHUNK_FRAMES, LOCAL_SPEAKERS), bool)
    activities[0, 20:, 0] = True
    activities[1, : CHUNK_FRAMES - 50, 2] = True
    region = Region([(0, np.ones(2 * CHUNK_SAMPLES - 85_000, np.int16))])
    turns = find_turns(region, activities[: len(region.chunk_numbers)], 3, 5)
    assert len({turn.track for turn in turns}) == 1
    assert {turn.track for turn in turns} == {3} and {turn.stretch for turn in turns} == {5}


def test_windows_leave_out_what_others_speak_too():
    turns = [Turn(0, 48_000, 0, 0), Turn(32_000, 80_000, 1, 1)]
    for window in voice_windows(turns):
        for start, end in window.spans:
            assert end <= 32_000 or start >= 48_000


def test_windows_leave_out_pauses():
    turns = [Turn(0, 12_000, 0, 0), Turn(20_000, 32_000, 0, 0)]
    [window] = voice_windows(turns)
    assert window.spans == ((0, 12_000), (20_000, 32_000))


def test_no_window_is_longer_than_the_model_takes():
    windows = voice_windows([Turn(0, 200_123, 0, 0)])
    assert all(sum(end - start for start, end in window.spans) == WINDOW_SAMPLES for window in windows)
    assert windows[0].spans[0][0] == 0 and windows[-1].spans[-1][1] == 200_123


def test_a_very_short_voice_has_no_window():
    assert voice_windows([Turn(0, 3_000, 0, 0)]) == []


def test_a_short_window_is_repeated_to_its_length():
    region = Region([(0, np.arange(16_000, dtype=np.int16))])
    wave = region.window(voice_windows([Turn(0, 8_000, 0, 0)])[0])
    assert len(wave) == WINDOW_SAMPLES and (wave[:8_000] == wave[8_000:16_000]).all()
