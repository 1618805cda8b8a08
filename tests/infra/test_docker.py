"""The Dockerfiles, by the rules that matter to us: pinned, multi-stage, not as root, nothing from addresses, all that they copy is there."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "infra" / "docker").glob("Dockerfile.*"))


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions with their arguments, comments and line ends gone."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def stages(text: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Name of each stage to what it is made from and its instructions; "" has those before the first."""
    found: dict[str, tuple[str, list[tuple[str, str]]]] = {"": ("", [])}
    last = ""
    for word, rest in instructions(text):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = (base, [])
            last = name
        else:
            found[last][1].append((word, rest))
    return found


def extras(text: str) -> str:
    """What `pip install` gets where `docker build` says nothing else about it."""
    [(word, rest)] = stages(text)[""][1]
    assert word == "ARG" and rest.startswith("EXTRAS=")
    return rest.removeprefix("EXTRAS=")


def problems(text: str) -> list[str]:
    """What is against the rules."""
    said = []
    made = stages(text)
    del made[""]
    if len(made) < 2:
        said.append("one stage")
    for name, (base, steps) in made.items():
        if base not in made and not re.fullmatch(
            r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", base
        ):
            said.append(f"{name}: {base} is no exact version")
        for word, rest in steps:
            if word == "ADD":
                said.append(f"{name}: ADD {rest}")
            if "latest" in rest:
                said.append(f"{name}: latest in {word}")
            if word == "RUN" and re.search(r"curl|wget\s+http", rest):
                said.append(f"{name}: a download that is not pinned")
            if word == "RUN" and "apt-get install" in rest:
                if "rm -rf /var/lib/apt/lists" not in rest or "--no-install-recommends" not in rest:
                    said.append(f"{name}: apt's lists or recommendations stay")
                packages = " ".join(re.findall(r"apt-get install (.*?)(?:&&|;|$)", rest))
                said += [
                    f"{name}: {word} is not pinned"
                    for word in packages.split()
                    if not word.startswith("-") and "=" not in word
                ]
            if (
                word == "RUN"
                and "pip install" in rest
                and ("--constraint constraints.txt" not in rest or "--no-cache-dir" not in rest)
            ):
                said.append(f"{name}: pip without constraints, or with its cache")
    for name in ("runtime", "baked"):
        base, steps = made[name]
        user = [rest for word, rest in steps if word == "USER"]
        if not user or user[-1].split(":")[0] in ("0", "root"):
            said.append(f"{name} runs as root")
        if any("pip install" in rest for _, rest in steps):
            said.append(f"{name} has what builds it")
    return said


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_rules(path):
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "old, new, told",
    [
        ("python:3.11.14-slim-bookworm AS build", "python:3.11 AS build", "no exact version"),
        ("python:3.11.14-slim-bookworm AS runtime", "python:latest AS runtime", "no exact version"),
        ("COPY pyproject.toml README.md ./", "ADD https://example.org/x.tar /src", "ADD"),
        ("&& rm -rf /var/lib/apt/lists/*", "", "lists"),
        ("'tini=0.19.0-*'", "tini", "tini is not pinned"),
        ("'g++=4:12.2.0-*'", "g++", "g++ is not pinned"),
        (' --constraint constraints.txt ".[', ' ".[', "without constraints"),
        ("USER 10001:10001\nWORKDIR", "WORKDIR", "runtime runs as root"),
    ],
)
def test_rules_find(old, new, told):
    text = FILES[0].read_text()
    assert old in text
    assert any(told in problem for problem in problems(text.replace(old, new)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there(path):
    """Sources exist, .dockerignore lets them through, and extras are those of pyproject.toml."""
    passed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    text = path.read_text()
    for word, rest in instructions(text):
        if word == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in passed
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras(text).split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("asked", "compiler"),
    [("transformers,vad,s3,serve", False), ("transformers,s3,serve,vllm", True), ("vllm", True)],
)
def test_extras_are_the_builders_choice(path, asked, compiler, tmp_path):
    """The shell's part of it is run, with `pip` and `apt-get` that say what they were asked for."""
    made, bin_ = stages(path.read_text()), tmp_path / "bin"
    bin_.mkdir()
    for name in ("pip", "apt-get"):
        (bin_ / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (bin_ / name).chmod(0o755)
    told = []
    for stage in ("build", "runtime"):
        steps = made[stage][1]
        at = steps.index(("ARG", "EXTRAS"))  # without it, the one in front of all stages means nothing here
        [run] = [rest for word, rest in steps[at:] if word == "RUN"]
        shell = "sh" if stage == "build" else "bash"
        command = run.partition("&& rm ")[0]  # nothing of what it does to this machine
        environment = {"PATH": f"{bin_}:/usr/bin:/bin", "EXTRAS": asked}
        told.append(
            subprocess.run(
                [shell, "-c", command], env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
    assert told[0].split()[-1] == f".[{asked}]"
    assert ("g++" in told[1]) == compiler


def test_the_images_differ_in_torch_only():
    cpu, cuda = (stages(path.read_text()) for path in FILES)
    assert cpu["models"] == cuda["models"] and cpu["baked"] == cuda["baked"]
    assert [step for step in cpu["runtime"][1] if step[0] != "ENV"] == [
        step for step in cuda["runtime"][1] if step[0] != "ENV"
    ]
