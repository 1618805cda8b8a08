"""Jobs on Kubernetes: a run is stored when its head is removed, and the nightly job is created again."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import psutil
import pytest

from tests.infra.kubernetes_manifests import FOLDER, RAY, ROOT, pre_stop, ray_cluster

RUN = """
import os, signal, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(9))
    time.sleep(0.7)
    with open({mark!r}, "a") as file:
        file.write("stored ")
    sys.exit(1)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""

JOBS = "/apis/ray.io/v1/namespaces/scriptorium/rayjobs"


def test_an_interrupted_job_is_tried_again():
    """The command stays the same, and only workers run on spot machines."""
    spec = RAY["rayjob"]["spec"]
    assert spec["backoffLimit"] >= 1 and spec["shutdownAfterJobFinishes"]
    assert spec["entrypoint"].startswith("bash /opt/scriptorium/transcribe.sh ")
    head = ray_cluster("rayjob")["headGroupSpec"]["template"]["spec"]
    assert "nodeSelector" not in head and "tolerations" not in head


@pytest.mark.parametrize("name", ["rayjob", "raycluster"])
def test_a_removed_head_has_time_to_store(name):
    """The grace period covers a stop in progress, our own stop, and what follows."""
    head = ray_cluster(name)["headGroupSpec"]["template"]["spec"]
    wait = int(
        next(
            variable["value"]
            for variable in head["containers"][0]["env"]
            if variable["name"] == "RAY_JOB_STOP_WAIT_TIME_S"
        )
    )
    assert wait > 3 and wait + 3 + 5 < head["terminationGracePeriodSeconds"] * 0.75
    assert pre_stop(name) == pre_stop("rayjob")


@pytest.mark.parametrize("stopped_before", [False, True])
def test_a_run_fails_by_itself_when_its_head_is_removed(tmp_path, stopped_before):
    """It receives one signal, stores and fails, so it is tried again. Other processes receive no signal."""
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

    mark, processes = tmp_path / "mark", tmp_path / "processes"
    processes.mkdir()
    (tmp_path / "run.py").write_text(RUN.format(mark=str(mark)))
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path}/run.py "$@"\n')
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop(RAY_JOB_CONFIG_JSON_ENV_VAR, None)
    # As Ray runs it: in a shell, and Ray waits for the shell.
    entrypoint = f"cd / && bash {ROOT}/infra/ray/transcribe.sh m o; exit $?"
    of_a_job = {**environment, RAY_JOB_CONFIG_JSON_ENV_VAR: "{}"}
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=environment)
    job = subprocess.Popen(
        entrypoint, shell=True, env=of_a_job, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert job.stdout.readline() == "ready\n"
        family = [
            job.pid,
            bystander.pid,
            *(child.pid for child in psutil.Process(job.pid).children(recursive=True)),
        ]
        # The hook sees only these processes: other Ray jobs may run on this machine.
        for pid in family:
            (processes / str(pid)).symlink_to(f"/proc/{pid}")
        if stopped_before:  # as KubeRay's operator does when a RayJob is deleted
            os.kill(family[-1], signal.SIGTERM)
        script = (
            pre_stop("rayjob")
            .replace('"/proc"', repr(str(processes)))
            .replace("time.sleep(5)", "time.sleep(0)")
        )
        hook = subprocess.run(
            [sys.executable, "-c", script], env={**environment, "RAY_JOB_STOP_WAIT_TIME_S": "2"}, timeout=30
        )
        assert hook.returncode == 0
        assert job.wait(10) == 1 and mark.read_text() == "stored "
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
        job.stdout.close()


class Api(BaseHTTPRequestHandler):
    """The part of the Kubernetes API that `nightly.py` uses: one RayJob, visible once more after deletion."""

    job: dict | None = None
    requests: list[str]
    lingering = 0

    def _answer(self, code: int, body: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        kind = type(self)
        if kind.job is not None and kind.job.get("deleted"):
            kind.lingering -= 1
            if kind.lingering < 0:
                kind.job = None
        self._answer(404, {}) if kind.job is None else self._answer(200, kind.job)

    def do_DELETE(self):
        kind = type(self)
        kind.requests.append(f"DELETE {self.path}")
        kind.job = {**(kind.job or {}), "deleted": True}
        self._answer(200, {})

    def do_POST(self):
        kind = type(self)
        kind.requests.append(f"POST {self.path}")
        assert kind.job is None
        kind.job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(201, kind.job)

    def log_message(self, *_):
        pass


@pytest.fixture
def api(monkeypatch):
    kind = type("Api", (Api,), {"requests": [], "job": None, "lingering": 1})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("KUBERNETES_API", f"http://127.0.0.1:{server.server_port}")
    yield kind
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def nightly():
    spec = importlib.util.spec_from_file_location("nightly", FOLDER / "nightly.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "state, requests",
    [
        (None, [f"POST {JOBS}"]),
        ("Complete", [f"DELETE {JOBS}/scriptorium", f"POST {JOBS}"]),
        ("Failed", [f"DELETE {JOBS}/scriptorium", f"POST {JOBS}"]),
        ("Running", []),
        ("Retrying", []),
        ("", []),
    ],
)
def test_the_nightly_job_replaces_a_finished_one(api, nightly, state, requests):
    if state is not None:
        api.job = {"status": {"jobDeploymentStatus": state}}
    message = nightly.start(RAY["rayjob"], patience=5)
    assert api.requests == requests
    assert ("left alone" in message) == (not requests)
    if requests:
        assert api.job == RAY["rayjob"]


def test_the_nightly_job_gives_up_on_a_job_that_is_never_deleted(api, nightly):
    api.job, api.lingering = {"status": {"jobDeploymentStatus": "Failed"}}, 1000
    with pytest.raises(TimeoutError, match="finalizers"):
        nightly.start(RAY["rayjob"], patience=0.3)
