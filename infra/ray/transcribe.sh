#!/usr/bin/env bash
# Entrypoint of a Ray job: `transcribe.sh MANIFEST OUT [options of scriptorium transcribe]`.
# For Ray, KubeRay and their users only exit code 0 is a success. Code 3 (finished, with dead letters) is a
# finished job too, which running again would not improve, so it becomes 0. All other codes are unchanged.
set -uo pipefail

# `ray job stop` sends SIGTERM to every process of a job. This shell must live until the run has stored what
# is finished. An empty handler is not inherited by the child, unlike an ignored signal.
trap : TERM INT HUP

python -m pipelines transcribe "$@"
code=$?
if [ "$code" -eq 3 ]; then
    echo 'finished with dead letters: the job counts as done, see OUT/dead_letters and OUT/report.html'
    exit 0
fi
exit "$code"
