"""`serve deploy infra/ray/serve.yaml` on a cluster of real nodes with a token, and what OpenAI's client and a WebSocket get from its proxy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import ray_nodes
from tests.e2e.conftest import DEMO_CONFIG, ROOT, SURE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST, LATE = (
    ("--num-cpus=3", "--num-gpus=0", "--labels=zone=a"),
    ("--num-cpus=3", "--num-gpus=0", "--labels=zone=b"),
)
SETTINGS = [
    *("serve.decoders=1", "serve.min_replicas=2"),
    *("asr.pool.size=2", "asr.pool.num_gpus=0", "asr.pool.labels={zone: a}"),
    *("aligner.pool.size=1", "aligner.pool.num_gpus=0", "aligner.pool.labels={zone: b}"),
]

CLIENT = """
import json, sys, urllib.request
import openai
from websockets.sync.client import connect

url, files = "http://127.0.0.1:8000", json.load(sys.stdin)
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)
found = {"ready": urllib.request.urlopen(f"{url}/readyz", timeout=30).status, "answers": {}}
for key, path in files.items():
    with open(path, "rb") as file:
        answer = client.audio.transcriptions.create(
            file=file, model="asr", response_format="verbose_json", timestamp_granularities=["word"]
        )
    found["answers"][key] = {"text": answer.text, "words": [word.word for word in answer.words]}
try:
    client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="gpt")
except openai.NotFoundError as error:
    found["refused"] = error.code
with connect("ws://127.0.0.1:8000/v1/realtime", proxy=None) as stream:
    found["stream"] = json.loads(stream.recv(30))["type"]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_nodes.Cluster]:
    if not ray_nodes.may_isolate():
        pytest.skip("only root may give a cluster a network of its own")
    with ray_nodes.cluster([FIRST]) as made:
        yield made


def serve(cluster: ray_nodes.Cluster, *arguments: Any) -> str:
    """The `serve` command; what it said."""
    command = cluster.inside([ray_nodes.BIN / "serve", *arguments])
    done = subprocess.run(
        command,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def state(cluster: ray_nodes.Cluster) -> dict[str, Any]:
    """Of the application."""
    found: dict[str, Any] = yaml.safe_load(serve(cluster, "status", "--address", cluster.dashboard))[
        "applications"
    ]["scriptorium"]
    return found


def test_the_deployed_server_answers_and_its_models_are_where_the_settings_want_them(
    cluster: ray_nodes.Cluster, tmp_path: Path, demo: dict[str, dict[str, Any]]
) -> None:
    described = yaml.safe_load((ROOT / "infra/ray/serve.yaml").read_text())
    (application,) = described["applications"]
    application["args"] = {"config": DEMO_CONFIG, "set": SETTINGS}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(described))
    serve(cluster, "deploy", "--address", cluster.dashboard, file)

    # The aligner's node comes late, as where a cluster grows with what is asked of it.
    deadline = time.monotonic() + 300
    while state(cluster)["deployments"].get("recogniser", {}).get("status") != "HEALTHY":
        assert time.monotonic() < deadline, state(cluster)
        time.sleep(2)
    assert state(cluster)["status"] == "DEPLOYING"
    ray_nodes.add_node(cluster, LATE)
    while (status := state(cluster))["status"] != "RUNNING":
        assert status["status"] == "DEPLOYING" and time.monotonic() < deadline, status
        time.sleep(2)
    running = {name: deployment["replica_states"] for name, deployment in status["deployments"].items()}
    assert running == {"front": {"RUNNING": 1}, "recogniser": {"RUNNING": 2}, "aligner": {"RUNNING": 1}}
    said = cluster.ray(
        "list",
        "actors",
        "--address",
        cluster.dashboard,
        "--filter",
        "state=ALIVE",
        "--format",
        "json",
        "--detail",
    ).stdout
    places: dict[str, set[str]] = {}
    for actor in json.loads(said[said.index("[") :]):
        for name in running:
            if f"#{name}#" in (actor["name"] or ""):
                places.setdefault(name, set()).add(actor["node_id"])
    assert (
        len(places["recogniser"]) == len(places["aligner"]) == 1 and places["recogniser"] != places["aligner"]
    ), places

    asked = json.dumps({key: demo[key]["audio"] for key in SURE})
    command = cluster.inside([sys.executable, "-c", CLIENT])
    done = subprocess.run(
        command, env=cluster.environment, input=asked, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert (found["ready"], found["refused"], found["stream"]) == (200, "model_not_found", "session.created")
    for key in SURE:
        assert found["answers"][key]["text"] == demo[key]["text"] and len(
            found["answers"][key]["words"]
        ) == len(demo[key]["words"])
    serve(cluster, "shutdown", "--yes", "--address", cluster.dashboard)
