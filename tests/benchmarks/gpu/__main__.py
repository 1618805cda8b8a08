"""The GPU benchmark: equal answers, speed of whole actors and of their parts, the most important first.

    python -m tests.benchmarks.gpu                            all stages, at most 440 s
    python -m tests.benchmarks.gpu --stages actor_large,steps only these, in this order
    python -m tests.benchmarks.gpu --tiny                     small shapes, also on a CPU: do the stages fit?
    python -m tests.benchmarks.gpu --prepare FILE.npz         demo segments with the CPU's answers, for --data

Run it from the checkout's root. It needs torch, transformers, numpy, scipy, pydantic, soxr and soundfile; no
Ray, no network and no weights: the models have the real shapes and random weights, made on the device. Every
figure is printed at once and appended to results.jsonl in $OUT. The exit code is 1 if a stage failed.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import transformers

from actors.backends.devices import set_allocator
from tests.benchmarks.gpu import checks, demo, parts, processes, whole
from tests.benchmarks.gpu.run import Run, Stage, default_out, run_stages

# In the order of importance: a run may be cut at any moment.
STAGES = [
    Stage("machine", 8, checks.machine),
    Stage("parity", 45, checks.parity),
    Stage("actor_small", 40, whole.actor_small),
    Stage("actor_large", 60, whole.actor_large),
    Stage("steps", 40, parts.steps),
    Stage("attention", 10, parts.attention),
    Stage("encoder", 15, parts.encoder),
    Stage("prefill", 15, parts.prefill),
    Stage("aligner", 25, whole.aligner),
    Stage("lengths", 40, whole.lengths),
    Stage("features", 15, parts.features),
    Stage("cost", 15, whole.cost),
    Stage("both_models", 25, whole.both_models),
    Stage("out_of_memory", 25, checks.out_of_memory),
    Stage("processes", 90, processes.processes),
    Stage("vllm", 60, processes.vllm),
]


def main() -> int:
    """Run the stages of the command line."""
    names = [stage.name for stage in STAGES]
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stages", default="", help=f"comma-separated: {','.join(names)}")
    parser.add_argument("--data", type=Path, help="file of --prepare; without: the demo is recognised here")
    parser.add_argument("--prepare", type=Path, help="write such a file and end")
    parser.add_argument("--limit", type=float, default=440.0, help="seconds for all stages")
    parser.add_argument("--tiny", action="store_true", help="small shapes and few segments")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    wanted = [name for name in arguments.stages.split(",") if name]
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"no stage {', '.join(unknown)}; there are {', '.join(names)}")
    transformers.logging.set_verbosity_error()
    if arguments.prepare:
        demo.save(demo.prepare(), arguments.prepare)
        return 0
    run = Run(arguments.data, default_out(), arguments.limit, arguments.tiny)
    if arguments.child:
        processes.child(run, arguments.child)
        return 0
    known = {stage.name: stage for stage in STAGES}
    return 1 if run_stages(run, [known[name] for name in wanted] or STAGES) else 0


if __name__ == "__main__":
    # Before CUDA starts.
    set_allocator()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
