"""Renders the HTML pages of commands with Jinja. Everything is escaped; a page loads nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipelines.pages import phrases
from pipelines.plurals import counted

FOLDER = Path(__file__).parent / "templates"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(phrases, name)
        for name in ("duration", "amount", "percent", "number", "speed", "money", "moment")
    }
    environment.filters["counted"] = counted
    return environment


def render(template: str, **values: Any) -> str:
    """A page from a file of `templates/`.

    Args:
        template: name of the file.
        values: what the template shows. Strings are escaped unless they are `markupsafe.Markup`.

    Returns:
        The page. Lone surrogates, which a file's name may have and UTF-8 cannot, are replaced.
    """
    page = _environment().get_template(template).render(**values)
    return page.encode(errors="replace").decode()
