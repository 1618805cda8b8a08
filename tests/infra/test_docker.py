"""The Dockerfiles follow our rules: pinned, multi-stage, not root, no downloads, only existing files."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "infra" / "docker").glob("Dockerfile.*"))


def instructions(text: str) -> list[tuple[str, str]]:
    """Instructions with their arguments, without comments and continuations."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def stages(text: str) -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """Base image and instructions of each stage, by name; "" has the instructions before the first stage."""
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
    """The default extras of `pip install`."""
    [(word, rest)] = stages(text)[""][1]
    assert word == "ARG" and rest.startswith("EXTRAS=")
    return rest.removeprefix("EXTRAS=")


def problems(text: str) -> list[str]:
    """The violated rules."""
    found = []
    made = stages(text)
    del made[""]
    if len(made) < 2:
        found.append("one stage")
    for name, (base, steps) in made.items():
        if base not in made and not re.fullmatch(
            r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", base
        ):
            found.append(f"{name}: {base} is not an exact version")
        for word, rest in steps:
            if word == "ADD":
                found.append(f"{name}: ADD {rest}")
            if "latest" in rest:
                found.append(f"{name}: latest in {word}")
            if word == "RUN" and re.search(r"curl|wget\s+http", rest):
                found.append(f"{name}: a download that is not pinned")
            if word == "RUN" and "apt-get install" in rest:
                if "rm -rf /var/lib/apt/lists" not in rest or "--no-install-recommends" not in rest:
                    found.append(f"{name}: apt's lists or recommendations remain")
                packages = " ".join(re.findall(r"apt-get install (.*?)(?:&&|;|$)", rest))
                found += [
                    f"{name}: {word} is not pinned"
                    for word in packages.split()
                    if not word.startswith("-") and "=" not in word
                ]
            if (
                word == "RUN"
                and "pip install" in rest
                and ("--constraint constraints.txt" not in rest or "--no-cache-dir" not in rest)
            ):
                found.append(f"{name}: pip without constraints, or with its cache")
    for name in ("runtime", "baked"):
        base, steps = made[name]
        user = [rest for word, rest in steps if word == "USER"]
        if not user or user[-1].split(":")[0] in ("0", "root"):
            found.append(f"{name} runs as root")
        if any("pip install" in rest for _, rest in steps):
            found.append(f"{name} installs packages")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_rules_hold(path):
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "old, new, expected",
    [
        ("python:3.11.14-slim-bookworm AS build", "python:3.11 AS build", "not an exact version"),
        ("python:3.11.14-slim-bookworm AS runtime", "python:latest AS runtime", "not an exact version"),
        ("COPY pyproject.toml README.md ./", "ADD https://example.org/x.tar /src", "ADD"),
        ("&& rm -rf /var/lib/apt/lists/*", "", "lists"),
        ("'tini=0.19.0-*'", "tini", "tini is not pinned"),
        ("'g++=4:12.2.0-*'", "g++", "g++ is not pinned"),
        ("'wget=1.21.3-*'", "wget gcc", "gcc is not pinned"),
        (' --constraint constraints.txt ".[', ' ".[', "without constraints"),
        ("USER 10001:10001\nWORKDIR", "WORKDIR", "runtime runs as root"),
    ],
)
def test_violations_are_found(old, new, expected):
    text = FILES[0].read_text()
    assert old in text
    assert any(expected in problem for problem in problems(text.replace(old, new)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_copied_files_exist(path):
    """Sources exist, .dockerignore includes them, and the extras are in pyproject.toml."""
    included = [
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    text = path.read_text()
    for word, rest in instructions(text):
        if word == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists()
                assert source in included
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras(text).split(",")) <= set(project["optional-dependencies"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize(
    ("wanted", "compiler"),
    [("transformers,vad,s3,serve", False), ("transformers,s3,serve,vllm", True), ("vllm", True)],
)
def test_extras_can_be_chosen(path, wanted, compiler, tmp_path):
    """The shell commands are run, with a `pip` and an `apt-get` that print their arguments."""
    made, bin_ = stages(path.read_text()), tmp_path / "bin"
    bin_.mkdir()
    for name in ("pip", "apt-get"):
        (bin_ / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (bin_ / name).chmod(0o755)
    output = []
    for stage in ("build", "runtime"):
        steps = made[stage][1]
        at = steps.index(("ARG", "EXTRAS"))  # without it, the ARG before the stages has no effect here
        [run] = [rest for word, rest in steps[at:] if word == "RUN"]
        shell = "sh" if stage == "build" else "bash"
        command = run.partition("&& rm ")[0]  # without the commands that change this machine
        environment = {"PATH": f"{bin_}:/usr/bin:/bin", "EXTRAS": wanted}
        output.append(
            subprocess.run(
                [shell, "-c", command], env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
    assert output[0].split()[-1] == f".[{wanted}]"
    assert ("g++" in output[1]) == compiler
    # Triton, which the backend transformers uses on GPUs, compiles C.
    assert ("gcc=" in output[1] and "libc6-dev=" in output[1]) == (path.name == "Dockerfile.cuda")


def test_the_images_differ_in_torch_and_a_c_compiler_only():
    compiler = " 'gcc=4:12.2.0-*' 'libc6-dev=2.36-*'"
    texts = [path.read_text() for path in FILES]
    assert [compiler in text for text in texts] == [False, True]
    cpu, cuda = (stages(text.replace(compiler, "")) for text in texts)
    assert cpu["models"] == cuda["models"] and cpu["baked"] == cuda["baked"]
    assert [step for step in cpu["runtime"][1] if step[0] != "ENV"] == [
        step for step in cuda["runtime"][1] if step[0] != "ENV"
    ]
