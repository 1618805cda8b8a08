"""The nodes of a Ray cluster, as Ray reports them or as a user describes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from actors.errors import UsageError

ACCELERATOR = "ray.io/accelerator-type"  # labels that Ray itself gives to nodes
NODE_ID = "ray.io/node-id"
GIB = 1 << 30

_NODE_KIND = re.compile(r"\s*(?:(\d+)\s*[x×*]\s*)?\(([^()]*)\)\s*")
_AMOUNTS = {
    "CPU": ("CPU", 1),
    "GPU": ("GPU", 1),
    "memory": ("memory", GIB),
    "store": ("object_store_memory", GIB),
}
_EXAMPLE = "2x(CPU=16,GPU=2,type=L4),4x(CPU=32,memory=64)"


@dataclass(frozen=True)
class Node:
    """A machine of a cluster.

    Attributes:
        resources: CPU and GPU as counts; memory and object_store_memory in bytes.
        labels: by name.
        name: for messages.
    """

    resources: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""

    @property
    def cpus(self) -> float:
        """Logical CPUs."""
        return self.resources.get("CPU", 0.0)

    @property
    def gpus(self) -> int:
        """Cards."""
        return int(self.resources.get("GPU", 0.0))

    def summary(self) -> str:
        """GPUs, their type, and CPUs."""
        kind = f" ({self.labels[ACCELERATOR]})" if ACCELERATOR in self.labels else ""
        return f"{self.gpus} GPUs{kind} and {self.cpus:g} CPUs"


def matches(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Whether a label selector of Ray selects a node with these labels; a label it lacks has no value."""
    for name, wanted in selector.items():
        values = re.sub(r"^!?(in\()?|\)$", "", wanted)
        among = labels.get(name) in {value.strip() for value in values.split(",")}
        if among == wanted.startswith("!"):
            return False
    return True


def on_nodes_with(selector: Mapping[str, str]) -> str:
    """A selector as the end of a sentence; empty for an empty selector."""
    labels = ", ".join(f"{key}={value}" for key, value in selector.items())
    return f" on nodes with {labels}" if labels else ""


def parse(text: str) -> list[Node]:
    """Parse a description of nodes, such as `2x(CPU=16,GPU=2,type=L4),4x(CPU=32,memory=64)`.

    CPU and GPU are counts. memory and store (Ray's object store) are GiB; where they are left out they are
    unknown. type is the accelerator's type. All other names are labels.

    Raises:
        UsageError: the text does not describe nodes.
    """
    nodes: list[Node] = []
    position = 0
    while position < len(text) or not nodes:
        match = _NODE_KIND.match(text, position)
        if match is None:
            raise UsageError(
                f"--nodes: {text[position:].strip()[:60]!r} is no node: write kinds of nodes like {_EXAMPLE}"
            )
        resources, labels = _parse_kind(match[2])
        names = [f"node-{number}" for number in range(len(nodes), len(nodes) + int(match[1] or 1))]
        nodes += [Node(resources, {**labels, NODE_ID: name}, name) for name in names]
        position = match.end()
        if position < len(text):
            if text[position] != ",":
                raise UsageError(
                    f"--nodes: a comma is missing before {text[position:][:60]!r}, as in {_EXAMPLE}"
                )
            position += 1
            if not text[position:].strip():
                break
    if not nodes:
        raise UsageError(f"--nodes: {text!r} describes no node; write kinds of nodes like {_EXAMPLE}")
    return nodes


def _parse_kind(text: str) -> tuple[dict[str, float], dict[str, str]]:
    """Resources and labels of one kind of node, from what its parentheses contain."""
    resources: dict[str, float] = {"CPU": 0.0}
    labels: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not name or not value:
            raise UsageError(f"--nodes: {part!r} is not NAME=VALUE, as in {_EXAMPLE}")
        if name in _AMOUNTS:
            resource, unit = _AMOUNTS[name]
            resources[resource] = _amount(name, value) * unit
        else:
            labels[ACCELERATOR if name == "type" else name] = value
    return resources, labels


def _amount(name: str, value: str) -> float:
    try:
        amount = float(value)
    except ValueError:
        amount = -1.0
    if not 0 <= amount < 1e6 or (name == "GPU" and not amount.is_integer()):
        raise UsageError(f"--nodes: {name}={value}: not an amount that a machine can have, see {_EXAMPLE}")
    return amount
