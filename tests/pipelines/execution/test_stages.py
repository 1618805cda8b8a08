"""Calls of a stage overlap, except for the model's part of them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pyarrow as pa
import pytest

from actors.asr import ASRActor
from actors.backends.cost_model import CostModel
from actors.config import AlignerConfig, ASRConfig, AudioConfig, SegmenterConfig
from actors.errors import FatalError
from actors.process import exit as process_exit
from pipelines.execution import stages
from pipelines.execution.ray_data import BYTES_PER_SECOND
from pipelines.execution.stages import Align, Recognise, SerializedStage
from pipelines.schema import DECODED
from pipelines.supervision.guarded_actor import GuardedActor
from pipelines.supervision.shared_lock import SharedLock

CALLS = 6


def test_one_thread_uses_the_model_however_many_call():
    stage, inside, most, threads = SerializedStage(), 0, 0, set()
    all_calls = threading.Barrier(CALLS)

    def model(rows):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.add(threading.get_ident())
        threading.Event().wait(0.01)  # long enough for another thread to enter, if it could
        inside -= 1
        return [{"n": row["n"] + 1} for row in rows]

    def call(number):
        all_calls.wait()
        return stage.run_model(model, [{"n": number}])

    with ThreadPoolExecutor(CALLS) as pool:
        assert list(pool.map(call, range(CALLS))) == [[{"n": number + 1}] for number in range(CALLS)]
    assert most == 1
    assert len(threads) == 1


def test_an_error_of_the_model_reaches_only_its_caller():
    stage = SerializedStage()

    def model(rows):
        if rows[0]["n"] == 1:
            raise ValueError("this one")
        return rows

    with pytest.raises(ValueError, match="this one"):
        stage.run_model(model, [{"n": 1}])
    assert stage.run_model(model, [{"n": 2}]) == [{"n": 2}]


def test_a_model_with_two_concurrent_calls_gets_two():
    stage, both_calls = SerializedStage(max_concurrent_calls=2), threading.Barrier(2, timeout=10)

    def model(rows):
        both_calls.wait()  # passes only if two threads are inside
        return rows

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda number: stage.run_model(model, [{"n": number}]), range(2)))
    assert results == [[{"n": 0}], [{"n": 1}]]


def test_an_exclusive_holder_waits_for_others_and_blocks_new_ones():
    lock, inside, seen = SharedLock(), set(), []
    entered, leave = threading.Barrier(3, timeout=10), threading.Event()

    def hold_shared(number):
        with lock.shared():
            inside.add(number)
            entered.wait()
            leave.wait(10)
            inside.discard(number)

    def hold_exclusive():
        with lock.exclusive():
            seen.append(set(inside))

    with ThreadPoolExecutor(4) as pool:
        early = [pool.submit(hold_shared, number) for number in range(2)]
        entered.wait()
        exclusive = pool.submit(hold_exclusive)
        while not lock._reserved:
            pass
        entered.reset()
        late = pool.submit(lambda: lock.shared().__enter__() or seen.append("late"))
        assert not seen
        assert inside == {0, 1}
        leave.set()
        for future in (*early, exclusive, late):
            future.result(10)
    assert seen == [set(), "late"]


def test_a_recogniser_reports_its_usage_before_it_ends(monkeypatch):
    """The batch under way when an account runs empty was paid for, too."""
    reports = []

    class PaidActor(ASRActor):
        max_concurrent_calls, model, revision, cost_model = 1, "m", None, None

        def __init__(self, config):
            self.requests, self.ladder = 3, SimpleNamespace()

        def usage(self):
            return {"requests": self.requests}

    class RemoteMethod:
        def __init__(self, name):
            self.remote = lambda *arguments: reports.append((name, *arguments))

    class SupervisorHandle:
        def __getattr__(self, name):
            return RemoteMethod(name)

    monkeypatch.setattr(
        GuardedActor, "_ask", lambda self, method, *arguments: reports.append((method, *arguments))
    )
    monkeypatch.setattr(process_exit, "_callbacks", [])
    stage = Recognise(PaidActor, ASRConfig(), SupervisorHandle())
    for callback in process_exit._callbacks:
        callback(FatalError("the account is empty"))
    process = stage.guarded.process
    assert reports[-2:] == [
        ("record_usage", process, {"requests": 3}),
        ("record_exit_reason", process, "worker_lost", "the account is empty"),
    ]


def test_stages_report_what_their_calls_cost(monkeypatch):
    reports = []

    class RemoteMethod:
        def __init__(self, name):
            self.remote = lambda *arguments: reports.append((name, *arguments))

    class SupervisorHandle:
        def __getattr__(self, name):
            return RemoteMethod(name)

    monkeypatch.setattr(GuardedActor, "_ask", lambda *arguments: None)
    recognise = Recognise(ASRActor, ASRConfig(backend="fake", model="fake"), SupervisorHandle())
    align = Align(AlignerConfig(backend="fake", model="fake"), "run", SupervisorHandle())
    row = dict.fromkeys(DECODED.names) | {
        "shard_id": "s",
        "recording_id": "r",
        "status": "ok",
        "start": 0.0,
        "shard_count": 1,
        "segments": [{"start": 0.0, "end": 2.0, "samples": bytes(2 * BYTES_PER_SECOND)}],
    }
    silent = row | {"shard_id": "t", "segments": []}
    for rows in ([row, row], [silent]):
        align(recognise(pa.Table.from_pylist(rows, schema=DECODED)))
    costs = [report[1:] for report in reports if report[0] == "record_costs"]
    # The call without speech is not counted.
    assert [(stage, device) for stage, device, _ in costs] == [("recognise", "cpu"), ("align", "cpu")]
    for _, _, record in costs:
        assert (record["calls"], record["audio_seconds"], record["model"]) == (1, 4.0, "fake")
        assert record["busy_seconds"] >= 0
        assert "fitted" not in record


def test_what_a_model_measured_when_it_was_loaded_is_reported(monkeypatch):
    reports = []

    class SupervisorHandle:
        class record_costs:
            remote = staticmethod(lambda *arguments: reports.append(arguments))

    class Actor:
        config, model = ASRConfig(), "m"
        cost_model = CostModel(0.001, 0.0002, 128, "NVIDIA H200")

        class backend:
            device = None

    stage = SerializedStage()
    stage._report_costs("recognise", Actor, 30.0, SupervisorHandle)
    fitted = {"call_seconds": 0.001, "padded_second": 0.0002, "rows": 128, "device": "NVIDIA H200"}
    assert reports[0][2]["fitted"] == fitted
    # Before any call, so that the run has an expected speed.
    stage._report("recognise", Actor, {}, SupervisorHandle)
    assert reports[1][2] == {"model": "m", "fitted": fitted, "threads": None}


@pytest.mark.parametrize("error", [FatalError("no module"), ModuleNotFoundError("No module named 'av'")])
def test_a_worker_that_cannot_decode_anything_stops_the_run(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise every recording would become a dead letter."""

    def fail(*_: Any) -> None:
        raise error

    supervisor = MagicMock()
    monkeypatch.setattr(stages, "_decoder", lambda *_: fail)
    table = pa.Table.from_pylist([{"shard_id": "a", "audio": "a.wav"}])
    with pytest.raises(FatalError, match=r"decoding cannot run: [Nn]o module"):
        list(stages.decode(table, AudioConfig(), SegmenterConfig(), supervisor))
    supervisor.stop_run.remote.assert_called_once_with(f"decoding cannot run: {error}")
