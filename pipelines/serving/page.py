"""The page at `/`, and `/docs`: files of our own, which ask nobody else for anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from actors.text.languages import CODES

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


def add_routes(api: FastAPI, model_names: Callable[[], Sequence[str]]) -> None:
    """The page's routes; none of them wants a key.

    Args:
        api: the application.
        model_names: what the page may ask for.
    """

    @api.get("/", include_in_schema=False)
    async def index() -> Response:
        return _file("index.html")

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _file("docs.html")

    @api.get("/page/settings.json", include_in_schema=False)
    async def settings() -> Response:
        languages = [{"code": code, "name": name} for name, code in sorted(CODES.items())]
        return JSONResponse({"models": list(model_names()), "languages": languages})

    @api.get("/page/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return _file(name)


def _file(name: str) -> Response:
    # By its name in a list of what is there, so that no name leads anywhere else.
    path = next((path for path in FOLDER.iterdir() if path.name == name), None)
    if path is None or path.suffix not in _TYPES:
        raise HTTPException(404)
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"cache-control": "no-cache"})
