"""The repetition penalty of single rows of a batch, against transformers' own on the answer's tokens."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from actors.backends.transformers.generation import Generator, Limits  # noqa: E402
from actors.backends.transformers.kernels.penalty import penalised  # noqa: E402
from tests.actors.backends.transformers.decoding import assert_equal, decode  # noqa: E402

BUDGETS = [17, 3, 40, 1, 9, 26]
PENALTIES = [1.0, 1.3, 1.05, 1.3, 1.0, 2.0]


def test_logits_are_those_of_transformers_for_the_tokens_of_the_answer() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 11, generator=generator)
    tokens = torch.tensor([[1, 4, 4, 9], [2, 0, 0, 0], [3, 3, 5, 10]])
    count, penalty = torch.tensor([4, 1, 3]), torch.tensor([1.3, 1.5, 1.0])
    found = penalised(logits, tokens, count, penalty)
    for row in range(3):
        process = transformers.RepetitionPenaltyLogitsProcessor(float(penalty[row]))
        wanted = process(tokens[row : row + 1, : count[row]], logits[row : row + 1])
        torch.testing.assert_close(found[row : row + 1], wanted)


@pytest.mark.parametrize("slots", [2, 128])
def test_rows_with_and_without_a_penalty_share_a_batch(backend, prompts, reference, slots: int) -> None:
    ends = backend.processor.ends
    wanted = reference(BUDGETS, ends, PENALTIES)
    assert [tokens for tokens, _ in wanted] != [tokens for tokens, _ in reference(BUDGETS, ends)]
    assert_equal(decode(backend, prompts, BUDGETS, ends, Limits(10_000, slots), None, PENALTIES), wanted)


def test_a_penalty_does_not_stay_with_the_slot(backend, prompts, reference) -> None:
    generator = Generator(backend.network, backend.processor.ends)
    limits = Limits(10_000, 128)
    decode(backend, prompts, BUDGETS, backend.processor.ends, limits, generator, [2.0] * 6)
    found = decode(backend, prompts, BUDGETS, backend.processor.ends, limits, generator)
    assert_equal(found, reference(BUDGETS, backend.processor.ends))
