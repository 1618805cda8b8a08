"""Calls of a stage may overlap, the model's part of them never does."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipelines.stages import InTurn

CALLS = 6


def test_one_thread_has_the_model_however_many_call():
    stage, inside, most, threads = InTurn(), 0, 0, set()
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
    stage = InTurn()

    def model(rows):
        if rows[0]["n"] == 1:
            raise ValueError("this one")
        return rows

    with pytest.raises(ValueError, match="this one"):
        stage.in_turn(model, [{"n": 1}])
    assert stage.in_turn(model, [{"n": 2}]) == [{"n": 2}]
