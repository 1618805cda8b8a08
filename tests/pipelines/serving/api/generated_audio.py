"""Strategies of schemathesis for the formats in the OpenAPI description.

Its command imports this module (SCHEMATHESIS_HOOKS). JSON Schema cannot describe audio; these strategies
include real audio, so that some requests reach the models.
"""

import schemathesis
from hypothesis import strategies as st

from tests.pipelines.serving.conftest import data_uri, voice, wav

AUDIO = wav(voice(1.5))

schemathesis.openapi.format(
    "binary",
    st.sampled_from([AUDIO, AUDIO, AUDIO[:1000], b"", b"RIFF", b"no audio at all"]) | st.binary(max_size=99),
)
schemathesis.openapi.format("uri", st.just(data_uri(AUDIO)) | st.text(max_size=99))
schemathesis.openapi.format("byte", st.just(data_uri(AUDIO).partition(",")[2]) | st.text(max_size=99))
