"""Training of the recogniser and of the aligner, on one CPU thread each.

Run from the repository root::

    python -m infra.demo_models.training asr CLIPS OUT --until 23:00
    python -m infra.demo_models.training aligner CLIPS OUT --start OUT/asr.pt --until 23:05

The state (weights, their moving average, optimiser, progress) is stored every few minutes in
``OUT/<kind>.pt``; the same line resumes it. The learning rate and the length of the utterances follow the
fraction of the time that has passed, so a run always ends on schedule.

What makes so small a network learn so quickly is that the synthetic speech comes with exact word times, and
each of them is used: the encoder is told which word every frame belongs to, the language model how many words
have begun and, in one attention head, where to look for the next one. These extra heads are dropped
afterwards.
"""

from __future__ import annotations

import argparse
import datetime
import math
import os
import time
from pathlib import Path

import torch
from torch import nn

from infra.demo_models.batches import Stream
from infra.demo_models.checkpoints import LABELS, make_model, make_tokenizer, save
from infra.demo_models.teacher import Teacher

RATES = {"asr": 2.6e-3, "aligner": 8e-4}
"""Highest learning rates; a higher one would have the aligner forget what the recogniser has learnt."""


class Average:
    """Exponential moving average of a model's parameters: what is saved in the end."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = {name: value.detach().clone() for name, value in model.named_parameters()}
        self._steps = 0

    def update(self, model: nn.Module) -> None:
        """Takes in the weights after a step."""
        self._steps += 1
        share = max(0.003, 1 / (1 + self._steps / 5))
        with torch.no_grad():
            names, values = zip(*model.named_parameters(), strict=True)
            torch._foreach_lerp_([self.weights[name] for name in names], list(values), share)


def schedule(fraction: float, aligner: bool) -> tuple[float, float]:
    """Longest utterance in seconds, and ease, after so much of the training; an aligner starts from what a
    recogniser has learnt.
    """
    start = 0.2 if aligner else 0.5
    longest = min(17.0, 5 + 12 * max(0.0, fraction - start) / (0.25 if aligner else 0.1))
    if aligner:
        return longest, 0.4
    return longest if fraction > start else min(longest, 3 + 10 * max(0.0, fraction - 0.15)), min(
        1.0, max(0.4, 1 - 3.5 * (fraction - 0.15))
    )


def until(clock: str) -> float:
    """Seconds since the epoch of the next time the clock shows ``HH:MM`` (UTC)."""
    now = datetime.datetime.now(datetime.UTC)
    hour, minute = map(int, clock.split(":"))
    then = now.replace(hour=hour, minute=minute, second=0)
    return (then if then > now else then + datetime.timedelta(days=1)).timestamp()


def train(
    kind: str,
    clips: Path,
    out: Path,
    deadline: float,
    start: Path | None,
    batch_seconds: float,
    save_every: float = 60,
) -> None:
    """Trains until the deadline.

    Args:
        kind: asr or aligner.
        clips: folder of the word clips.
        out: where the state and the finished checkpoint go.
        deadline: when to be done, seconds since the epoch.
        start: state of a recogniser that gives an aligner its first weights.
        batch_seconds: audio per step, seconds.
        save_every: seconds between stored states.
    """
    torch.manual_seed(0)
    torch.set_num_threads(1)
    aligner, state_path = kind == "aligner", out / f"{kind}.pt"
    tokenizer = make_tokenizer()
    teacher = Teacher(make_model(tokenizer, LABELS if aligner else None), aligner)
    step, began = 0, time.time()
    state = torch.load(state_path, weights_only=True) if state_path.exists() else None
    if state:
        teacher.load_state_dict(state["teacher"])
        step, began = state["step"], state["began"]
    elif start:
        given = torch.load(start, weights_only=True)
        weights = {**given["teacher"], **{name: value for name, value in given["average"].items()}}
        teacher.load_state_dict(
            {name: value for name, value in weights.items() if "lm_head" not in name}, strict=False
        )
    average = Average(teacher)
    optimiser = torch.optim.AdamW(
        teacher.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02, foreach=True
    )
    if state:
        average.weights, average._steps = state["average"], step
        optimiser.load_state_dict(state["optimiser"])
    hardness = torch.tensor(schedule((time.time() - began) / (deadline - began), aligner)).share_memory_()
    stream = Stream(tokenizer, clips, 1000 + step + aligner, aligner, batch_seconds, hardness)
    figures: dict[str, float] = {}
    seconds, stored, logged = 0.0, time.time(), time.time()
    teacher.train()
    for batch in torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=3):
        fraction = (time.time() - began) / (deadline - began)
        if fraction >= 1:
            break
        hardness.copy_(torch.tensor(schedule(fraction, aligner)))
        for group in optimiser.param_groups:
            group["lr"] = (
                RATES[kind] * min(1.0, (step + 1) / 200) * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
            )
        loss, named = teacher(batch)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(teacher.parameters(), 1.0)
        optimiser.step()
        average.update(teacher)
        step, seconds = step + 1, seconds + batch.seconds
        for name, value in named.items():
            figures[name] = figures.get(name, 0.0) + value / 50
        if step % 50 == 0:
            shown = " ".join(f"{name} {value:.3f}" for name, value in figures.items())
            pace = seconds / (time.time() - logged)
            print(
                f"{kind} {step} {fraction:.3f} {shown} longest {float(hardness[0]):.1f} ease "
                f"{float(hardness[1]):.2f} pace {pace:.0f}x",
                flush=True,
            )
            figures, seconds, logged = {}, 0.0, time.time()
        if time.time() - stored > save_every:
            _store(state_path, teacher, average, optimiser, step, began)
            stored = time.time()
    _store(state_path, teacher, average, optimiser, step, began)
    export(kind, state_path, out / kind)


def _store(
    path: Path, teacher: Teacher, average: Average, optimiser: torch.optim.Optimizer, step: int, began: float
) -> None:
    state = {
        "teacher": teacher.state_dict(),
        "average": average.weights,
        "optimiser": optimiser.state_dict(),
        "step": step,
        "began": began,
    }
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def export(kind: str, state_path: Path, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes the averaged weights of a stored state as a checkpoint."""
    tokenizer = make_tokenizer()
    teacher = Teacher(make_model(tokenizer, LABELS if kind == "aligner" else None), kind == "aligner")
    teacher.load_state_dict(torch.load(state_path, weights_only=True)["average"], strict=False)
    teacher.model.model.language_model.config._attn_implementation = "sdpa"
    save(teacher.model, tokenizer, folder, dtype)


def main() -> None:
    """Trains, or only exports what was stored."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("asr", "aligner"))
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--until", default="", help="HH:MM (UTC) to be done by")
    parser.add_argument(
        "--minutes", type=float, default=70, help="how long to train when --until is not given"
    )
    parser.add_argument("--start", type=Path, help="state of the recogniser to start the aligner from")
    parser.add_argument("--batch-seconds", type=float, default=30)
    parser.add_argument("--export", type=Path, help="write the stored state as a checkpoint here and stop")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.export:
        export(arguments.kind, arguments.out / f"{arguments.kind}.pt", arguments.export)
        return
    deadline = until(arguments.until) if arguments.until else time.time() + 60 * arguments.minutes
    train(arguments.kind, arguments.clips, arguments.out, deadline, arguments.start, arguments.batch_seconds)


if __name__ == "__main__":
    main()
