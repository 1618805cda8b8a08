"""A server with fake models as a process of its own, for what is about processes: signals, memory.

python -m tests.pipelines.serving.inference.single_process [MODEL [SETTINGS]]     the fake recogniser's name; settings of `serve` as JSON
"""

import asyncio
import json
import sys

from actors.config import AlignerConfig, ASRConfig
from pipelines.config import RunConfig
from pipelines.serving import server
from pipelines.serving.app import Application
from pipelines.serving.inference.deployments import Aligner, Recogniser
from pipelines.serving.inference.model_client import Models
from tests.pipelines.serving.conftest import Direct

model = sys.argv[1] if len(sys.argv) > 1 else "fake:0.3"
settings = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
config = RunConfig.model_validate(
    {
        "asr": ASRConfig(backend="fake", model=model),
        "aligner": AlignerConfig(backend="fake", model="fake"),
        "segmenter": {"max_duration": 15},
        "serve": {"port": 0, "decoders": 1, "model_names": ["fake"], "drain_timeout": 20, **settings},
    }
)


def models() -> Models:
    return Models(config, Direct(Recogniser(config.asr)), Direct(Aligner(config.aligner)))


with server._bound(config) as listener, server._logged():
    asyncio.run(server._listen(Application(config, models), config, listener))
