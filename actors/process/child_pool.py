"""A fixed number of child processes that share the calls of many callers, one call per child at a time."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Protocol, TypeVar


class Closable(Protocol):
    """A `Child`, or an object that owns one."""

    def close(self) -> None: ...


Worker = TypeVar("Worker", bound=Closable)
Result = TypeVar("Result")


class ChildPool(Generic[Worker]):
    """Runs work on idle workers, first come, first served.

    Args:
        workers: `Child` objects, or objects that own one each. The pool closes them.
    """

    def __init__(self, workers: Iterable[Worker]) -> None:
        self._workers = list(workers)
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        # One thread per worker, and the threads live as long as the pool: the kernel kills a child when the
        # thread that started it ends (PR_SET_PDEATHSIG).
        self._threads = ThreadPoolExecutor(len(self._workers), "child-pool")

    def submit(self, work: Callable[[Worker], Result]) -> Future[Result]:
        """Run `work` with an idle worker.

        A future that is cancelled before its work starts occupies no worker.
        """
        return self._threads.submit(self._run, work)

    def close(self) -> None:
        """Cancel waiting work and close all workers; does not wait for the threads.

        Running calls may never return, and the interpreter does not exit before the threads do. Closing the
        workers ends these calls.
        """
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _run(self, work: Callable[[Worker], Result]) -> Result:
        worker = self._idle.get()
        try:
            return work(worker)
        finally:
            self._idle.put(worker)
