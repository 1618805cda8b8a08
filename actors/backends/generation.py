"""Hooks into transformers' `generate`: a token budget for each row, and the log-probability of each chosen token.

Both keep a row's result its own. With one budget for the batch a row would be cut later beside a longer neighbour; with `output_logits`
a batch of 128 would hold 78 MB of logits for every step (vocabulary 151,936).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria


class RowBudget(StoppingCriteria):
    """Stops each row at its own number of generated tokens."""

    def __init__(self, prompt_length: int, budgets: Sequence[int], device: torch.device) -> None:
        self.prompt_length = prompt_length
        self.budgets = torch.tensor(budgets, device=device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Which rows are done, as bool (rows,)."""
        return self.budgets <= input_ids.shape[1] - self.prompt_length


class Confidence(LogitsProcessor):
    """Notes the log-probability of the best token of each step, which is the one that greedy search takes; changes nothing."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Take note of one step's scores, float32 (rows, vocabulary)."""
        self.steps.append(scores.max(-1).values - scores.logsumexp(-1))
        return scores

    def logprobs(self) -> list[list[float]]:
        """For each row the log-probabilities of its tokens; behind a row's end they mean nothing."""
        rows: list[list[float]] = torch.stack(self.steps, 1).double().tolist()
        return rows
