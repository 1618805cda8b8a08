"""Airflow 3: every night, transcribe what is new in the manifest, as a job on a standing Ray cluster
(infra/kubernetes/raycluster.yaml).

The Airflow worker needs `scriptorium` and the cluster's version of `ray` on its PATH. Its environment needs
RAY_API_SERVER_ADDRESS (the cluster's dashboard; infra/kubernetes/namespace.yaml admits the namespace
`airflow`), RAY_AUTH_MODE=token and the cluster's RAY_AUTH_TOKEN.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

WHERE = {"MANIFEST": "{{ params.manifest }}", "OUT": "{{ params.out }}"}

# A wrong manifest or setting fails here, with exit code 2, before the cluster has any work.
PLAN = 'scriptorium plan "$MANIFEST"'

# Each try submits its own job. A try that is cut off stops its job, which stores finished work; the command
# is the same, so the next try resumes it. `ray job submit` also exits with 0 for a job that somebody stopped,
# and with 1 if only its connection broke, so the job's status decides. Dead letters are no failure: see
# infra/ray/transcribe.sh.
TRANSCRIBE = """
trap 'ray job stop "$JOB"; exit 1' TERM INT
ray job submit --submission-id "$JOB" -- \\
    bash /opt/scriptorium/transcribe.sh "$MANIFEST" "$OUT" --config /etc/scriptorium/settings.yaml &
wait $!
ray job status "$JOB" | grep -F "Job '$JOB' succeeded" && exit 0
ray job stop "$JOB"
exit 1
"""

STATUS = 'scriptorium status "$OUT"'

with DAG(
    dag_id="scriptorium_nightly",
    description="Transcribe what is new",
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1),
    # A run takes in all that is new, however many nights were missed.
    catchup=False,
    max_active_runs=1,
    params={
        "manifest": Param("s3://example-archive/manifest.jsonl", type="string"),
        "out": Param("s3://example-archive/transcripts", type="string"),
    },
) as dag:
    plan = BashOperator(task_id="plan", bash_command=PLAN, env=WHERE, append_env=True)
    transcribe = BashOperator(
        task_id="transcribe",
        bash_command=TRANSCRIBE,
        env={**WHERE, "JOB": "scriptorium-{{ ts_nodash }}-{{ ti.try_number }}"},
        append_env=True,
        retries=5,
        # Longer than the lease of a driver that died.
        retry_delay=timedelta(minutes=2),
        execution_timeout=timedelta(hours=20),
    )
    status = BashOperator(task_id="status", bash_command=STATUS, env=WHERE, append_env=True)
    # This task runs whatever the others did, and a teardown does not decide the state of the DAG's run: it
    # fails if a task before it failed.
    plan >> transcribe >> status.as_teardown()
