"""Progress is counted by recordings and shown in audio hours."""

import io

import pytest

from pipelines.commits.counter import Committed
from pipelines.execution.progress import ProgressDisplay, Snapshot, Totals, clock
from pipelines.supervision.supervisor import Counter


def nothing(last: bool) -> Committed:
    """Nothing is committed."""
    return Committed()


def test_a_recording_counts_when_its_last_shard_is_done() -> None:
    counter = Counter()
    counter.add([("a", 2, 600.0, False), ("b", 1, 5.0, False)])
    assert counter.read() == (1, 0, 605.0)
    counter.add([("a", 2, 30.0, True)])
    assert counter.read() == (2, 1, 635.0)
    assert counter.unfinished == {}


def test_the_line_has_audio_hours_speed_and_eta() -> None:
    totals = Totals(recordings=10, seconds=36_000, done_recordings=2, done_seconds=7_200)
    snapshot = Snapshot(
        totals, recordings=3, failed=1, seconds=7_200, elapsed=72, committed=Committed(3, 7_200)
    )
    assert snapshot.rtfx == 100
    assert snapshot.eta == 216
    assert snapshot.line() == (
        "committed 5 of 10 recordings · 4.00 of 10.00 audio hours · 100x real time · ETA 0:03:36 · 1 failed"
    )


def test_what_is_under_way_is_told_beside_what_is_committed_and_counts_as_not_done() -> None:
    totals = Totals(recordings=1_000, seconds=7_200)
    snapshot = Snapshot(totals, 446, 0, seconds=3_600, elapsed=36, committed=Committed(242, 1_800))
    assert snapshot.line() == (
        "committed 242 of 1,000 recordings · 0.50 of 2.00 audio hours · "
        "under way 204 recordings, 0.50 hours · 100x real time · ETA 0:00:54 · 0 failed"
    )
    # The supervisor was asked a moment before the store.
    later = Snapshot(totals, 446, 0, seconds=3_600, elapsed=36, committed=Committed(450, 3_650))
    assert "under way" not in later.line()


def test_the_eta_is_unknown_before_anything_is_finished() -> None:
    assert "ETA unknown" in Snapshot(Totals(1, 60), 0, 0, 0.0, 3.0).line()


def test_a_plain_stream_and_the_store_get_the_last_snapshot() -> None:
    stream, stored = io.StringIO(), []
    with ProgressDisplay(
        Totals(2, 60), lambda: (2, 0, 60.0), lambda last: Committed(2, 60.0), stored.append, stream
    ):
        pass
    assert stream.getvalue().startswith("committed 2 of 2 recordings")
    assert stored[-1].recordings == 2


def test_the_last_line_asks_the_store_once_more() -> None:
    asked = []

    def committed(last: bool) -> Committed:
        asked.append(last)
        return Committed(1, 30.0)

    with ProgressDisplay(Totals(2, 60), lambda: (2, 0, 60.0), committed, None, io.StringIO()):
        pass
    assert asked[-1]


def test_a_counter_that_does_not_answer_does_not_end_the_run() -> None:
    def broken() -> tuple[int, int, float]:
        raise RuntimeError("the actor died")

    stream = io.StringIO()
    with ProgressDisplay(Totals(2, 60), broken, lambda last: Committed(1, 30.0), None, stream):
        pass
    assert "committed 1 of 2 recordings" in stream.getvalue()


def test_a_store_that_does_not_answer_leaves_what_it_said_last() -> None:
    answers = iter([Committed(1, 30.0)])
    display = ProgressDisplay(
        Totals(2, 60), lambda: (2, 0, 60.0), lambda last: next(answers), None, io.StringIO()
    )
    assert display._update().committed == display._update().committed == Committed(1, 30.0)
    assert display.last.recordings == 2


def test_clock_has_hours_minutes_and_seconds() -> None:
    assert [clock(s) for s in (0, 59.6, 3661)] == ["0:00:00", "0:01:00", "1:01:01"]


def test_a_recording_that_an_earlier_run_began_counts_when_its_last_shard_is_done() -> None:
    counter = Counter(unfinished={"a": [2, False]})
    counter.add([("a", 3, 5.0, True)])
    assert counter.read() == (1, 1, 5.0)


def test_the_expected_speed_decides_the_beginning_and_the_measured_one_the_rest() -> None:
    totals = Totals(recordings=100, seconds=360_000)

    def eta(seconds: float, elapsed: float) -> float:
        done = Committed(0, seconds)
        found = Snapshot(totals, 0, 0, seconds, elapsed, expected=100.0, committed=done).eta
        assert found is not None
        return found

    assert eta(0, 0) == 3600
    # Models are still being loaded: the time is not forgotten, but counts as little as it is.
    assert eta(0, 30) == 5400
    assert eta(3_000, 60) == pytest.approx(357_000 / 75)
    # Half as fast as expected.
    assert eta(60_000, 1200) == pytest.approx(300_000 / 50, rel=0.06)
    assert eta(360_000, 7200) == 0


def test_the_expected_speed_is_asked_for_until_it_is_known() -> None:
    answers = iter([None, 50.0])
    display = ProgressDisplay(
        Totals(2, 6000), lambda: (0, 0, 0.0), nothing, None, io.StringIO(), lambda: next(answers)
    )
    assert display._update().eta is None
    for _ in range(3):
        found = display._update().eta
        assert found is not None and 120 <= found < 130


def test_an_expected_speed_that_cannot_be_asked_for_changes_nothing_else() -> None:
    def broken() -> float:
        raise TimeoutError

    display = ProgressDisplay(Totals(2, 60), lambda: (1, 0, 30.0), nothing, None, io.StringIO(), broken)
    snapshot = display._update()
    assert (snapshot.recordings, snapshot.expected) == (1, None)
