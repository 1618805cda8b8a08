"""A server with fake models in a process of its own, for tests of signals and memory.

python -m tests.pipelines.serving.inference.single_process [MODEL [SETTINGS]]

MODEL is the name of the fake recogniser, SETTINGS are settings of `serve` as JSON.
"""

import asyncio
import contextlib
import json
import sys

from actors.config import AlignerConfig, ASRConfig
from pipelines.config import RunConfig
from pipelines.serving import server
from pipelines.serving.app import Application
from pipelines.serving.inference.deployments import Aligner, Recogniser
from pipelines.serving.inference.model_client import ModelClient
from tests.pipelines.serving.conftest import LocalHandle

model = sys.argv[1] if len(sys.argv) > 1 else "fake:0.3"
settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
config = RunConfig.model_validate(
    {
        "asr": ASRConfig(backend="fake", model=model),
        "aligner": AlignerConfig(backend="fake", model="fake"),
        "segmenter": {"max_duration": 15, "backend": "energy"},
        "serve": {"port": 0, "decoders": 1, "model_names": ["fake"], "drain_timeout": 20, **settings},
    }
)


def make_client() -> ModelClient:
    recogniser, aligner = Recogniser(config.asr), Aligner(config.aligner)
    return ModelClient(config, LocalHandle(recogniser), LocalHandle(aligner))


with contextlib.ExitStack() as until_stopped, server._bound_socket(config) as listener, server._logging():
    asyncio.run(server._listen(Application(config, make_client), config, listener, until_stopped))
