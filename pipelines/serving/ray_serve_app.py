"""The same server for `serve deploy` on a Ray cluster: the application behind Ray Serve's own proxy.

    serve deploy infra/ray/serve.yaml

What holds for `scriptorium serve` holds here but for what Ray's proxy does before the application is asked: see `server.py`. Where the proxy
listens is its own setting, not `serve.host`; that nobody gets in without a key is for its owner to see to, with `serve.api_keys`.
"""

from __future__ import annotations

from typing import Any

from starlette.types import ASGIApp

from actors.errors import UsageError
from pipelines.cluster import session
from pipelines.cluster.placement import pools, told
from pipelines.config import RunConfig, load_config
from pipelines.serving.app import Application
from pipelines.serving.inference.model_client import Models
from pipelines.serving.server import applications

_MOST_ONGOING = (
    10_000  # requests that a front takes in: it has limits of its own, and words for what goes beyond
)

_here: list[Application] = []  # of this process: a replica of the front has one


def front() -> ASGIApp:
    """The ASGI application of this process: Ray Serve asks for it when it has made a `Front`."""
    return _here[-1].asgi


class Front:
    """One replica of the front: everything but the models.

    Args:
        config: the settings.
        models: handles of the recogniser and, where there is one, of the aligner.
    """

    def __init__(self, config: RunConfig, *models: Any) -> None:
        _here.append(
            Application(
                config,
                lambda: Models(config, models[0], models[1] if len(models) > 1 else None),
                fronted=True,
            )
        )


def build(args: dict[str, Any]) -> Any:
    """The application that a Serve config names with `import_path: pipelines.serving.ray_serve_app:build`.

    Args:
        args: `config`, a file, and `set`, a list of `section.name=value`; both may be left out.

    Raises:
        UsageError: settings are wrong, or they leave pools to the nodes, and those have not enough.
    """
    from ray import serve

    if unknown := set(args) - {"config", "set"}:
        raise UsageError(
            f"args of a Serve config may be `config` and `set`, not {', '.join(sorted(unknown))}"
        )
    config = load_config(args.get("config"), args.get("set") or ())
    made: Any = serve.deployment(
        serve.ingress(front)(Front),
        name="front",
        max_ongoing_requests=_MOST_ONGOING,
        ray_actor_options={"num_cpus": 0},
    )
    # Settings that leave nothing open are passed on as they are: nodes may come later, or because Ray sees what is asked for.
    wanted = told(config) or pools(config, config.asr.pool, config.aligner.pool, session.nodes())
    return made.bind(config, *applications(config, wanted))
