"""Calls of a stage may overlap, the model's part of them never does."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.asr import ASRActor
from actors.config import ASRConfig
from actors.errors import FatalError
from actors.process import exit as process_exit
from pipelines.execution.stages import Recognise, SerializedStage
from pipelines.supervision.guarded_actor import GuardedActor
from pipelines.supervision.shared_lock import SharedLock

CALLS = 6


def test_one_thread_has_the_model_however_many_call():
    stage, inside, most, threads = SerializedStage(), 0, 0, set()
    together = threading.Barrier(CALLS)

    def model(rows):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        threads.add(threading.get_ident())
        threading.Event().wait(0.01)  # long enough for another one to come in, if it could
        inside -= 1
        return [{"n": row["n"] + 1} for row in rows]

    def call(number):
        together.wait()
        return stage.in_turn(model, [{"n": number}])

    with ThreadPoolExecutor(CALLS) as pool:
        assert list(pool.map(call, range(CALLS))) == [[{"n": number + 1}] for number in range(CALLS)]
    assert most == 1
    assert len(threads) == 1


def test_what_the_model_raises_reaches_its_caller_alone():
    stage = SerializedStage()

    def model(rows):
        if rows[0]["n"] == 1:
            raise ValueError("this one")
        return rows

    with pytest.raises(ValueError, match="this one"):
        stage.in_turn(model, [{"n": 1}])
    assert stage.in_turn(model, [{"n": 2}]) == [{"n": 2}]


def test_a_model_that_wants_several_calls_gets_them():
    stage, together = SerializedStage(max_concurrent_calls=2), threading.Barrier(2, timeout=10)

    def model(rows):
        together.wait()  # nobody comes by who is not in with another one
        return rows

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda number: stage.in_turn(model, [{"n": number}]), range(2))) == [
            [{"n": 0}],
            [{"n": 1}],
        ]


def test_who_wants_to_be_alone_is():
    lock, inside, seen = SharedLock(), set(), []
    in_it, leave = threading.Barrier(3, timeout=10), threading.Event()

    def company(number):
        with lock.shared():
            inside.add(number)
            in_it.wait()
            leave.wait(10)
            inside.discard(number)

    def loner():
        with lock.exclusive():
            seen.append(set(inside))

    with ThreadPoolExecutor(4) as pool:
        early = [pool.submit(company, number) for number in range(2)]
        in_it.wait()
        alone = pool.submit(loner)
        while not lock._taken:
            pass
        in_it.reset()
        late = pool.submit(lambda: lock.shared().__enter__() or seen.append("late"))
        assert not seen and inside == {0, 1}
        leave.set()
        for one in (*early, alone, late):
            one.result(10)
    assert seen == [set(), "late"]


def test_a_recogniser_that_ends_tells_first_what_it_has_asked(monkeypatch):
    """The batch under way when an account runs empty was paid for, too."""
    told = []

    class Paid(ASRActor):
        max_concurrent_calls, model, revision = 1, "m", None

        def __init__(self, config):
            self.asked = 3

        def usage(self):
            return {"requests": self.asked}

    class Sent:
        def __init__(self, name):
            self.remote = lambda *arguments: told.append((name, *arguments))

    class Supervisor:
        def __getattr__(self, name):
            return Sent(name)

    monkeypatch.setattr(
        GuardedActor, "_ask", lambda self, method, *arguments: told.append((method, *arguments))
    )
    monkeypatch.setattr(process_exit, "_callbacks", [])
    stage = Recognise(Paid, ASRConfig(), Supervisor())
    for callback in process_exit._callbacks:
        callback(FatalError("the account is empty"))
    process = stage.guarded.process
    assert told[-2:] == [
        ("record_usage", process, {"requests": 3}),
        ("leave_words", process, "worker_lost", "the account is empty"),
    ]
