"""Runs the tasks of an export: in this process, in several, or on Ray.

A local export of a few transcripts must not wait for processes to start; a large one should use all cores,
and one of millions of transcripts all machines of a cluster.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from typing import Any, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# Bytes of transcripts (uncompressed), or seconds of audio to cut, from which processes are worth their start.
LARGE_BYTES = 16 << 20
LARGE_SECONDS = 3600.0
_IN_FLIGHT = 3  # tasks for each worker that are submitted at once


def workers_for(size: float, large: float, tasks: int, chosen: int | None) -> int:
    """How many processes an export takes.

    Args:
        size: of the work, in any unit.
        large: size from which more than one process is worth its start.
        tasks: number of tasks.
        chosen: by the user; None: decided by size.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = chosen if chosen is not None else cores if size >= large else 1
    return max(1, min(wanted, tasks))


def run_tasks(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, address: str | None = None
) -> Iterator[Result]:
    """The result of each task, in the order in which they end.

    Args:
        function: of a module; it and the tasks are pickled.
        tasks: what to do.
        workers: processes; 1: this one.
        address: of a Ray cluster, or `local` for a Ray on this machine; None: no Ray.
    """
    if address is not None:
        yield from _on_ray(function, tasks, address)
    elif workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
    else:
        yield from _in_processes(function, tasks, workers)


def _in_processes(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int
) -> Iterator[Result]:
    # Fresh interpreters: a fork of a process with threads of Arrow may deadlock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: set[Future[Result]] = set()
        try:
            for task in tasks:
                waiting.add(pool.submit(function, task))
                if len(waiting) >= workers * _IN_FLIGHT:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            for future in waiting:
                future.cancel()


def _on_ray(function: Callable[[Task], Result], tasks: Sequence[Task], address: str) -> Iterator[Result]:
    from pipelines.cluster.session import running_ray
    from pipelines.config_sections import ClusterConfig

    with running_ray(ClusterConfig(address=address)):
        import ray

        remote: Any = ray.remote(max_retries=3)(_call)
        # Stored once for all tasks.
        stored = ray.put(function)
        limit = max(1, int(ray.cluster_resources().get("CPU", 1))) * _IN_FLIGHT
        waiting: list[Any] = []
        for task in tasks:
            waiting.append(remote.remote(stored, task))
            if len(waiting) >= limit:
                done, waiting = ray.wait(waiting)
                yield from ray.get(done)
        while waiting:
            done, waiting = ray.wait(waiting)
            yield from ray.get(done)


def _call(function: Callable[[Task], Result], task: Task) -> Result:
    """Ray runs functions only, not objects that can be called."""
    return function(task)
