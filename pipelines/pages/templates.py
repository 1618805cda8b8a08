"""Renders the HTML pages of commands with Jinja: everything is escaped, nothing is loaded from elsewhere."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

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
    environment.filters |= {"counted": counted, "marked": marked}
    return environment


def marked(text: str) -> Markup:
    """A text of ours whose `code` becomes an element; everything is escaped."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )


def render(template: str, **values: Any) -> str:
    """A page from a file of `templates/`.

    Args:
        template: name of the file.
        values: what the template shows. Strings are escaped unless they are `markupsafe.Markup`.

    Returns:
        The page. What HTML cannot have is replaced: lone surrogates, as in names of files, and zero bytes.
    """
    page = _environment().get_template(template).render(**values)
    return page.encode(errors="replace").decode().replace("\0", "\ufffd")
