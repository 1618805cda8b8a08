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
from torch.nn import functional as F

from infra.demo_models.batches import IGNORE, MOST_WORDS, Batch, Stream, audio_tokens
from infra.demo_models.checkpoints import LABELS, SHAPE, TEXT_SHAPE, make_model, make_tokenizer, save
from infra.demo_models.words import CLASSES, LANGUAGES

HEARD_LAYER = 3
"""Number of layers of the language model after which a word must be known."""

POINTERS = ((4, 0), (3, 1))
"""Layer and head that is told where to look, for each kind of pointer."""

RATES = {"asr": 2.6e-3, "aligner": 8e-4}
"""Highest learning rates; a higher one would have the aligner forget what the recogniser has learnt."""


LANGUAGE_WEIGHT = 4.0
"""Weight of the token that names the language: one among many in a long answer, and half of what a short one
is judged by.
"""


def language_tokens() -> torch.Tensor:
    """The tokens that name a language, or None for no speech, in an answer."""
    tokenizer = make_tokenizer()
    names = [f" {language.name}" for language in LANGUAGES] + [" None"]
    return torch.tensor(
        sorted({token for name in names for token in tokenizer(name, add_special_tokens=False).input_ids})
    )


class Teacher(nn.Module):
    """A model with the auxiliary heads of its training."""

    def __init__(self, model: nn.Module, aligner: bool) -> None:
        super().__init__()
        self.model, self.aligner = model, aligner
        self.register_buffer("naming", language_tokens(), persistent=False)
        self.frame_head = nn.Linear(SHAPE["d_model"], CLASSES)
        self.heard_head = nn.Linear(TEXT_SHAPE["hidden_size"], CLASSES)
        self.count_head = nn.Linear(TEXT_SHAPE["hidden_size"], MOST_WORDS)
        self.before_head = nn.Linear(TEXT_SHAPE["hidden_size"], CLASSES)
        self.clock_head = nn.Linear(TEXT_SHAPE["hidden_size"], LABELS)
        self.early_heard_head = nn.Linear(TEXT_SHAPE["hidden_size"], CLASSES)
        self.early_before_head = nn.Linear(TEXT_SHAPE["hidden_size"], CLASSES)
        model.model.language_model.config._attn_implementation = "eager"

    def forward(self, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """Computes the loss and the figures to log."""
        core = self.model.model
        encoded = encode(core.audio_tower, batch.features, batch.mask)
        frame_logits = self.frame_head(encoded)
        frame_loss = F.cross_entropy(frame_logits, batch.frame_classes)
        embedded = core.get_input_embeddings()(batch.ids)
        audio = (batch.ids == self.model.config.audio_token_id).unsqueeze(-1).expand_as(embedded)
        embedded = embedded.masked_scatter(
            audio, core.multi_modal_projector(F.dropout(encoded, 0.1, self.training))
        )
        out = core.language_model(
            inputs_embeds=embedded, use_cache=False, output_attentions=True, output_hidden_states=True
        )
        counted = batch.counts != IGNORE
        count_loss = F.cross_entropy(
            self.count_head(out.hidden_states[HEARD_LAYER][counted]), batch.counts[counted]
        )
        known = batch.heard != IGNORE
        index = known.cumsum(1)[known] - 1
        clock_loss = F.cross_entropy(
            self.clock_head(out.hidden_states[HEARD_LAYER][known]), index.clamp_max(LABELS - 1)
        )
        heard_logits = self.heard_head(out.hidden_states[HEARD_LAYER][known])
        heard, heard_weights = batch.heard[known], batch.heard_weights[known]
        heard_loss = (
            F.cross_entropy(heard_logits, heard, reduction="none") * heard_weights
        ).sum() / heard_weights.sum()
        early_logits = self.early_heard_head(out.hidden_states[HEARD_LAYER - 1][known])
        early_loss = (
            F.cross_entropy(early_logits, heard, reduction="none") * heard_weights
        ).sum() / heard_weights.sum()
        word_ends = batch.before != IGNORE
        before_loss = F.cross_entropy(
            self.before_head(out.hidden_states[HEARD_LAYER + 1][word_ends]), batch.before[word_ends]
        )
        early_before_loss = F.cross_entropy(
            self.early_before_head(out.hidden_states[HEARD_LAYER][word_ends]), batch.before[word_ends]
        )
        pointer_loss, source_loss = (
            self._pointer_loss(
                out.attentions[layer][:, head], batch.pointers[batch.pointers[:, 0] == kind, 1:]
            )
            for kind, (layer, head) in enumerate(POINTERS)
        )
        if self.aligner:
            loss, right = self._stamp_loss(out.last_hidden_state, batch)
        else:
            wanted = batch.labels[:, 1:] != IGNORE
            logits, labels = (
                self.model.lm_head(out.last_hidden_state[:, :-1][wanted]),
                batch.labels[:, 1:][wanted],
            )
            weight = torch.where(torch.isin(labels, self.naming), LANGUAGE_WEIGHT, 1.0)
            loss = (F.cross_entropy(logits, labels, reduction="none") * weight).sum() / weight.sum()
            right = (logits.argmax(-1) == labels).float().mean()
        with torch.no_grad():
            word_ends = heard_weights == 1
            words = (
                (heard_logits.argmax(-1) == heard)[word_ends].float().mean()
                if bool(word_ends.any())
                else torch.tensor(0.0)
            )
        share = 0.3 if self.aligner else 1.0
        total = (
            loss
            + share * (0.3 * frame_loss + heard_loss)
            + share * 0.3 * early_loss
            + 0.3 * (before_loss + early_before_loss)
            + 0.3 * count_loss
            + 0.15 * clock_loss
            + 0.3 * (pointer_loss + source_loss)
        )
        named = {
            "loss": loss,
            "right": right,
            "frame": frame_loss,
            "heard": heard_loss,
            "words": words,
            "early": early_loss,
            "before": before_loss,
            "early_before": early_before_loss,
            "count": count_loss,
            "clock": clock_loss,
            "pointer": pointer_loss,
            "source": source_loss,
        }
        return total, {name: float(value.detach()) for name, value in named.items()}

    @staticmethod
    def _pointer_loss(attention: torch.Tensor, pointers: torch.Tensor) -> torch.Tensor:
        if not len(pointers):
            return attention.new_zeros(())
        item, position, first, last = pointers.unbind(1)
        mass = F.pad(attention[item, position].cumsum(-1), (1, 0))
        inside = mass.gather(1, (last + 1)[:, None]) - mass.gather(1, first[:, None])
        return -(inside.clamp_min(0) + 1e-4).log().mean()

    def _stamp_loss(self, hidden: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross entropy against the two classes around the true time; audio tokens, which also tell their own
        time, count less.
        """
        wanted = batch.labels != IGNORE
        logs = self.model.score(hidden[wanted]).log_softmax(-1)
        labels, upper = batch.labels[wanted], batch.weights[wanted]
        entropy = -(
            logs.gather(1, labels[:, None])[:, 0] * (1 - upper)
            + logs.gather(1, (labels + 1)[:, None])[:, 0] * upper
        )
        stamps = batch.ids[wanted] == self.model.config.timestamp_token_id
        weight = torch.where(stamps, 1.0, 0.1)
        with torch.no_grad():
            error = (logs[stamps].argmax(-1) - labels[stamps] - upper[stamps]).abs() * 80
        return (entropy * weight).sum() / weight.sum(), error.mean()


def encode(tower: nn.Module, features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The encoder's own computation, without the one-second chunks that hold nothing but padding: a quarter
    less work on mixed lengths.
    """
    items, bands, frames = features.shape
    width = 2 * tower.n_window
    lengths = mask.view(items * (frames // width), width).sum(1)
    chunks = features.view(items, bands, -1, width).transpose(1, 2).reshape(-1, 1, bands, width)[lengths > 0]
    lengths = lengths[lengths > 0]
    hidden = chunks
    for convolution in (tower.conv2d1, tower.conv2d2, tower.conv2d3):
        hidden = F.gelu(convolution(hidden))
        lengths = (lengths - 1) // 2 + 1
    count, channels, height, steps = hidden.shape
    hidden = tower.conv_out(hidden.permute(0, 3, 1, 2).reshape(count, steps, channels * height))
    hidden = hidden + tower.positional_embedding.positional_embedding[:steps]
    hidden = hidden[torch.arange(steps) < lengths[:, None]]
    window = steps * (tower.n_window_infer // width)
    sizes = []
    for total in (audio_tokens(int(row)) for row in mask.sum(1)):
        sizes += [window] * (total // window) + ([total % window] if total % window else [])
    borders = torch.tensor([0, *sizes]).cumsum(0, dtype=torch.int32)
    for layer in tower.layers:
        hidden = layer(hidden, borders)[0]
    return tower.ln_post(hidden)


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
