"""The server as Ray Serve applications: behind Ray's own proxy, and twice on one cluster."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import openai
import pytest
from websockets.sync.client import connect

from tests.e2e.conftest import DEMO_CONFIG, ROOT, SURE
from tests.e2e.serving.conftest import Demo, read_audio

pytestmark = pytest.mark.slow


def test_the_server_works_behind_rays_proxy(local_ray: None, demo: Demo) -> None:
    import yaml
    from ray import serve

    from pipelines.serving.inference.model_client import running_replicas
    from pipelines.serving.ray_serve_app import build

    config = yaml.safe_load((ROOT / "infra/ray/serve.yaml").read_text())
    (application,) = config["applications"]
    assert application["import_path"] == f"{build.__module__}:{build.__name__}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={**config["http_options"], "port": port})
    try:
        built = build({"config": DEMO_CONFIG, "set": ["serve.decoders=1"]})
        serve.run(built, name="scriptorium", route_prefix="/")
        client = openai.OpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120
        )
        create, file = client.audio.transcriptions.create, read_audio(demo[SURE[0]]["audio"])
        assert create(file=file, model="asr").text == demo[SURE[0]]["text"]
        with pytest.raises(openai.NotFoundError, match="there is no model"):
            create(file=file, model="gpt")
        with connect(f"ws://127.0.0.1:{port}/v1/realtime", proxy=None) as stream:
            assert json.loads(stream.recv(30))["type"] == "session.created"
        handle = serve.get_deployment_handle("recogniser", "scriptorium")
        assert running_replicas(handle) == 1 and running_replicas(object()) is None
    finally:
        serve.shutdown()


def test_two_servers_on_one_cluster_have_their_own_models(local_ray: None) -> None:
    from ray import serve

    from actors.config import AlignerConfig, ASRConfig
    from pipelines.config import ClusterConfig, RunConfig
    from pipelines.serving.server import deployed

    config = RunConfig(
        asr=ASRConfig(backend="fake", model="fake"),
        aligner=AlignerConfig(backend="none"),
        cluster=ClusterConfig(address="auto"),
    )

    async def model(make_client: Any) -> Any:
        return (await make_client().model_columns())["asr_model"]

    try:
        with deployed(config) as first:
            with deployed(config) as second:
                assert len(serve.status().applications) == 2
                assert [asyncio.run(model(make_client)) for make_client in (first, second)] == ["fake"] * 2
            assert asyncio.run(model(first)) == "fake"
            assert len(serve.status().applications) == 1
        assert not serve.status().applications
    finally:
        serve.shutdown()
