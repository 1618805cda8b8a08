"""The server for `serve deploy` on a Ray cluster: the application behind Ray Serve's own proxy.

    serve deploy infra/ray/serve.yaml

It behaves like `scriptorium serve`, except for what Ray's proxy does before the application is called: see
`server.py`. The address of the proxy is a setting of Ray Serve, not `serve.host`, so its owner must restrict
access with `serve.api_keys`.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from actors.errors import UsageError
from pipelines.cluster import session
from pipelines.cluster.pools import decide_pools, explicit_pools
from pipelines.config import RunConfig, load_config
from pipelines.serving.app import Application
from pipelines.serving.inference.model_client import ModelClient
from pipelines.serving.server import applications

# Requests that Ray Serve forwards to a front replica. The application has its own, lower limits and error
# messages.
_MAX_ONGOING_REQUESTS = 10_000

_applications: list[Application] = []  # of this process: a front replica has one


def front() -> ASGIApp:
    """The ASGI application of this process. Ray Serve calls this after it has created a `Front`."""
    return _applications[-1].asgi


class Front:
    """One replica of the front: everything except the models.

    Args:
        config: the settings.
        models: handle of the recogniser, and of the aligner if there is one.
    """

    def __init__(self, config: RunConfig, *models: Any) -> None:
        def make_client() -> ModelClient:
            return ModelClient(config, models[0], models[1] if len(models) > 1 else None)

        _applications.append(Application(config, make_client, behind_proxy=True))


def build(args: dict[str, Any]) -> Any:
    """Build the application for a Serve config with `import_path: pipelines.serving.ray_serve_app:build`.

    Args:
        args: `config`, a file, and `set`, a list of `section.name=value`; both are optional.

    Raises:
        UsageError: settings are wrong, or the cluster lacks resources for pools that are sized automatically.
    """
    from ray import serve

    if unknown := set(args) - {"config", "set"}:
        raise UsageError(f"args of a Serve config are `config` and `set`, not {', '.join(sorted(unknown))}")
    config = load_config(args.get("config"), args.get("set") or ())
    front_deployment: Any = serve.deployment(
        serve.ingress(front)(Front),
        name="front",
        max_ongoing_requests=_MAX_ONGOING_REQUESTS,
        ray_actor_options={"num_cpus": 0},
    )
    # Explicit pools are passed on without a check: nodes may join later, or be started because of this
    # request.
    wanted = explicit_pools(config) or decide_pools(
        config, config.asr.pool, config.aligner.pool, session.living_nodes()
    )
    return front_deployment.bind(config, *applications(config, wanted))
