"""A server with slow fake models, run by `test_ending.py` as a process of its own: signals are for processes."""

import asyncio

from actors.config import AlignerConfig, ASRConfig
from pipelines.config import RunConfig
from pipelines.serving import server
from pipelines.serving.app import Application
from pipelines.serving.models import Aligner, Models, Recogniser
from tests.pipelines.serving.conftest import Direct

config = RunConfig.model_validate(
    {
        "asr": ASRConfig(backend="fake", model="fake:0.3"),
        "aligner": AlignerConfig(backend="fake", model="fake"),
        "segmenter": {"max_duration": 15},
        "serve": {"port": 0, "decoders": 1, "model_names": ["fake"], "drain_timeout": 20},
    }
)


def models() -> Models:
    return Models(Direct(Recogniser(config.asr, 1.0)), Direct(Aligner(config.aligner, 1.0)))


with server._bound(config) as listener, server._logged():
    asyncio.run(server._listen(Application(config, models), config, listener))
