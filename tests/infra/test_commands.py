"""Every command of ours in infra/ is one that the real parser takes, with settings that exist; the job's script keeps the contract of exit codes."""

import ast
import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from pipelines import cli
from pipelines.config import load_config

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SCRIPT = INFRA / "ray" / "transcribe.sh"
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
    """The arguments of each of our commands in a text, whichever way it is spelt there."""
    found = []
    text = re.sub(r"\\\n\s*", " ", text)
    text = re.sub(r"\n\s+(?=--\w)", " ", text)  # folded lines of YAML
    for match in SPOKEN.finditer(text):
        rest = re.split(r"[\n`]", text[match.end() :], maxsplit=1)[0]
        try:
            words = shlex.split(rest, comments=True)
        except ValueError:  # the end of a quotation that began before
            words = shlex.split(rest.replace("'", "").replace('"', ""), comments=True)
        if "transcribe.sh" in match.group():
            words = ["transcribe", *words] if "://" in rest else []  # a sentence, a copy
        end = next((place for place, word in enumerate(words) if word in END), len(words))
        if words and words[0] in COMMANDS:
            found.append([word.rstrip(";,") for word in words[:end]])
    return found


ALL = [
    (path.relative_to(ROOT).as_posix(), words) for path in sources() for words in commands(path.read_text())
]


def test_commands_are_found():
    """The search sees each of the places where it matters."""
    places = {place for place, _ in ALL}
    assert places >= {
        "infra/README.md",
        "infra/airflow/scriptorium_nightly.py",
        "infra/cron/scriptorium",
        "infra/kubernetes/rayjob.yaml",
        "infra/ray/transcribe.sh",
    }
    assert {words[0] for _, words in ALL} >= {"transcribe", "plan", "status", "retry"}


@pytest.mark.parametrize(
    "place, words", ALL, ids=lambda value: value if isinstance(value, str) else " ".join(value)[:60]
)
def test_command(place, words):
    if place.endswith("transcribe.sh") and "$@" in words:
        words = ["transcribe", "MANIFEST", "OUT"]
    given = cli._parser().parse_args(words)
    assert hasattr(given, "run")
    load_config(None, getattr(given, "set", []))
    if words[0] == "transcribe":
        assert given.manifest and given.out


@pytest.mark.parametrize(
    "broken", ["scriptorium transcribe a b --sett asr.model=x", "scriptorium plan a b c"]
)
def test_wrong_commands_do_not_pass(broken):
    [words] = commands(broken)
    with pytest.raises(SystemExit):
        cli._parser().parse_args(words)


def test_config_files_are_read():
    """Settings that the files name are settings."""
    load_config(str(INFRA / "kubernetes" / "settings.yaml"))
    named = {words[words.index("--config") + 1] for _, words in ALL if "--config" in words}
    assert named <= {
        "/etc/scriptorium/settings.yaml",
        "/etc/scriptorium/nightly.yaml",
        "/home/ubuntu/scriptorium/settings.yaml",
        "configs/demo.yaml",
        "/work/configs/demo.yaml",
    }


def python_that(folder: Path, script: str) -> dict[str, str]:
    """An environment in which `python` is a script of ours."""
    (folder / "python").write_text(f"#!/usr/bin/env bash\n{script}\n")
    (folder / "python").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("code, expected", [(0, 0), (1, 1), (2, 2), (3, 0), (143, 143)])
def test_exit_codes(tmp_path, code, expected):
    """3 is a finished job, all else is what it was; the arguments arrive as they were."""
    environment = python_that(tmp_path, f'printf "%s\\n" "$@"; exit {code}')
    ended = subprocess.run(
        ["bash", str(SCRIPT), "a b.jsonl", "out", "--set", "x=$y"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == expected
    assert ended.stdout.splitlines()[:7] == [
        "-m",
        "pipelines",
        "transcribe",
        "a b.jsonl",
        "out",
        "--set",
        "x=$y",
    ]
    assert ("dead letters" in ended.stdout) == (code == 3)


@pytest.mark.parametrize("last", [0, 1])
def test_stop_waits_for_the_run(tmp_path, last):
    """SIGTERM to every process of the job, as `ray job stop` sends it: the run hears it once, and the script ends after it, with its code."""
    mark = tmp_path / "stored"
    environment = python_that(
        tmp_path,
        f"trap 'echo heard; sleep 0.3; touch {mark}; exit {last}' TERM; echo ready; while :; do sleep 0.05; done",
    )
    with subprocess.Popen(
        ["bash", str(SCRIPT), "m", "o"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as job:
        assert job.stdout.readline() == "ready\n"
        os.killpg(job.pid, signal.SIGTERM)
        try:
            assert job.wait(20) == last
        finally:
            if job.poll() is None:
                os.killpg(job.pid, signal.SIGKILL)
        assert mark.exists()
        assert job.stdout.read().count("heard") == 1


def test_airflow_dag():
    """Three tasks in a row, the middle one tried again, never two nights at once; real Airflow parses it where it is installed.

    Airflow takes the state of a night from its last tasks: `status`, which always ends well, must not be one of those.
    """
    path = INFRA / "airflow" / "scriptorium_nightly.py"
    tree = ast.parse(path.read_text())
    compile(tree, str(path), "exec")
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    tasks = {}
    for call in calls:
        arguments = {keyword.arg: keyword.value for keyword in call.keywords}
        if call.func.id == "BashOperator":
            tasks[arguments["task_id"].value] = arguments
        if call.func.id == "DAG":
            assert arguments["max_active_runs"].value == 1 and arguments["catchup"].value is False
    assert list(tasks) == ["plan", "transcribe", "status"]
    assert tasks["transcribe"]["retries"].value >= 1 and "retries" not in tasks["plan"]
    assert (
        "trigger_rule" not in tasks["status"]
        and ast.unparse(tree.body[-1].body[-1]) == "plan >> transcribe >> status.as_teardown()"
    )
    constants = {node.targets[0].id: node.value for node in tree.body if isinstance(node, ast.Assign)}
    for name in ("PLAN", "TRANSCRIBE", "STATUS"):
        script = ast.literal_eval(constants[name])
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
        # What people type into Airflow reaches the shell as variables, never as text of the script.
        assert "{{" not in script


def airflow_script(name: str) -> str:
    tree = ast.parse((INFRA / "airflow" / "scriptorium_nightly.py").read_text())
    [value] = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name
    ]
    return ast.literal_eval(value)


@pytest.mark.parametrize(
    "submitted, status, expected",
    [
        (0, "Job 'night' succeeded", 0),
        (1, "Job 'night' succeeded", 0),  # the connection that brought the log broke
        (0, "Job 'night' was stopped", 1),
        (1, "Job 'night' failed\nStatus message: two of three succeeded", 1),
        (1, "Status for job 'night': RUNNING", 1),
        (1, "", 1),  # the cluster does not answer
    ],
)
def test_airflow_takes_the_status_of_the_job(tmp_path, submitted, status, expected):
    """`ray job submit` ends with 0 for a job that was stopped (Ray 2.60); a try that did not succeed leaves no job behind."""
    (tmp_path / "status").write_text(status)
    asked = tmp_path / "asked"
    ray = f'echo "$2 $3" >> {asked}; case "$2" in submit) exit {submitted};; status) cat {tmp_path}/status;; esac'
    (tmp_path / "ray").write_text(f"#!/usr/bin/env bash\n{ray}\n")
    (tmp_path / "ray").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "JOB": "night",
        "MANIFEST": "m",
        "OUT": "o",
    }
    assert (
        subprocess.run(["bash", "-c", airflow_script("TRANSCRIBE")], env=environment).returncode == expected
    )
    assert asked.read_text().splitlines() == [
        "submit --submission-id",
        "status night",
        *(["stop night"] if expected else []),
    ]


def test_ray_says_so_when_a_job_succeeded(capsys):
    """The words that the DAG looks for are those of this Ray."""
    from ray.dashboard.modules.job import cli as jobs
    from ray.job_submission import JobStatus

    class Client:
        status, message = JobStatus.SUCCEEDED, None

        def get_job_info(self, _):
            return self

    client = Client()
    jobs._log_job_status(client, "night")
    assert "Job 'night' succeeded" in capsys.readouterr().out
    client.status = JobStatus.STOPPED
    jobs._log_job_status(client, "night")
    assert "succeeded" not in capsys.readouterr().out


def test_airflow_parses():
    pytest.importorskip("airflow.sdk")
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(INFRA / "airflow"))
    assert not bag.import_errors and list(bag.dags) == ["scriptorium_nightly"]
    assert [task.task_id for task in bag.dags["scriptorium_nightly"].tasks if task.is_teardown] == ["status"]


def test_cron():
    """A line of /etc/cron.d: five fields of time, a user, a command without %, which cron takes for the end of a line."""
    lines = [
        line
        for line in (INFRA / "cron" / "scriptorium").read_text().splitlines()
        if line and not line.startswith("#") and "=" not in line.split()[0]
    ]
    [line] = lines
    *times, user, command = line.split(None, 6)
    assert all(re.fullmatch(r"[\d*/,-]+", field) for field in times) and user == "scriptorium"
    assert "%" not in command
    for code, expected in ((0, 0), (3, 0), (1, 1), (2, 1)):
        faked = re.sub(r"^scriptorium .*? \|\|", f"(exit {code}) ||", command)
        assert subprocess.run(["bash", "-c", faked]).returncode == expected


def test_ray_cluster_of_machines():
    """Valid by the schema that Ray's launcher itself uses; machines that may go are workers only; all that is mounted is there."""
    jsonschema = pytest.importorskip("jsonschema")
    import importlib.util
    import json

    schema = Path(importlib.util.find_spec("ray").origin).parent / "autoscaler" / "ray-schema.json"
    config = yaml.safe_load((INFRA / "ray" / "aws.yaml").read_text())
    jsonschema.validate(config, json.loads(schema.read_text()))
    nodes = config["available_node_types"]
    assert "InstanceMarketOptions" not in nodes[config["head_node_type"]]["node_config"]
    [worker] = [node for name, node in nodes.items() if name != config["head_node_type"]]
    assert worker["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert all(node["node_config"]["MetadataOptions"]["HttpTokens"] == "required" for node in nodes.values())
    settings = load_config(str(INFRA / "kubernetes" / "settings.yaml"))
    assert worker["min_workers"] == worker["max_workers"] == config["max_workers"] == settings.asr.pool.size
    assert all(
        (ROOT / source).exists() for source in config["file_mounts"].values() if not source.startswith("~")
    )
    for command in [
        *config["setup_commands"],
        *config["head_start_ray_commands"],
        *config["worker_start_ray_commands"],
    ]:
        assert subprocess.run(["bash", "-n"], input=command, text=True).returncode == 0
    from pipelines.cluster import session

    for commands_ in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        for variable in (
            "RAY_task_oom_retries",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
            "RAY_DATA_AUTOSCALING_REQUEST_EXPIRE_TIME_S",
        ):
            assert f"{variable}={session.LOCAL_ENVIRONMENT[variable]}" in commands_[-1]


def test_every_node_and_everyone_who_submits_is_told_to_show_the_token() -> None:
    """Only `ray start --head` finds a token file by itself (Ray 2.60): a node without RAY_AUTH_MODE is turned away, and so is a job."""
    config = yaml.safe_load((INFRA / "ray" / "aws.yaml").read_text())
    starts = [
        line
        for kind in ("head", "worker")
        for line in config[f"{kind}_start_ray_commands"]
        if "ray start" in line
    ]
    assert len(starts) == 2 and all("RAY_AUTH_MODE=token" in line.split("ray start")[0] for line in starts)
    page = (INFRA / "README.md").read_text()
    for block in re.findall(r"```\n(.*?)```", page, re.DOTALL):
        assert "ray job submit --address" not in block or "export RAY_AUTH_MODE=token" in block
    assert "RAY_AUTH_MODE=token" in (INFRA / "airflow" / "scriptorium_nightly.py").read_text()
