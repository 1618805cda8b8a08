"""A card that several processes share: their models begin one after the other, and each keeps to its part of the memory."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def to_itself(on_gpu: bool) -> Iterator[None]:
    """Hold this process's cards against others of ours that load a model, for a `with` block.

    vLLM takes what is free on a card before and after its start for its own doing, and fails where a neighbour's memory changes meanwhile. The
    kernel lets go of the lock when its holder dies.

    Args:
        on_gpu: whether there is a card at all.
    """
    with ExitStack() as stack:
        for card in sorted(_cards()) if on_gpu else ():
            file = stack.enter_context(open(_lock(card), "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def keep_to_share(num_gpus: float | None) -> None:
    """Limit torch to a part of the card it uses, where a replica has a part only: what it does not need any more it keeps otherwise.

    Args:
        num_gpus: the replica's GPUs; a fraction of one is a share of its memory.
    """
    import torch

    if num_gpus is not None and 0 < num_gpus < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(num_gpus)


def _cards() -> list[str]:
    """Names of this process's cards, in the order of which all processes lock them."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all").split(",")


def _lock(card: str) -> Path:
    name = re.sub(r"[^\w-]", "-", card.strip())
    return Path(tempfile.gettempdir()) / f"scriptorium-{os.getuid()}-card-{name}.lock"
