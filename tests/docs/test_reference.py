"""Every setting, flag, error code and column is in its page exactly once, generated tables are current."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from actors.errors import CODES
from pipelines.config import RunConfig
from pipelines.schema import DEAD_LETTER, FLAGS, PROVENANCE, TRANSCRIPT, TRANSCRIPT_SEGMENT
from tests.docs import pages
from tests.docs.generated_tables import CONFIG, config_file, filled, settings
from tests.docs.generated_tables import pages as generated_pages

OUTPUT = (pages.ROOT / "docs" / "output.md").read_text()
SETTINGS = (pages.ROOT / "docs" / "settings.md").read_text()
KNOWN_FLAGS = [flag for flags in FLAGS.values() for flag in flags]
PREFIXES = tuple(f"{flag.partition(':')[0]}:" for flag in KNOWN_FLAGS if ":" in flag)
# Flags of a file's header: the planner reads them, and no row has them.
HEADER_FLAGS = {
    "absurd_duration",
    "chained",
    "constant_rate",
    "duration_estimated",
    "duration_from_size",
    "duration_scanned",
}


def cells(text: str, column: int = 0) -> list[str]:
    """The names in backticks in a column of the tables of a text."""
    return [name for row in pages.table(text) for name in re.findall(r"`([^`]+)`", row[column])]


@pytest.mark.parametrize("page", generated_pages(), ids=pages.name)
def test_generated_tables_are_current(page: Path) -> None:
    assert page.read_text() == filled(page.read_text()), "run `make docs`"


def test_the_default_config_file_is_current() -> None:
    assert CONFIG.read_text() == config_file(), "run `make docs`"


def test_every_setting_is_described_once() -> None:
    names = [name for name, _, _ in settings(RunConfig())]
    assert len(names) > 100
    assert sorted(cells(SETTINGS.partition("## All settings")[2])) == sorted(names)


def test_every_setting_has_a_meaning() -> None:
    assert all(text for _, _, text in settings(RunConfig()))


def test_settings_named_in_the_pages_exist() -> None:
    names = {name for name, _, _ in settings(RunConfig())}
    sections = "|".join(RunConfig.model_fields)
    for page in [pages.README, *pages.DOCS]:
        text = page.read_text().replace("asr.openai.", "asr.remote.")
        for name in re.findall(rf"`((?:{sections})(?:\.[a-z_]+)+)(?:=[^`]*)?`", text):
            assert name in names or any(known.startswith(f"{name}.") for known in names), (page.name, name)


def test_every_error_code_is_described_once() -> None:
    assert cells(pages.section(OUTPUT, "Error codes")) == list(CODES)


def test_every_flag_is_described_once() -> None:
    assert cells(pages.section(OUTPUT, "Flags"), 1) == KNOWN_FLAGS
    assert len(set(KNOWN_FLAGS)) == len(KNOWN_FLAGS)


@pytest.mark.parametrize(
    ("heading", "fields"),
    [
        ("Transcripts", TRANSCRIPT.names),
        ("Segments", [f"segments[].{field.name}" for field in TRANSCRIPT_SEGMENT]),
        ("Provenance", [field.name for field in PROVENANCE]),
        ("Dead letters", DEAD_LETTER.names),
    ],
)
def test_every_column_is_described_once(heading: str, fields: list[str]) -> None:
    assert sorted(cells(pages.section(OUTPUT, heading))) == sorted(fields)


def test_every_status_is_described_once() -> None:
    assert TRANSCRIPT.field("status").type == pa.string()
    assert cells(pages.section(OUTPUT, "Status")) == ["ok", "partial", "no_speech"]


def sources() -> Iterator[tuple[Path, ast.Module]]:
    for folder in ("actors", "pipelines"):
        for path in sorted((pages.ROOT / folder).rglob("*.py")):
            if path != pages.ROOT / "pipelines" / "schema.py":
                yield path, ast.parse(path.read_text())


def strings(node: ast.AST) -> Iterator[str]:
    """The constant strings below a node; of an f-string its first part."""
    if isinstance(node, ast.JoinedStr):
        first = node.values[0] if node.values else None
        if isinstance(first, ast.Constant):
            yield str(first.value)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for child in ast.iter_child_nodes(node):
        yield from strings(child)


def is_flags(node: ast.AST | None) -> bool:
    """Whether an expression is called `flags`."""
    return getattr(node, "id", getattr(node, "attr", "")).strip("_") == "flags"


def emitted(tree: ast.Module) -> Iterator[str]:
    """Strings that a module puts into lists of flags."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and is_flags(node.func.value):
                values: list[ast.AST] = list(node.args) if node.func.attr in ("append", "extend") else []
            else:
                values = [keyword.value for keyword in node.keywords if keyword.arg == "flags"]
        elif (isinstance(node, ast.AugAssign) and is_flags(node.target)) or (
            isinstance(node, ast.Assign) and any(map(is_flags, node.targets))
        ):
            values = [node.value]
        elif isinstance(node, ast.List | ast.Tuple) and any(
            isinstance(item, ast.Starred) and is_flags(item.value) for item in node.elts
        ):
            values = [item for item in node.elts if not isinstance(item, ast.Starred)]
        elif isinstance(node, ast.Dict):
            values = [
                value
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and key.value == "flags"
            ]
        else:
            continue
        for value in values:
            yield from strings(value)


def test_flags_in_the_code_are_known() -> None:
    found = {flag for _, tree in sources() for flag in emitted(tree)}
    names = {flag for flag in found if re.fullmatch(r"[a-z][a-z_]*(:.*)?", flag)}
    unknown = {flag for flag in names if flag not in KNOWN_FLAGS and not flag.startswith(PREFIXES)}
    assert len(names) > 15
    assert unknown <= HEADER_FLAGS | {"flags", "fastseek", "type", "array"}


def test_known_flags_are_in_the_code() -> None:
    found = {text for _, tree in sources() for text in strings(tree)}
    beginnings = {text.partition(":")[0] for text in found if text.startswith(PREFIXES)}
    for flag in KNOWN_FLAGS:
        assert flag in found or (":" in flag and flag.partition(":")[0] in beginnings), flag
