#!/usr/bin/env bash
# Entrypoint of a Ray job: `transcribe.sh MANIFEST OUT [options of scriptorium transcribe]`.
# Ray, KubeRay and whatever watches them know one good exit code. 3 (finished, with dead letters) is a finished job: nothing would get better
# by doing it again. All other codes stay what they are.
set -uo pipefail

# `ray job stop` sends SIGTERM to every process of a job. This one must live until the run has stored what was finished. A handler that does
# nothing is not inherited, as an ignored signal would be.
trap : TERM INT HUP

python -m pipelines transcribe "$@"
code=$?
if [ "$code" -eq 3 ]; then
    echo 'finished with dead letters: the job counts as done, see OUT/dead_letters and OUT/report.html'
    exit 0
fi
exit "$code"
