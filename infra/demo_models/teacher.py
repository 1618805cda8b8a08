"""The loss of the demo models: a model with the auxiliary heads of its training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from infra.demo_models.checkpoints import LABELS, SHAPE, TEXT_SHAPE, make_tokenizer
from infra.demo_models.targets import IGNORE, MOST_WORDS, Batch, audio_tokens
from infra.demo_models.words import CLASSES, LANGUAGES

HEARD_LAYER = 3
"""Number of layers of the language model after which a word must be known."""


POINTERS = ((4, 0), (3, 1))
"""Layer and head that is told where to look, for each kind of pointer."""


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
