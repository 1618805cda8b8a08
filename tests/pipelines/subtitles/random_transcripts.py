"""Random transcripts with everything that makes subtitles hard, the same for each seed."""

from __future__ import annotations

import random
from typing import Any

# Spaces separate words; languages without spaces have a word for each character.
_TEXTS = {
    "en": "The committee met on Tuesday morning, and after a long discussion about the budget, it decided to "
    'wait. Nobody was surprised! "We need more time," said the chairman, who had been travelling. Yes. There '
    "were, however, https://example.org/a/very/long/path-that-does-not-end/and/more/index.html some "
    "objections.",
    "de": "Die Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft tagte, weil "
    "es regnete. Niemand kam. Oder doch?",
    "zh": "今天下午，我们将在北京参加一个非常重要的会议。会议上将讨论二零二六年的预算问题和其他事情！",
    "ja": "今日は天気がいいですね。明日は学校に行きますから、コンピューターを使ってプログラミングをします。",
    "th": "สวัสดีครับวันนี้อากาศดีมากเราไปเดินเล่นกันเถอะ",
    "ko": "오늘 날씨가 정말 좋습니다. 우리는 내일 학교에 갈 것입니다, 그리고 친구를 만날 것이다.",
}
_UNSPACED = ("zh", "ja", "th")
KINDS = ("plain", "channels", "turns", "unheard", "instant", "no words", "fast", "mixed")


def random_segments(seed: int) -> list[dict[str, Any]]:
    """Segments of one recording."""
    rng = random.Random(seed)
    kind, language = rng.choice(KINDS), rng.choice(list(_TEXTS))
    segments: list[dict[str, Any]] = []
    time = rng.random() * 3
    for number in range(rng.randint(0, 6)):
        language = rng.choice(list(_TEXTS)) if kind == "mixed" else language
        words, begin = _words(rng, language), time
        rows, text, speaker = [], "", None
        for word in words:
            if kind == "turns" and rng.random() < 0.3:
                speaker = rng.choice(["S1", "S2", "S3"])
            length = 0.06 if kind == "fast" else rng.choice([0.1, 0.2, 0.35, 0.6])
            length = 0.0 if kind == "instant" and rng.random() < 0.7 else length
            length = 12.0 if rng.random() < 0.003 else length
            time += rng.choice([0.3, 1.0, 2.9, 3.5, 9.0]) if rng.random() < 0.06 else 0.0
            text += " " if text and language not in _UNSPACED else ""
            unheard = kind == "unheard" and rng.random() < 0.4
            if word.strip(".,!?。，、！"):
                rows.append(
                    {
                        "text": word.strip(".,!?。，、！"),
                        "start": None if unheard else round(time, 3),
                        "end": None if unheard else round(time + length, 3),
                        "char_start": len(text),
                        "char_end": len(text) + len(word),
                        "confidence": rng.choice([None, 0.5]),
                        "speaker": speaker,
                    }
                )
            text += word
            time += length
        segments.append(
            {
                "start": round(begin, 3),
                "end": round(time, 3),
                "text": text,
                "language": language,
                "words": [] if kind == "no words" or language == "th" else rows,
                "flags": [f"channel:{number % 2}"] if kind == "channels" else [],
                "confidence": 0.9,
                "speaker": None,
            }
        )
        time = (
            begin + rng.random()
            if kind == "channels" and number % 2 == 0
            else time + rng.choice([0, 0.2, 1, 4])
        )
    return segments


def _words(rng: random.Random, language: str) -> list[str]:
    source = list(_TEXTS[language]) if language in _UNSPACED else _TEXTS[language].split()
    first, count = rng.randrange(len(source)), rng.choice([1, 2, 3, 10, 40, 120])
    return [source[(first + number) % len(source)] for number in range(count)]
