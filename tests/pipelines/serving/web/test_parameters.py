"""Parameter values: base64 decoded in chunks is the same as decoded at once."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.serving.web import parameters
from pipelines.serving.web.errors import Problem
from pipelines.serving.web.parameters import decode_base64, decode_data_uri


@given(st.binary(max_size=40), st.sampled_from([4, 8, 12]), st.integers(0, 5))
def test_base64_in_chunks_is_base64(data: bytes, chunk: int, start: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parameters, "_BASE64_CHUNK", chunk)
        text = base64.b64encode(data).decode()
        assert decode_base64("x" * start + text, "a", start) == data
        assert decode_data_uri(f"data:audio/wav;base64,{text}") == data
        invalid = [
            text + "A",
            text + "AA==AAAA",
            "AAA=" + text + "AAAA",
            text + "é",
            text + "=",
            f"data:,{text}",
        ]
        for bad in invalid:
            with pytest.raises(Problem):
                decode_base64(bad, "a")
