"""One decoding step of many rows whose state is on the device, run as it is or as a CUDA graph.

The host does not take part in a step: the chosen tokens, their log-probabilities, the lengths and whether a
row has ended stay on the device, so that several steps run one behind the other before the host looks. A row
that has ended writes its keys again and again to one place of its own slot, and its tokens to a column that
nobody reads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from actors.backends.devices import classify_error
from actors.backends.transformers.decoder import Decoder
from actors.backends.transformers.kernels.attention import SlotKeys, attend_slots, slot_keys, to_device
from actors.backends.transformers.kernels.penalty import penalised
from actors.backends.transformers.kv_cache import KeyValueCache

log = logging.getLogger(__name__)

# Steps that run uncaptured before a graph is captured: libraries allocate their workspaces in the first ones.
_WARM_UP = 2
# Rows of a step on a GPU.
_ROWS = (1, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512)
# SDPA reads keys in multiples of this on a GPU: another number is another CUDA graph.
_SPAN_MULTIPLE = 256


class DecodeState:
    """What decoding knows of each row, on the device.

    Args:
        rows: number of slots.
        width: most tokens of an answer.
        device: where the model runs.
    """

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        self.rows, self.width = rows, width
        # Of each row: the last token chosen, tokens in its slot, tokens that it may still choose, tokens
        # chosen so far.
        self.token, self.length, self.left, self.count = torch.zeros(
            4, rows, dtype=torch.long, device=device
        ).unbind()
        self.finished = torch.ones(rows, dtype=torch.bool, device=device)
        # Repetition penalty of each row, and whether any row may have one other than 1.
        self.penalty, self.penalties = torch.ones(rows, dtype=torch.float32, device=device), False
        # One column more than an answer has: rows that have ended write there.
        self.tokens = torch.zeros(rows, width + 1, dtype=torch.long, device=device)
        self.logprobs = torch.zeros(rows, width + 1, dtype=torch.float32, device=device)

    def move(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy rows over others; none of the sources is a target. The sources count as ended."""
        device = self.token.device
        source, target = to_device(sources, device), to_device(targets, device)
        for tensor in (
            self.token,
            self.length,
            self.left,
            self.count,
            self.finished,
            self.penalty,
            self.tokens,
            self.logprobs,
        ):
            tensor.index_copy_(0, target, tensor.index_select(0, source))
        self.finished.index_fill_(0, source, True)

    def clear(self) -> None:
        """Count all rows as ended."""
        self.finished.fill_(True)
        self.length.zero_()

    def set_penalties(self, rows: torch.Tensor, penalties: torch.Tensor | None) -> None:
        """Repetition penalties of rows; None: none."""
        if penalties is not None:
            self.penalty.index_copy_(0, rows, penalties)
            self.penalties = True
        elif self.penalties:
            self.penalty.index_fill_(0, rows, 1.0)


class DecodeStep:
    """Chooses the next token of each row.

    Args:
        decoder: the language model.
        head: from hidden states to logits.
        ends: tokens that end an answer.
        state: of the rows.
        cache: their keys and values.
        flash: whether to use flash attention.
    """

    def __init__(
        self,
        decoder: Decoder,
        head: Callable[[torch.Tensor], torch.Tensor],
        ends: Sequence[int],
        state: DecodeState,
        cache: KeyValueCache,
        *,
        flash: bool,
    ) -> None:
        self.decoder, self.head, self.state, self.cache, self.flash = decoder, head, state, cache, flash
        self.ends = torch.tensor(list(ends), dtype=torch.long, device=decoder.device)

    def begin(
        self,
        rows: torch.Tensor,
        lengths: torch.Tensor,
        budgets: torch.Tensor,
        hidden: torch.Tensor,
        penalties: torch.Tensor | None = None,
    ) -> None:
        """Put rows whose prompts have run into their slots, with their first token.

        Args:
            rows: numbers of the slots, (rows,).
            lengths: tokens of the prompts, (rows,).
            budgets: most tokens of the answers, at least 1, (rows,).
            hidden: of the last token of each prompt, (rows, hidden size).
            penalties: repetition penalties, (rows,); None: none.
        """
        state = self.state
        state.set_penalties(rows, penalties)
        chosen, logprobs = choose(self.head(hidden))
        finished_now = (chosen[:, None] == self.ends).any(1) | (budgets <= 1)
        for tensor, value in (
            (state.token, chosen),
            (state.length, lengths),
            (state.left, budgets - 1),
            (state.count, torch.ones_like(budgets)),
            (state.finished, finished_now),
            (state.tokens[:, 0], chosen),
            (state.logprobs[:, 0], logprobs),
        ):
            tensor.index_copy_(0, rows, value)

    def advance(
        self, rows: int, capacity: int, span: int, equal: bool = False, penalties: bool = False
    ) -> None:
        """Choose a token for each of the first `rows` rows that has not ended.

        Args:
            rows: number of rows that take part.
            capacity: tokens of a slot.
            span: no slot has more valid tokens, the new one included.
            equal: whether all of them have exactly `span`.
            penalties: whether any of them has a repetition penalty.
        """
        state = self.state
        finished, length, left = state.finished[:rows], state.length[:rows], state.left[:rows]
        active = (~finished).long()
        # Of a row that has ended one key is read, not all.
        read = (length + 1).masked_fill(finished, 1)
        slots = slot_keys(read, capacity, span, self.flash, equal)
        hidden = self._hidden(state.token[:rows], length, slots)
        logits = self.head(hidden)
        chosen, logprobs = choose(logits)
        if penalties:
            answers = state.tokens[:rows, : state.width], state.count[:rows]
            chosen = penalised(logits, *answers, state.penalty[:rows]).argmax(-1)
            logprobs = logprobs_of(logits, chosen)
        column = state.count[:rows].masked_fill(finished, state.width)[:, None]
        state.tokens[:rows].scatter_(1, column, chosen[:, None])
        state.logprobs[:rows].scatter_(1, column, logprobs[:, None])
        finished_now = (chosen[:, None] == self.ends).any(1) | (left <= 1)
        state.token[:rows].copy_(chosen)
        state.count[:rows].add_(active)
        left.sub_(active)
        length.add_(active)
        finished.logical_or_(finished_now)

    def _hidden(self, tokens: torch.Tensor, positions: torch.Tensor, slots: SlotKeys) -> torch.Tensor:
        rows = len(tokens)
        places = torch.arange(rows, device=tokens.device) * slots.capacity + positions

        def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            self.cache.write(layer, places, key, value)
            keys, values = self.cache.slots(layer, rows, slots.capacity)
            if self.flash and self.decoder.fused is not None:
                found: torch.Tensor = self.decoder.fused.attend_slots(query, keys, values, slots.used)
                return found
            return attend_slots(query, keys, values, slots, flash=self.flash)

        hidden: torch.Tensor = self.decoder(self.decoder.embed(tokens), positions, attend)
        return hidden


def choose(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The most probable token of each row and its log-probability in float32, both (rows,).

    float32, as in transformers: the confidence is not worth more, and ties fall as they do there.
    """
    if logits.is_cuda and logits.dtype in (torch.bfloat16, torch.float16):
        # One pass and one copy of the logits in float32, where logsumexp would make three.
        best = torch.log_softmax(logits, -1, dtype=torch.float32).max(-1)
        return best.indices, best.values
    logits = logits.float()
    best = logits.max(-1)
    return best.indices, best.values - logits.logsumexp(-1)


def logprobs_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability of one token of each row in float32, (rows,)."""
    logits = logits.float()
    return logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)


@dataclass(frozen=True)
class Policy:
    """What is done differently on a GPU.

    Attributes:
        on_gpu: whether the model runs on one.
    """

    on_gpu: bool

    @property
    def steps(self) -> int:
        """Steps from one look of the host to the next."""
        return 8 if self.on_gpu else 1

    def rows(self, count: int) -> int:
        """Rows of a step for `count` of them that decode."""
        if not self.on_gpu:
            return count
        return next((rows for rows in _ROWS if rows >= count), -(-count // _ROWS[-1]) * _ROWS[-1])

    def rows_below(self, rows: int) -> int:
        """The next smaller number of rows of a step, at least 1."""
        return max((size for size in _ROWS if size < rows), default=1) if self.on_gpu else max(1, rows - 1)

    def refill(self, slots: int) -> int:
        """How many slots must be free before they are filled.

        A group of prompts costs launches whatever its size.
        """
        return max(1, slots // 8) if self.on_gpu else 1

    def span(self, tokens: int, capacity: int) -> int:
        """Keys that SDPA reads where rows have up to `tokens`."""
        if not self.on_gpu:
            return tokens
        return min(capacity, -(-tokens // _SPAN_MULTIPLE) * _SPAN_MULTIPLE)


class StepGraphs:
    """CUDA graphs of a step, one for each shape, captured when a shape is first used.

    A step launches some 600 kernels. Launching them costs more than running them, up to 35 us each on a
    virtual machine; a graph launches all of them at once.

    Args:
        device: where the model runs; without CUDA steps run as they are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.enabled = device.type == "cuda"
        self._graphs: dict[tuple[int, ...], Any] = {}
        self._pool: Any = None

    def clear(self) -> None:
        """Forget all graphs, before the memory that they use is freed."""
        self._graphs.clear()
        self._pool = None

    def run(self, key: tuple[int, ...], step: Callable[[], None], count: int) -> None:
        """Run `step` `count` times.

        Args:
            key: whatever `step` depends on but the contents of tensors.
            step: works on tensors that live as long as the graphs.
            count: how often.
        """
        if self.enabled and key not in self._graphs and count > _WARM_UP:
            count -= self._capture(key, step)
        graph = self._graphs.get(key)
        for _ in range(count):
            if graph is None:
                step()
            else:
                graph.replay()

    def _capture(self, key: tuple[int, ...], step: Callable[[], None]) -> int:
        """Capture a graph; the number of steps that ran meanwhile. Where it fails, steps run as they are."""
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                step()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        try:
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            # Other threads of this process may use the card meanwhile.
            with torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"):
                step()
        except Exception as error:
            # Whatever else is wrong with the device, the next step will show.
            if classify_error(error) == "memory":
                raise
            self.enabled = False
            self.clear()
            log.warning("the decoding step cannot be captured as a CUDA graph, it will be slower: %s", error)
        else:
            self._graphs[key] = graph
        return _WARM_UP
