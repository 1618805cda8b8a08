"""API keys and rate limits."""

import hashlib

import pytest

from pipelines.config import ServeConfig
from pipelines.serving.web.auth import Keys, Rates
from pipelines.serving.web.errors import Problem
from tests.pipelines.serving.conftest import Make, voice, wav

KEY = "sk-a-test-key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def test_a_server_with_keys_requires_one(serve: Make) -> None:
    served = serve(api_keys=[f"desk:{DIGEST}"])
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": "Bearer "},
    ):
        status, received, body = served.transcribe(b"", headers)
        assert (status, received["www-authenticate"]) == (401, "Bearer")
        assert body["error"]["type"] == "authentication_error"
        assert served.ask("GET", "/v1/models", **headers)[0] == 401
    assert served.transcribe(wav(voice(1)), {"Authorization": f"Bearer {KEY}"})[0] == 200
    assert [served.ask("GET", path)[0] for path in ("/healthz", "/readyz", "/", "/openapi.json")] == [200] * 4


def test_all_paths_but_the_public_ones_require_a_key_also_under_a_root_path(serve: Make) -> None:
    served = serve(api_keys=[DIGEST], requests_per_minute=1000)
    assert served.ask("GET", "/nothing")[0] == 401
    # uvicorn then passes /x/v1/models on as a path below the root path /x, as Ray Serve's proxy does.
    served.server.config.root_path = "/x"
    try:
        paths = ("/v1/models", "/", "/healthz", "/page/app.js", "/docs")
        statuses = {path: served.ask("GET", path)[0] for path in paths}
        assert statuses == {"/v1/models": 401, "/": 200, "/healthz": 200, "/page/app.js": 200, "/docs": 200}
        assert served.transcribe(b"")[0] == 401
        status, headers, _ = served.ask("GET", "/v1/models", Authorization=f"Bearer {KEY}")
        assert (status, headers["cache-control"]) == (200, "no-store")
        served.application.start_draining()
        assert served.ask("GET", "/v1/models", Authorization=f"Bearer {KEY}")[0] == 503
    finally:
        served.server.config.root_path = ""


def test_only_the_whole_key_is_accepted_and_its_name_is_returned() -> None:
    keys = Keys([f"desk:{DIGEST}", hashlib.sha256(b"two").hexdigest()])
    assert keys.caller({"authorization": f"bearer {KEY}"}) == "desk"
    assert keys.caller({"authorization": "Bearer two"}) == "key2"
    assert keys.caller({}, ["realtime", f"openai-insecure-api-key.{KEY}"]) == "desk"
    assert Keys([]).caller({}) is None
    assert Keys([hashlib.sha256("schlüssel-鍵".encode()).hexdigest()]).caller(
        {"authorization": "Bearer " + "schlüssel-鍵".encode().decode("latin-1")}
    )
    with pytest.raises(Problem):
        keys.caller({"authorization": f"Bearer {KEY} "[:-3]})


def test_a_key_in_plain_text_is_refused_by_the_settings_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="entry 1 is no") as caught:
        ServeConfig(api_keys=["my-secret-key"])
    assert "my-secret-key" not in str(caught.value).split("input_value")[0]


def test_the_rate_limit_refills() -> None:
    now = [0.0]
    rates = Rates(6, lambda: now[0])
    for _ in range(6):
        rates.count("a")
    with pytest.raises(Problem) as caught:
        rates.count("a")
    assert caught.value.status == 429 and caught.value.headers["retry-after"] == "11"
    rates.count("b")
    now[0] = 10.1
    rates.count("a")


def test_requests_above_the_rate_limit_are_429(serve: Make) -> None:
    served = serve(requests_per_minute=2)
    assert [served.ask("GET", "/v1/models")[0] for _ in range(3)] == [200, 200, 429]
    assert served.ask("GET", "/readyz")[0] == 200
