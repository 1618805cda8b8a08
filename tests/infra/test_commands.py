"""Every command of ours in infra/ is accepted by the real parser, with settings that exist."""

import re
import shlex
from pathlib import Path

import pytest

from pipelines import cli
from pipelines.config import load_config

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SPOKEN = re.compile(r"(?:(?<![\w/.-])scriptorium|python -m pipelines|transcribe\.sh)\s+(?=[\w$\"'{-])")
COMMANDS = {"plan", "transcribe", "align", "status", "retry", "serve", "report"}
END = {"&&", "||", "|", ";", "&", ">", ">>"}


def sources() -> list[Path]:
    kinds = {".md", ".yaml", ".yml", ".py", ".sh"}
    found = [path for path in INFRA.rglob("*") if path.is_file() and "demo_models" not in path.parts]
    return sorted(
        path
        for path in found
        if path.suffix in kinds or path.name.startswith("Dockerfile") or path.parent.name == "cron"
    )


def commands(text: str) -> list[list[str]]:
    """The arguments of each of our commands in a text, however they are written."""
    found = []
    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"\n\s+(?=--\w)", " ", text)  # folded lines of YAML
    for match in SPOKEN.finditer(text):
        rest = re.split(r"[\n`]", text[match.end() :], maxsplit=1)[0]
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # the end of a quotation that started before
            words = shlex.split(rest.replace("'", "").replace('"', ""), comments=True)
        if "transcribe.sh" in match.group():
            words = ["transcribe", *words] if "://" in rest else []  # a sentence or a copy command
        end = next((index for index, word in enumerate(words) if word in END), len(words))
        if words and words[0] in COMMANDS:
            found.append([word.rstrip(";,") for word in words[:end]])
    return found


ALL = [
    (path.relative_to(ROOT).as_posix(), words) for path in sources() for words in commands(path.read_text())
]


def test_commands_are_found():
    """The search finds commands in every file that should have some."""
    files = {file for file, _ in ALL}
    assert files >= {
        "infra/README.md",
        "infra/airflow/scriptorium_nightly.py",
        "infra/cron/scriptorium",
        "infra/kubernetes/rayjob.yaml",
        "infra/ray/transcribe.sh",
    }
    assert {words[0] for _, words in ALL} >= {"transcribe", "plan", "status", "retry"}


@pytest.mark.parametrize(
    "file, words", ALL, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60]
)
def test_a_command_is_accepted(file, words):
    if file.endswith("transcribe.sh") and "$@" in words:
        words = ["transcribe", "MANIFEST", "OUT"]
    given = cli._parser().parse_args(words)
    assert hasattr(given, "run")
    load_config(None, getattr(given, "set", []))
    if words[0] == "transcribe":
        assert given.manifest and given.out


@pytest.mark.parametrize(
    "broken", ["scriptorium transcribe a b --sett asr.model=x", "scriptorium plan a b c"]
)
def test_wrong_commands_are_refused(broken):
    [words] = commands(broken)
    with pytest.raises(SystemExit):
        cli._parser().parse_args(words)


def test_config_files_can_be_loaded():
    """The settings file has only known settings, and commands name only known config files."""
    load_config(str(INFRA / "kubernetes" / "settings.yaml"))
    named = {words[words.index("--config") + 1] for _, words in ALL if "--config" in words}
    assert named <= {
        "/etc/scriptorium/settings.yaml",
        "/etc/scriptorium/nightly.yaml",
        "/home/ubuntu/scriptorium/settings.yaml",
        "configs/demo.yaml",
        "/work/configs/demo.yaml",
    }
