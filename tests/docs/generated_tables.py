"""The parts of the documentation that are generated from the code.

`make docs` (`python -m tests.docs.generated_tables`) writes the tables between `<!-- generated: NAME -->` and
`<!-- end -->`, and configs/transcribe.yaml.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from actors.errors import CODES
from pipelines.config import RunConfig, describe
from pipelines.reporting.error_advice import ADVICE
from pipelines.schema import FLAGS

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "transcribe.yaml"
_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def settings(section: BaseModel, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Dotted name, default as JSON and meaning of every setting, in the order of the config file."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from settings(value, f"{prefix}{name}.")
        else:
            plain = int(value) if isinstance(value, float) and value.is_integer() else value
            yield f"{prefix}{name}", json.dumps(plain, ensure_ascii=False), field.description or ""


def _table(head: str, rows: list[list[str]]) -> str:
    columns = head.count("|") + 1
    lines = [f"| {head} |", "|" + "---|" * columns]
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in rows)
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in escaped)]) + "\n"


def _settings_tables() -> str:
    parts = []
    for name in RunConfig.model_fields:
        section = getattr(RunConfig(), name)
        rows = [[f"`{dotted}`", f"`{value}`", text] for dotted, value, text in settings(section, f"{name}.")]
        title = (type(section).__doc__ or "").splitlines()[0]
        parts.append(f"\n### {name}\n\n{title}\n\n{_table('setting | default | meaning', rows)}")
    return "".join(parts) + "\n"


TABLES = {
    "settings": _settings_tables,
    "codes": lambda: _table(
        "`error_code` | meaning | what to do",
        [[f"`{code}`", text, ADVICE[code].text] for code, text in CODES.items()],
    ),
    "flags": lambda: _table(
        "about | flag | meaning",
        [[subject, f"`{flag}`", text] for subject, flags in FLAGS.items() for flag, text in flags.items()],
    ),
}


def filled(page: str) -> str:
    """A page with its generated tables as the code has them now."""
    return _BLOCK.sub(lambda match: f"{match[1]}\n{TABLES[match[2]]().strip()}\n\n{match[3]}", page)


def config_file() -> str:
    """What configs/transcribe.yaml must be."""
    head = "# Every setting with its default; `scriptorium transcribe --print-config` prints this file."
    return "\n".join([head, *describe(RunConfig())]).rstrip() + "\n"


def pages() -> list[Path]:
    """The pages with generated tables."""
    return [path for path in sorted((ROOT / "docs").glob("*.md")) if _BLOCK.search(path.read_text())]


def main() -> None:
    """Write every generated table and configs/transcribe.yaml."""
    for path in pages():
        path.write_text(filled(path.read_text()))
    CONFIG.write_text(config_file())


if __name__ == "__main__":
    main()
