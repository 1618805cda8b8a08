"""Routes of the web page at `/` and the API description at `/docs`, which load nothing from other hosts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from actors.text.languages import CODES

FOLDER = Path(__file__).parent / "page"
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/x-icon",
}


def add_routes(
    api: FastAPI, model_names: Callable[[], Sequence[str]], max_prompt: int, needs_key: bool
) -> None:
    """Add the page's routes, which need no API key.

    Args:
        api: the application.
        model_names: returns the models that the page may request.
        max_prompt: longest prompt in characters.
        needs_key: whether the API requires a key.
    """

    @api.get("/", include_in_schema=False)
    async def index() -> Response:
        return static_file("index.html")

    @api.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return static_file("favicon.ico")

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return static_file("docs.html")

    @api.get("/page/settings.json", include_in_schema=False)
    async def settings() -> Response:
        languages = [{"code": code, "name": name} for name, code in sorted(CODES.items())]
        facts = {"languages": languages, "max_prompt": max_prompt, "needs_key": needs_key}
        return JSONResponse({"models": list(model_names()), **facts})

    @api.get("/page/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        return static_file(name)


def static_file(name: str, folder: Path = FOLDER) -> Response:
    """A file of a page.

    Args:
        name: as it was requested.
        folder: of the page's files; nothing else is served.

    Raises:
        HTTPException: 404.
    """
    # Looked up in the folder's list of names, so that no name leads out of the folder.
    path = next((path for path in folder.iterdir() if path.name == name), None)
    if path is None or path.suffix not in _MEDIA_TYPES:
        raise HTTPException(404)
    return FileResponse(path, media_type=_MEDIA_TYPES[path.suffix], headers={"cache-control": "no-cache"})
