"""Texts that are copied from the context are told from texts that have a few words of it."""

from __future__ import annotations

import pytest

from actors.guards.leaks import copied

TERMS = "Technical terms: Kubernetes, Ray Data, Grafana, Scriptorium"
PROSE = (
    "This is a lecture about the history of computing and the people who made the first machines in Britain "
    "and America"
)


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("Kubernetes, Ray Data, Grafana.", TERMS),
        ("Technical terms: Kubernetes, Ray Data, Grafana, Scriptorium", TERMS),
        ("kubernetes ray data grafana scriptorium", TERMS),
        ("Grafana Kubernetes.", TERMS),
        ("the history of computing and the people who made", PROSE),
        ("水左邊、四你好", "水左邊，四你好，花園"),
    ],
)
def test_copies_are_found(text: str, context: str) -> None:
    found = copied(text, context)
    assert found.share >= 0.8
    assert found.much


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("We run it on Kubernetes, and look at it in Grafana.", TERMS),
        ("The people of America are the first who made the history of Britain.", PROSE),
        ("anything", ""),
        ("", TERMS),
    ],
)
def test_speech_with_words_of_the_context_is_no_copy(text: str, context: str) -> None:
    assert copied(text, context).share < 0.8


@pytest.mark.parametrize("text", ["Kubernetes.", "Ray Data"])
def test_one_term_alone_may_be_said(text: str) -> None:
    found = copied(text, TERMS)
    assert found.share == 1
    assert not found.much
