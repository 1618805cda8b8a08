"""Restarts a RayJob, for a CronJob: `python nightly.py rayjob.yaml`. Runs in the cluster with only Python and
PyYAML.

A finished RayJob does not start again by itself. This script deletes it and creates it anew; the same command
resumes where the last one stopped, or takes in what is new in the manifest. A RayJob that is still running is
not touched.
"""

from __future__ import annotations

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
ENDED = ("Complete", "Failed", "ValidationFailed")
# Seconds that the pods of the last run may take to end.
PATIENCE = 300


def call(method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Send a request to the Kubernetes API; None if the object does not exist.

    Raises:
        urllib.error.HTTPError: the API refuses.
    """
    api = os.environ.get("KUBERNETES_API", "https://kubernetes.default.svc")
    headers = {"authorization": f"Bearer {(ACCOUNT / 'token').read_text()}"} if ACCOUNT.exists() else {}
    headers["content-type"] = "application/json"
    request = urllib.request.Request(
        f"{api}{path}", json.dumps(body).encode() if body else None, headers, method=method
    )
    trusted = ssl.create_default_context(cafile=ACCOUNT / "ca.crt") if ACCOUNT.exists() else None
    try:
        with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        if error.code == 404 and method != "POST":
            return None
        raise


def start(job: dict[str, Any], patience: float = PATIENCE) -> str:
    """Create the job, after deleting a finished one of the same name; returns what was done.

    Args:
        job: the RayJob.
        patience: seconds to wait for the deletion.

    Raises:
        TimeoutError: the old job is not gone in time.
    """
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    jobs = f"/apis/{job['apiVersion']}/namespaces/{namespace}/rayjobs"
    last = call("GET", f"{jobs}/{name}")
    if last is not None:
        state = last.get("status", {}).get("jobDeploymentStatus") or "New"
        if state not in ENDED:
            return f"{name} is {state}: left alone"
        call("DELETE", f"{jobs}/{name}")
        deadline = time.monotonic() + patience
        while call("GET", f"{jobs}/{name}") is not None:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"{name} was deleted, but it is still there after {patience:g} s: see its finalizers and "
                    "pods"
                )
            time.sleep(min(1.0, patience / 10))
    call("POST", jobs, job)
    return f"{name} started"


if __name__ == "__main__":
    print(start(yaml.safe_load(Path(sys.argv[1]).read_text())))
