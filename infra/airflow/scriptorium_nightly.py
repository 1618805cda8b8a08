"""Airflow 3: every night what is new in the manifest, as a job on a Ray cluster that stays
(infra/kubernetes/raycluster.yaml).

The worker needs `scriptorium` and `ray` of the cluster's version on its PATH, and in its environment
RAY_API_SERVER_ADDRESS, where the cluster's dashboard answers (and where infra/kubernetes/namespace.yaml lets
it in: the namespace `airflow`), RAY_AUTH_MODE=token and the RAY_AUTH_TOKEN of the cluster.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

WHERE = {"MANIFEST": "{{ params.manifest }}", "OUT": "{{ params.out }}"}

# A wrong manifest or setting ends here, with exit code 2, before the cluster has anything to do.
PLAN = 'scriptorium plan "$MANIFEST"'

# A try has a job of its own. One that is cut off stops its job, which stores what is finished; the command is
# the same, so the next try goes on there. `ray job submit` ends with 0 for a job that somebody stopped, too,
# and with 1 where only its connection broke: the job's status decides. Dead letters are no failure: see
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
    catchup=False,  # a run takes in all that is new, however many nights were missed
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
        retry_delay=timedelta(minutes=2),  # longer than the lease of a driver that died
        execution_timeout=timedelta(hours=20),
    )
    status = BashOperator(task_id="status", bash_command=STATUS, env=WHERE, append_env=True)
    # It runs whatever became of the others, and a teardown says nothing about the night: that a task before
    # it failed fails the DAG's run.
    plan >> transcribe >> status.as_teardown()
