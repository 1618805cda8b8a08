"""Scale: reading manifests, planning and resuming at 10 k, 100 k and 1 M recordings, and listing as many
keys: seconds and driver memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.benchmarks.workloads.listing_server import KEYS_PER_PAGE, ListedBucket
from tests.benchmarks.workloads.rows import Row

LIMIT_SECONDS = 900
EXPECTED_MINUTES = 2
SIZES = (10_000, 100_000)
FULL_SIZE = 1_000_000
# Aims: plan in s, resume in s, driver in GiB.
AIMS = {FULL_SIZE: ("<= 300", "<= 90", "<= 2")}
# Share of shards that a resumed run finds done.
DONE = 0.9


def measure(full: bool) -> Iterator[Row]:
    """Each step in a fresh process, so that its CPU seconds and peak memory are its own."""
    for size in (*SIZES, *((FULL_SIZE,) if full else ())):
        with tempfile.TemporaryDirectory() as folder:
            manifest, out = str(Path(folder) / "manifest.jsonl"), str(Path(folder) / "out")
            _write_manifest(manifest, size)
            name = f"{size:,} recordings"
            aims = AIMS.get(size, ("", "", ""))
            planned = _step("plan", manifest, out)
            note = f"{planned['shards']:,} shards in {planned['files']:,} plan files; {planned['parts']}"
            yield Row(
                f"{name}: read the manifest and plan",
                planned["wall"],
                "s",
                aims[0],
                f"{planned['cpu']:.1f} CPU-s; {note}",
            )
            yield Row(f"{name}: memory of the driver that plans", planned["gib"], "GiB", aims[2])
            again = _step("plan", manifest, out)
            yield Row(
                f"{name}: plan the same manifest again",
                again["wall"],
                "s",
                note=f"{again['cpu']:.1f} CPU-s; {again['parts']}",
            )
            _step("commit", manifest, out)
            resumed = _step("resume", manifest, out)
            note = f"{resumed['cpu']:.1f} CPU-s; {resumed['left']:,} shards left; {resumed['parts']}"
            yield Row(f"{name}: resume with {DONE:.0%} done, up to Ray", resumed["wall"], "s", aims[1], note)
            yield Row(f"{name}: memory of the driver that resumes", resumed["gib"], "GiB", aims[2])
            if full:
                yield _first_commit(manifest, out, name, aims[1])
    for size in (10_000, FULL_SIZE if full else 100_000):
        yield _listing(size)


def _first_commit(manifest: str, out: str, name: str, aim: str) -> Row:
    """The whole command, from its start to the first new commit (the audio does not exist, so decoding fails
    at once).
    """
    before = {*(Path(out) / "checkpoint").iterdir()}
    settings = ["plan.trust_durations=true", "asr.backend=fake", "aligner.backend=fake"]
    options = [part for setting in settings for part in ("--set", setting)]
    began = time.monotonic()
    job = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "transcribe", manifest, out, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    largest = 0.0
    try:
        while not any(
            ".pending" not in path.name for path in {*(Path(out) / "checkpoint").iterdir()} - before
        ):
            if job.poll() is not None:
                raise RuntimeError(f"the command ended: {job.communicate()[1].decode()[-2000:]}")
            if time.monotonic() - began > LIMIT_SECONDS:
                return Row(
                    f"{name}: resume, command to first commit",
                    None,
                    "s",
                    aim,
                    f"none after {LIMIT_SECONDS} s",
                )
            status = Path(f"/proc/{job.pid}/status").read_text()
            largest = max(largest, int(status.partition("VmHWM:")[2].split()[0]) / 2**20)
            time.sleep(0.2)
        return Row(
            f"{name}: resume, command to first commit",
            time.monotonic() - began,
            "s",
            aim,
            f"Ray's start included; driver {largest:.2f} GiB",
        )
    finally:
        job.terminate()
        try:
            job.wait(60)
        except subprocess.TimeoutExpired:
            job.kill()
            job.wait()


def _write_manifest(path: str, size: int) -> None:
    """An archive with realistic lengths: most files of minutes, some of hours; durations are trusted."""
    import numpy as np

    seconds = np.random.default_rng(0).lognormal(5.0, 1.2, size).clip(1, 20_000)
    with open(path, "w") as file:
        for start in range(0, size, 10_000):
            file.writelines(
                json.dumps(
                    {
                        "audio": f"/archive/calls/{row // 1000:04d}/call-{row:07d}.mp3",
                        "duration": round(float(seconds[row]), 2),
                        "site": row % 7,
                    }
                )
                + "\n"
                for row in range(start, min(size, start + 10_000))
            )


def _step(what: str, manifest: str, out: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.job.bench_scale", what, manifest, out]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def _child(what: str, manifest: str, out: str) -> dict[str, Any]:
    """One step, in this process."""
    import resource

    import pyarrow as pa
    import pyarrow.compute as pc

    from pipelines.config import RunConfig
    from pipelines.manifests.manifest import read_manifest
    from pipelines.output import plans, run_record, shards
    from pipelines.planning import planner
    from pipelines.schema import PLAN, SHARD
    from pipelines.storage import files as locations

    config = RunConfig.model_validate(
        {"plan": {"trust_durations": True}, "asr": {"backend": "fake"}, "aligner": {"backend": "fake"}}
    )
    clock = _Clock()
    facts: dict[str, Any] = {}
    if what == "plan":
        run_record.open_run(out, config, "transcribe", manifest)
        table = planner.collect(read_manifest(manifest), config)
        clock.lap("manifest")
        planner.extend_plan(out, table, config, "run")
        clock.lap("plan")
        facts = {
            "shards": planner.read_plan(out, ["shard_id"]).num_rows,
            "files": len(locations.list(f"{out}/plan", ".parquet")),
        }
    elif what == "commit":
        plan = planner.read_plan(out)
        done = plan.slice(0, int(plan.num_rows * DONE)).select(PLAN.names)
        # What a run leaves: a file of rows and a file of ids for each task. Rows of silent shards are small.
        files = max(1, int(len(locations.list(f"{out}/plan", ".parquet")) * DONE))
        size = -(-len(done) // files)
        for number in range(files):
            part = done.slice(number * size, size)
            given = {name: part[name] for name in PLAN.names} | {
                "status": pa.array(["no_speech"] * part.num_rows)
            }
            columns = [given.get(field.name, pa.nulls(part.num_rows, field.type)) for field in SHARD]
            rows = pa.table(columns, schema=SHARD)
            locations.write_atomic(
                f"{shards.folder(out)}/task-{number:06d}-0.parquet", shards.parquet_bytes(rows), sync=False
            )
            ids = shards.parquet_bytes(part.select([shards.ID]))
            locations.write_atomic(
                f"{shards.checkpoint_folder(out)}/task-{number:06d}.parquet", ids, sync=False
            )
    elif what == "resume":
        from pipelines.execution.supervised_pass import ShardPass

        table = planner.collect(read_manifest(manifest), config)
        clock.lap("manifest")
        shards.recover(out)
        clock.lap("settle")
        planner.extend_plan(out, table, config, "again")
        clock.lap("plan")
        plan = planner.read_plan(out)
        clock.lap("read plan")
        todo = shards.left_to_do(plan, out)
        clock.lap("ids done")
        plans.files_of(todo)
        pc.count_distinct(plan["recording_id"])
        ShardPass(out, config, "again", "transcribe", plan, todo).totals  # noqa: B018
        clock.lap("sums")
        facts = {"left": todo.num_rows}
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "wall": clock.wall(),
        "cpu": time.process_time() - clock.cpu,
        "gib": gib,
        "parts": ", ".join(clock.parts),
        **facts,
    }


class _Clock:
    """Wall seconds and laps."""

    def __init__(self) -> None:
        self.began = self.last = time.monotonic()
        self.cpu = time.process_time()
        self.end_time = self.began
        self.parts: list[str] = []

    def lap(self, name: str) -> None:
        self.last, before = time.monotonic(), self.last
        self.end_time = self.last
        self.parts.append(f"{name} {self.last - before:.1f} s")

    def wall(self) -> float:
        return self.end_time - self.began


def _listing(size: int) -> Row:
    """A folder of audio in an object store as a manifest, read in its own process; this one is the store."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bucket", (ListedBucket,), {"size": size}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
    }
    code = (
        "import time, resource, sys; from pipelines.manifests.manifest import read_manifest; began, cpu = "
        "time.monotonic(), time.process_time();"
        "count = sum(1 for _ in read_manifest('s3://archive/calls'));"
        "print(count, time.monotonic() - began, time.process_time() - cpu, "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)"
    )
    try:
        result = subprocess.run(
            [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=environment
        )
    finally:
        server.shutdown()
    count, wall, cpu, gib = result.stdout.split()
    if int(count) != size:
        raise RuntimeError(f"{count} of {size} keys were listed")
    note = (
        f"{float(cpu):.1f} CPU-s, {float(gib):.2f} GiB; "
        f"pages of {KEYS_PER_PAGE} keys from a server on loopback that only lists"
    )
    return Row(f"{size:,} keys listed as a manifest", float(wall), "s", note=note)


if __name__ == "__main__":
    print(json.dumps(_child(*sys.argv[1:])))
