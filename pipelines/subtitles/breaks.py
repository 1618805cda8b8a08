"""How good a break between two words is, for cues and for lines. Pure.

The order of preference is that of the broadcasters' guides: after a sentence, after a clause, at a pause,
before a conjunction or a preposition; never between an article and its noun.
"""

from __future__ import annotations

import itertools
from functools import lru_cache

from pipelines.subtitles.tokens import Token, ends_sentence

# Costs of a break, from none to one that no reader expects.
SENTENCE, CLAUSE, BEFORE_PARTICLE, ORDINARY, AFTER_PARTICLE, INSIDE_WORD = 0.0, 8.0, 14.0, 22.0, 36.0, 90.0
# A pause of one second or more makes a break this much better.
_PAUSE = 16.0
_CLAUSE_END = ",;:–—،؛、，；："
_CLOSING = "\"')]}»”’」』）】〉》"
# Conjunctions and prepositions: a line may begin with them, and should not end with them.
_PARTICLES: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "and but or nor so yet because although though while when where which who that if unless until "
        "since than as of in on at by for from with without about into onto over under between through "
        "during before after against among towards to",
        "de": "und oder aber denn sondern weil dass ob wenn als während obwohl damit bevor nachdem der die "
        "das in an auf mit von zu bei nach aus für über unter vor hinter zwischen durch gegen ohne um seit",
        "fr": "et ou mais donc or ni car que qui quand lorsque comme si parce puisque quoique dans sur sous "
        "avec sans pour par de à en chez vers entre depuis pendant",
        "es": "y e o u pero sino porque que quien cuando como si aunque mientras en con sin por para de a "
        "desde hasta sobre entre hacia según",
        "it": "e ed o ma però perché che chi quando come se mentre benché in con senza per di a da su tra "
        "fra sopra sotto verso",
        "pt": "e ou mas porém porque que quem quando como se embora enquanto em com sem por para de a desde "
        "até sobre entre",
        "nl": "en of maar want dat die als toen terwijl omdat hoewel in op met zonder van voor naar bij uit "
        "over onder tussen door tegen",
        "ru": "и а но или что чтобы если когда потому как где который в на с без для от до из за над под "
        "между через при по к о об",
    }.items()
}
# Articles, auxiliaries and pronouns: what follows them belongs to them.
_ATTACHED: dict[str, frozenset[str]] = {
    code: frozenset(words.split())
    for code, words in {
        "en": "a an the my your his her its our their this these those is are was were be been am will "
        "would can could shall should may might must do does did has have had not i you he she we they very "
        "no",
        "de": "ein eine einen einem einer eines der die das den dem des mein dein sein ihr unser euer ist "
        "sind war waren wird werden hat haben nicht ich du er sie es wir kein keine",
        "fr": "un une le la les des du mon ton son ma ta sa mes tes ses notre votre leur ce cet cette ces "
        "est sont a ont ne je tu il elle on nous vous ils elles",
        "es": "un una unos unas el la los las lo mi tu su mis tus sus es son está están ha han no yo",
        "it": "un uno una il lo la i gli le mio tuo suo è sono ha hanno non io",
        "pt": "um uma o a os as meu teu seu é são tem têm não eu",
        "nl": "een de het mijn jouw zijn haar ons is zijn was heeft hebben niet ik jij hij zij wij",
    }.items()
}


def break_costs(tokens: list[Token]) -> list[float]:
    """The cost of a break before each token; 0 before the first one."""
    costs = [0.0]
    for before, after in itertools.pairwise(tokens):
        if not after.is_word:
            costs.append(INSIDE_WORD)
            continue
        cost = _text_cost(before.text, after.text, after.language or "")
        pause = min(1.0, max(0, after.start - before.end) / 1000)
        costs.append(max(0.0, cost - _PAUSE * pause))
    return costs


@lru_cache(maxsize=1 << 16)
def _text_cost(before: str, after: str, language: str) -> float:
    """The cost of a break between two words, their times aside."""
    if ends_sentence(before):
        return SENTENCE
    bare = before.rstrip(_CLOSING)
    if bare and bare[-1] in _CLAUSE_END:
        return CLAUSE
    last, first = before.lower(), after.lower()
    if last in _PARTICLES.get(language, ()) or last in _ATTACHED.get(language, ()):
        return AFTER_PARTICLE
    if first in _PARTICLES.get(language, ()):
        return BEFORE_PARTICLE
    return ORDINARY
