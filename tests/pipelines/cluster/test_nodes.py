"""Label selectors of nodes, and descriptions of nodes."""

import pytest

from actors.errors import UsageError
from pipelines.cluster.nodes import ACCELERATOR, NODE_ID, Node, matches, parse


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("a", [True, False, False]),
        ("!a", [False, True, True]),
        ("in(a, b)", [True, True, False]),
        ("!in(a,b)", [False, False, True]),
    ],
)
def test_a_selector_matches_nodes_as_in_ray(wanted: str, expected: list[bool]) -> None:
    assert [matches(labels, {"zone": wanted}) for labels in ({"zone": "a"}, {"zone": "b"}, {})] == expected


def test_all_parts_of_a_selector_must_match() -> None:
    assert matches({"zone": "a", "kind": "x"}, {"zone": "a", "kind": "!y"})
    assert matches({}, {})
    assert not matches({"zone": "a", "kind": "x"}, {"zone": "a", "kind": "y"})


def test_a_description_becomes_nodes() -> None:
    nodes = parse("2x(CPU=16,GPU=2,type=L4), (CPU=0.5, memory=64, store=6, zone=a)")
    assert [(node.cpus, node.gpus) for node in nodes] == [(16, 2), (16, 2), (0.5, 0)]
    assert nodes[0].labels[ACCELERATOR] == "L4"
    assert nodes[2].labels == {"zone": "a", NODE_ID: "node-2"}
    assert nodes[2].resources == {"CPU": 0.5, "memory": 64 * 2**30, "object_store_memory": 6 * 2**30}
    assert len({node.labels[NODE_ID] for node in nodes}) == 3
    assert all(isinstance(node, Node) for node in nodes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "CPU=4",
        "2x",
        "2x(CPU=4",
        "2x(CPU)",
        "2x(CPU=many)",
        "(GPU=0.5)",
        "(CPU=-1)",
        "(CPU=nan)",
        "(CPU=4)(CPU=4)",
        "0x(CPU=4)",
        "(CPU=4),,",
        "-1x(CPU=4)",
    ],
)
def test_a_malformed_description_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--nodes"):
        parse(text)
