"""Stitching of recordings that are a window of a file."""

from tests.pipelines.stitching.stitching_rows import segment, shard, stitched


def window_shard(start, end, window, duration, **more):
    given = {"start": window[0], "end": window[1]}
    text = [segment(start, end or more["decoded"], "one")]
    return shard(start=start, end=end, window=given, duration=duration, segments=text, **more)


def test_a_window_has_its_own_duration_and_the_times_of_the_file():
    row = stitched(window_shard(100.0, 160.0, (100.0, 160.0), 60.0))
    assert (row["duration"], row["window"], row["flags"]) == (60.0, {"start": 100.0, "end": 160.0}, [])
    assert (row["segments"][0]["start"], row["segments"][0]["end"]) == (100.0, 160.0)


def test_a_whole_file_has_no_window():
    assert stitched(shard(end=5.0, segments=[segment(0, 5, "one")]))["window"] is None


def test_a_window_to_the_end_is_compared_with_the_header():
    row = stitched(window_shard(100.0, None, (100.0, None), 60.0, decoded=160.2))
    assert (row["duration"], row["flags"]) == (60.2, [])
    row = stitched(window_shard(100.0, None, (100.0, None), 60.0, decoded=130.0))
    assert (row["duration"], row["flags"]) == (30.0, ["header_duration_wrong"])


def test_a_window_that_ends_behind_its_file_has_only_its_own_flag():
    row = stitched(
        window_shard(100.0, 160.0, (100.0, 160.0), 60.0, decoded=130.0, status="partial")
        | {"flags": ["beyond_end"]}
    )
    assert (row["duration"], row["status"], row["flags"]) == (30.0, "partial", ["beyond_end"])


def test_a_lost_shard_of_a_window_is_lost_in_the_time_of_the_file():
    window = {"start": 100.0, "end": None}
    row = stitched(
        shard(0, 100.0, 130.0, [segment(100, 130, "one")], window=window, duration=60.0),
        shard(1, 130.0, None, status="error", window=window, duration=60.0),
    )
    assert (row["duration"], row["status"]) == (60.0, "partial")
    assert row["flags"] == ["lost:130-160", "error:corrupt_audio"]


def test_the_dead_letter_of_a_window_has_its_window():
    row = stitched(shard(0, 5.0, 9.0, status="error", window={"start": 5.0, "end": 9.0}, duration=4.0))
    assert (row["error_code"], row["window"], row["duration"]) == (
        "corrupt_audio",
        {"start": 5.0, "end": 9.0},
        4.0,
    )
