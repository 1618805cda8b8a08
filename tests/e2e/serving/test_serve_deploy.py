"""`serve deploy infra/ray/serve.yaml` on a cluster of real nodes with a token, and clients of its proxy."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.cluster import ray_nodes
from tests.e2e.conftest import DEMO_CONFIG, ROOT, SURE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FIRST_NODE = ("--num-cpus=3", "--num-gpus=0", "--labels=zone=a")
SECOND_NODE = ("--num-cpus=3", "--num-gpus=0", "--labels=zone=b")
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
results = {"ready": urllib.request.urlopen(f"{url}/readyz", timeout=30).status, "transcripts": {}}
for key, path in files.items():
    with open(path, "rb") as file:
        response = client.audio.transcriptions.create(
            file=file, model="asr", response_format="verbose_json", timestamp_granularities=["word"]
        )
    results["transcripts"][key] = {"text": response.text, "words": [word.word for word in response.words]}
try:
    client.audio.transcriptions.create(file=("a.wav", b"RIFF"), model="gpt")
except openai.NotFoundError as error:
    results["error"] = error.code
with connect("ws://127.0.0.1:8000/v1/realtime", proxy=None) as stream:
    results["event"] = json.loads(stream.recv(30))["type"]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ray_nodes.Cluster]:
    if not ray_nodes.can_isolate():
        pytest.skip("only root may give a cluster a network of its own")
    with ray_nodes.cluster([FIRST_NODE]) as running:
        yield running


def serve(cluster: ray_nodes.Cluster, *arguments: Any) -> str:
    """Run the `serve` command; returns its output."""
    command = cluster.inside([ray_nodes.BIN / "serve", *arguments])
    completed = subprocess.run(
        command,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stdout[-3000:]
    return completed.stdout


def application_status(cluster: ray_nodes.Cluster) -> dict[str, Any]:
    """The status of the deployed application."""
    status = yaml.safe_load(serve(cluster, "status", "--address", cluster.dashboard))
    application: dict[str, Any] = status["applications"]["scriptorium"]
    return application


def nodes_of_deployments(cluster: ray_nodes.Cluster, names: Iterable[str]) -> dict[str, set[str]]:
    """The IDs of the nodes on which each deployment has replicas."""
    filters = ("--filter", "state=ALIVE", "--format", "json", "--detail")
    output = cluster.ray("list", "actors", "--address", cluster.dashboard, *filters).stdout
    nodes: dict[str, set[str]] = {}
    for actor in json.loads(output[output.index("[") :]):
        for name in names:
            if f"#{name}#" in (actor["name"] or ""):
                nodes.setdefault(name, set()).add(actor["node_id"])
    return nodes


def test_the_deployed_server_responds_and_places_its_models_by_the_settings(
    cluster: ray_nodes.Cluster, tmp_path: Path, demo: dict[str, dict[str, Any]]
) -> None:
    config = yaml.safe_load((ROOT / "infra/ray/serve.yaml").read_text())
    (application,) = config["applications"]
    application["args"] = {"config": DEMO_CONFIG, "set": SETTINGS}
    file = tmp_path / "serve.yaml"
    file.write_text(yaml.safe_dump(config))
    serve(cluster, "deploy", "--address", cluster.dashboard, file)

    # The aligner's node joins later, as in a cluster that scales up on demand.
    deadline = time.monotonic() + 300
    while application_status(cluster)["deployments"].get("recogniser", {}).get("status") != "HEALTHY":
        assert time.monotonic() < deadline, application_status(cluster)
        time.sleep(2)
    assert application_status(cluster)["status"] == "DEPLOYING"
    ray_nodes.add_node(cluster, SECOND_NODE)
    while (status := application_status(cluster))["status"] != "RUNNING":
        assert status["status"] == "DEPLOYING" and time.monotonic() < deadline, status
        time.sleep(2)
    running = {name: deployment["replica_states"] for name, deployment in status["deployments"].items()}
    assert running == {"front": {"RUNNING": 1}, "recogniser": {"RUNNING": 2}, "aligner": {"RUNNING": 1}}
    nodes = nodes_of_deployments(cluster, running)
    assert len(nodes["recogniser"]) == len(nodes["aligner"]) == 1, nodes
    assert nodes["recogniser"] != nodes["aligner"], nodes

    files = json.dumps({key: demo[key]["audio"] for key in SURE})
    command = cluster.inside([sys.executable, "-c", CLIENT])
    completed = subprocess.run(
        command, env=cluster.environment, input=files, capture_output=True, text=True, timeout=300
    )
    assert completed.returncode == 0, completed.stderr[-3000:]
    results = json.loads(completed.stdout)
    assert (results["ready"], results["error"]) == (200, "model_not_found")
    assert results["event"] == "session.created"
    for key in SURE:
        transcript = results["transcripts"][key]
        assert transcript["text"] == demo[key]["text"]
        assert len(transcript["words"]) == len(demo[key]["words"])
    serve(cluster, "shutdown", "--yes", "--address", cluster.dashboard)
