"""Progress is counted by recordings and shown in audio hours."""

import io

from pipelines.execution.progress import ProgressDisplay, Snapshot, Totals, clock
from pipelines.supervision.supervisor import Counter


def test_a_recording_counts_when_its_last_shard_is_done() -> None:
    counter = Counter()
    counter.add([("a", 2, 600.0, False), ("b", 1, 5.0, False)])
    assert counter.read() == (1, 0, 605.0)
    counter.add([("a", 2, 30.0, True)])
    assert counter.read() == (2, 1, 635.0)
    assert counter.unfinished == {}


def test_the_line_has_audio_hours_speed_and_eta() -> None:
    totals = Totals(recordings=10, seconds=36_000, done_recordings=2, done_seconds=7_200)
    snapshot = Snapshot(totals, recordings=3, failed=1, seconds=7_200, elapsed=72)
    assert snapshot.rtfx == 100
    assert snapshot.eta == 216
    assert (
        snapshot.line()
        == "5 of 10 recordings · 4.00 of 10.00 audio hours · 100x real time · ETA 0:03:36 · 1 failed"
    )


def test_the_eta_is_unknown_before_anything_is_finished() -> None:
    assert "ETA unknown" in Snapshot(Totals(1, 60), 0, 0, 0.0, 3.0).line()


def test_a_plain_stream_and_the_store_get_the_last_snapshot() -> None:
    stream, stored = io.StringIO(), []
    with ProgressDisplay(Totals(2, 60), lambda: (2, 0, 60.0), stored.append, stream):
        pass
    assert stream.getvalue().startswith("2 of 2 recordings")
    assert stored[-1].recordings == 2


def test_a_counter_that_does_not_answer_does_not_end_the_run() -> None:
    def broken() -> tuple[int, int, float]:
        raise RuntimeError("the actor died")

    stream = io.StringIO()
    with ProgressDisplay(Totals(2, 60), broken, None, stream):
        pass
    assert "0 of 2 recordings" in stream.getvalue()


def test_clock_has_hours_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]


def test_a_recording_that_an_earlier_run_began_counts_when_its_last_shard_is_done() -> None:
    counter = Counter(unfinished={"a": [2, False]})
    counter.add([("a", 3, 5.0, True)])
    assert counter.read() == (1, 1, 5.0)
