"""The Ray job's script, Airflow and cron keep the contract of exit codes."""

import ast
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
SCRIPT = INFRA / "ray" / "transcribe.sh"


def environment_with_python(folder: Path, script: str) -> dict[str, str]:
    """An environment in which `python` runs a script of ours."""
    (folder / "python").write_text(f"#!/usr/bin/env bash\n{script}\n")
    (folder / "python").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("code, expected", [(0, 0), (1, 1), (2, 2), (3, 0), (143, 143)])
def test_the_script_turns_exit_code_3_into_0(tmp_path, code, expected):
    """All other codes are unchanged, and the arguments are passed unchanged."""
    environment = environment_with_python(tmp_path, f'printf "%s\\n" "$@"; exit {code}')
    process = subprocess.run(
        ["bash", str(SCRIPT), "a b.jsonl", "out", "--set", "x=$y"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == expected
    assert process.stdout.splitlines()[:7] == [
        "-m",
        "pipelines",
        "transcribe",
        "a b.jsonl",
        "out",
        "--set",
        "x=$y",
    ]
    assert ("dead letters" in process.stdout) == (code == 3)


@pytest.mark.parametrize("last", [0, 1])
def test_a_stopped_script_waits_for_the_run(tmp_path, last):
    """`ray job stop` sends SIGTERM to every process of the job.

    The run must receive it once, and the script must end after the run, with its exit code.
    """
    mark = tmp_path / "stored"
    environment = environment_with_python(
        tmp_path,
        f"trap 'echo received; sleep 0.3; touch {mark}; exit {last}' TERM; echo ready; "
        "while :; do sleep 0.05; done",
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
        assert job.stdout.read().count("received") == 1


def test_the_dag_has_three_tasks_in_a_row():
    """The middle one is tried again, and two nights never run at once.

    Airflow takes the state of a DAG run from its last tasks. `status` always succeeds, so it must not be
    one of them.
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
        # Parameters from Airflow reach the shell as variables, never as text of the script.
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
        (1, "Job 'night' succeeded", 0),  # the connection for the log broke
        (0, "Job 'night' was stopped", 1),
        (1, "Job 'night' failed\nStatus message: two of three succeeded", 1),
        (1, "Status for job 'night': RUNNING", 1),
        (1, "", 1),  # the cluster does not answer
    ],
)
def test_the_dag_uses_the_status_of_the_job(tmp_path, submitted, status, expected):
    """`ray job submit` ends with 0 for a stopped job (Ray 2.60). A failed attempt leaves no job behind."""
    (tmp_path / "status").write_text(status)
    requests = tmp_path / "requests"
    answers = f'case "$2" in submit) exit {submitted};; status) cat {tmp_path}/status;; esac'
    ray = f'echo "$2 $3" >> {requests}; {answers}'
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
    assert requests.read_text().splitlines() == [
        "submit --submission-id",
        "status night",
        *(["stop night"] if expected else []),
    ]


def test_ray_reports_success_in_the_words_that_the_dag_searches(capsys):
    """The DAG searches for the message of this Ray version."""
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


def test_airflow_can_load_the_dag():
    pytest.importorskip("airflow.sdk")
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(INFRA / "airflow"))
    assert not bag.import_errors and list(bag.dags) == ["scriptorium_nightly"]
    assert [task.task_id for task in bag.dags["scriptorium_nightly"].tasks if task.is_teardown] == ["status"]


def test_the_cron_line_is_valid():
    """Five fields of time, a user, and a command without %, which cron treats as the end of the line."""
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
