"""Every command line of the documentation works.

It is run if that needs neither a network nor a cluster, and parsed with the real parser otherwise.
"""

import re
import shlex
import tomllib

import pytest
import yaml

from pipelines import __version__, cli
from pipelines.config import RunConfig, load_config
from tests.docs import pages

ALL = [(pages.name(page), line) for page in pages.PAGES for line in pages.commands(page.read_text())]
# Programs of others, whose arguments only they know.
FOREIGN = {"docker", "export", "kubectl", "printf", "pre-commit", "ray", "serve", "vllm"}
END = {"&&", "||", "|", ";", "&", ">", ">>"}
RUNS = ("--print-config", "--help", "--dry-run --nodes")


def words_of(line: str) -> list[str]:
    """A command line as its arguments, up to a pipe, without its comment."""
    words = shlex.split(line, comments=True)
    return words[: next((place for place, word in enumerate(words) if word in END), len(words))]


def ours(words: list[str]) -> list[str] | None:
    """The arguments of `scriptorium` in a command line; None for other programs."""
    if words[0] == "scriptorium":
        return words[1:]
    if words[:3] == ["python", "-m", "pipelines"]:
        return words[3:]
    for place, word in enumerate(words):
        if word.endswith("transcribe.sh"):
            return ["transcribe", *words[place + 1 :]]
    return None


def check_ours(arguments: list[str]) -> None:
    """Parse with the real parser, and read the settings."""
    given = cli._parser().parse_args(arguments)
    assert hasattr(given, "run")
    config = getattr(given, "config", None)
    local = config if config and (pages.ROOT / config).exists() else None
    load_config(str(pages.ROOT / local) if local else None, getattr(given, "set", []))


def check_pip(words: list[str]) -> None:
    """Extras exist, and constraints are ours."""
    extras = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [wanted] = [match[1] for word in words if (match := re.fullmatch(r"\.\[([\w,-]+)\]", word))]
    assert set(wanted.split(",")) <= set(extras)
    if "--constraint" in words:
        assert (pages.ROOT / words[words.index("--constraint") + 1]).is_file()


def check_curl(words: list[str]) -> None:
    """The route exists, and so do the files that are sent."""
    from pipelines.serving.app import Application

    def no_models() -> None:
        raise AssertionError("no request is sent")

    routes = {route.path for route in Application(RunConfig(), no_models)._routes().routes}  # type: ignore[arg-type]
    [address] = [word for word in words if word.startswith("http://127.0.0.1:8000")]
    assert address.removeprefix("http://127.0.0.1:8000") in routes
    for word in words:
        if word.startswith("file=@"):
            assert (pages.ROOT / word.removeprefix("file=@")).is_file()


def check(line: str) -> None:
    """Refuse a command line that cannot work."""
    words = words_of(line)
    arguments = ours(words)
    if arguments is not None:
        check_ours(arguments)
    elif words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (pages.ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(words[1:]) <= set(targets)
    elif words[0] == "pip":
        check_pip(words)
    elif words[0] == "curl":
        check_curl(words)
    else:
        assert words[0] in FOREIGN, words[0]


@pytest.mark.parametrize(("page", "line"), ALL, ids=lambda value: value[:70])
def test_a_command_line_works(page: str, line: str) -> None:
    check(line)


@pytest.mark.parametrize("line", [line for _, line in ALL if any(option in line for option in RUNS)])
def test_a_command_that_only_prints_runs(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(pages.ROOT)
    arguments = ours(words_of(line))
    assert arguments is not None
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out


def test_install_lines_of_the_readme_name_every_extra() -> None:
    extras = set(
        tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
    lines = [row[0].strip("`") for row in pages.table(pages.section(pages.README.read_text(), "Install"))]
    for line in lines:
        check_pip(shlex.split(line))
    named = set(re.findall(r"[\w-]+", " ".join(re.findall(r"\[([\w,-]+)\]", " ".join(lines)))))
    assert extras - named <= {"lhotse", "test"}  # both are parts of `dev`


@pytest.mark.parametrize(
    "line",
    [
        "scriptorium transcribe a b --sett asr.model=x",
        "scriptorium plan a b c",
        "make no-such-target",
        "pip install '.[no-such-extra]'",
        "unknown-program",
    ],
)
def test_a_wrong_command_line_is_found(line: str) -> None:
    with pytest.raises((SystemExit, AssertionError)):
        check(line)


def test_commands_are_found_in_every_page_that_has_some() -> None:
    assert {page for page, _ in ALL} >= {
        "README.md",
        "docs/engines.md",
        "docs/operating.md",
        "docs/settings.md",
        "infra/README.md",
    }


def test_pre_commit_runs_the_tools_of_make_lint() -> None:
    config = yaml.safe_load((pages.ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    makefile = (pages.ROOT / "Makefile").read_text()
    lint = makefile.partition("\nlint:")[2].partition("\n\n")[0]
    in_hooks = {hook["entry"].removeprefix(".venv/bin/").split()[0] for hook in hooks}
    assert in_hooks == set(re.findall(r"\$\(BIN\)/([\w-]+)", lint))


def test_the_changelog_has_the_current_version() -> None:
    headings = re.findall(r"^## (.+)$", (pages.ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert __version__ in headings
