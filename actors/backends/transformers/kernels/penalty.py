"""The repetition penalty: logits of tokens that an answer already has are made smaller.

Source: Keskar et al., CTRL (arXiv 1909.05858), section 4.1: positive logits are divided by the penalty,
negative ones multiplied. Only the answer's own tokens count, not those of the prompt as in transformers and
vLLM: words of the context may be said as often as without a penalty.
"""

from __future__ import annotations

import torch


def penalised(
    logits: torch.Tensor, tokens: torch.Tensor, count: torch.Tensor, penalty: torch.Tensor
) -> torch.Tensor:
    """Logits after the penalty, in float32; everything stays on the device.

    Args:
        logits: (rows, vocabulary).
        tokens: of the answers so far, (rows, width).
        count: how many of a row's tokens are valid, at least 1, (rows,).
        penalty: of each row, 1 for none, (rows,).
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)
    # Places behind the answer repeat its first token: every copy of a token is written the same value.
    tokens = torch.where(places < count[:, None], tokens, tokens[:, :1])
    logits = logits.float()
    scores = logits.gather(1, tokens)
    divisor = penalty[:, None]
    return logits.scatter(1, tokens, torch.where(scores > 0, scores / divisor, scores * divisor))
