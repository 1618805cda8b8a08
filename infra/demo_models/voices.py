"""Which synthetic voices speak each language, and which of them are never heard in training.

A held-out voice is held out everywhere: in every language and in every mixture. Kokoro's voices are points of
one style space, so a voice can speak any language and two voices can be mixed; both are used to make many
more training voices than there are native ones.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from infra.demo_models.words import LANGUAGES

KOKORO_NATIVE: dict[str, tuple[str, ...]] = {
    "en": (
        "af_heart",
        "am_puck",
        "bf_isabella",
        "bm_lewis",
        "af_bella",
        "am_adam",
        "af_nicole",
        "am_fenrir",
        "bf_alice",
        "bm_daniel",
        "af_sarah",
        "am_eric",
        "af_sky",
        "am_onyx",
        "bf_lily",
        "bm_fable",
        "af_kore",
        "am_liam",
        "af_aoede",
        "am_echo",
        "af_river",
        "af_jessica",
        "af_alloy",
    ),
    "es": ("ef_dora", "em_santa"),
    "fr": ("ff_siwis",),
    "it": ("if_sara",),
    "pt": ("pf_dora", "pm_santa"),
    "zh": ("zf_xiaobei", "zm_yunjian", "zf_xiaoxiao", "zm_yunxia", "zf_xiaoyi", "zm_yunyang"),
    "yue": ("zf_xiaobei", "zm_yunjian", "zf_xiaoxiao", "zm_yunxia", "zf_xiaoyi", "zm_yunyang"),
    "ja": ("jf_alpha", "jm_kumo", "jf_gongitsune", "jf_tebukuro"),
    "ko": ("jf_alpha", "jm_kumo", "jf_gongitsune", "zf_xiaoxiao", "zm_yunjian"),
    "de": ("bf_isabella", "bm_lewis", "am_puck", "af_bella"),
    "ru": ("if_sara", "am_onyx", "af_heart", "em_santa"),
}
"""Kokoro voices that are native to a language (or, where it has none, close to it) and used in training."""

KOKORO_HELD_OUT: dict[str, tuple[str, ...]] = {
    "en": ("af_nova", "am_michael", "bf_emma", "bm_george"),
    "es": ("em_alex", "bf_emma", "am_michael"),
    "fr": ("bf_emma", "am_michael", "hf_beta"),
    "it": ("im_nicola", "af_nova", "bm_george"),
    "pt": ("pm_alex", "af_nova", "bm_george"),
    "zh": ("zf_xiaoni", "zm_yunxi", "af_nova"),
    "yue": ("zf_xiaoni", "zm_yunxi"),
    "ja": ("jf_nezumi", "am_michael", "zm_yunxi"),
    "ko": ("jf_nezumi", "zm_yunxi"),
    "de": ("bf_emma", "bm_george", "am_michael"),
    "ru": ("im_nicola", "bf_emma", "am_michael"),
}
"""Kokoro voices that only the tests hear."""

ESPEAK_TRAINING: tuple[str, ...] = (
    "m1",
    "f1",
    "m3",
    "f2",
    "m7",
    "f3",
    "Alex",
    "Annie",
    "Michael",
    "anika",
    "max",
    "linda",
    "m2",
    "f5",
    "m4",
    "m6",
    "m8",
    "Andrea",
    "Gene",
    "Jacky",
    "Lee",
    "Mario",
    "Mike",
    "Denis",
    "Diogo",
    "Hugo",
    "adam",
    "announcer",
    "antonio",
    "aunty",
    "benjamin",
    "boris",
    "caleb",
    "david",
    "ed",
    "edward",
    "grandma",
    "grandpa",
    "iven",
    "john",
    "klatt2",
    "michel",
    "miguel",
    "pablo",
    "paul",
    "pedro",
    "quincy",
    "rob",
    "robert",
    "sandro",
    "shelby",
    "steph",
    "travis",
    "victor",
    "zac",
)
"""espeak-ng voice variants used in training."""

ESPEAK_HELD_OUT: tuple[str, ...] = ("m5", "f4", "Andy", "belinda", "norbert")
"""espeak-ng voice variants that only the tests hear."""

OTHER_TRAINING: dict[str, tuple[str, ...]] = {
    "en": (
        "flite:slt",
        "flite:awb",
        "flite:kal",
        "festival:kal_diphone",
        "festival:cmu_us_slt_arctic_hts",
        "piper:joe",
    ),
    "it": ("festival:pc_diphone", "festival:lp_diphone"),
    "ru": ("festival:msu_ru_nsh_clunits",),
}
"""Voices of the other engines used in training."""

OTHER_HELD_OUT: dict[str, tuple[str, ...]] = {"en": ("flite:rms",)}
"""Voices of the other engines that only the tests hear."""

POOR = ("de", "ru", "ko", "yue")
"""Languages without a native neural voice: they get more espeak-ng variants."""


@dataclass(frozen=True)
class VoiceJob:
    """All the words of one language said by one voice.

    Attributes:
        language: ISO code.
        split: ``train`` or ``test``.
        engine: kokoro, espeak, flite, festival or piper.
        voice: the engine's name of the voice; for Kokoro a mixture is written ``a*0.6+b*0.4``.
        speed: rate, 1 is the voice's own.
        seed: seed of the order of the words and of the pitch.
    """

    language: str
    split: str
    engine: str
    voice: str
    speed: float
    seed: int

    @property
    def name(self) -> str:
        """File name of the job's clips, without suffix."""
        voice = self.voice.replace("*", "").replace("+", "_").replace(":", "-")
        return f"{self.split}.{self.language}.{self.engine}.{voice}.{self.seed}"


def kokoro_jobs(rounds: int, seed: int = 0) -> list[VoiceJob]:
    """Lists the Kokoro jobs, ordered so that any prefix of the list covers all languages evenly.

    Args:
        rounds: training voices per language.
        seed: seed of the mixtures and rates.
    """
    rng = random.Random(seed)
    everyone = sorted(
        {voice for voices in KOKORO_NATIVE.values() for voice in voices}
        | {"hf_alpha", "hm_omega", "hm_psi", "am_santa"}
    )
    jobs = []
    for number in range(rounds):
        for language in LANGUAGES:
            native = KOKORO_NATIVE[language.code]
            if number < len(native):
                voice = native[number]
            elif number % 2:
                voice = rng.choice(everyone)
            else:
                weight = rng.uniform(0.35, 0.65)
                first, second = rng.choice(native), rng.choice(everyone)
                voice = f"{first}*{weight:.2f}+{second}*{1 - weight:.2f}"
            jobs.append(
                VoiceJob(language.code, "train", "kokoro", voice, rng.uniform(0.65, 1.1), 100 + number)
            )
        if number in (2, 4, 6):
            for language in LANGUAGES:
                held_out = KOKORO_HELD_OUT[language.code]
                for voice in (
                    held_out[(number - 2) // 2 : (number - 2) // 2 + 1] if number < 6 else held_out[2:]
                ):
                    jobs.append(
                        VoiceJob(
                            language.code, "test", "kokoro", voice, rng.uniform(0.75, 1.05), 900 + number
                        )
                    )
    return jobs


def light_jobs(seed: int = 1) -> list[VoiceJob]:
    """Lists the jobs of the engines that cost next to nothing: espeak-ng, flite, festival and Piper."""
    rng = random.Random(seed)
    jobs = []
    for language in LANGUAGES:
        for held_out, others in ((False, OTHER_TRAINING), (True, OTHER_HELD_OUT)):
            for other in others.get(language.code, ()):
                engine, voice = other.split(":")
                for repeat in range(1 if held_out else 3):
                    jobs.append(
                        VoiceJob(
                            language.code,
                            "test" if held_out else "train",
                            engine,
                            voice,
                            (1.0, 0.87, 1.15)[repeat],
                            repeat,
                        )
                    )
        variants = list(ESPEAK_TRAINING)
        rng.shuffle(variants)
        for number, voice in enumerate(variants[: 44 if language.code in POOR else 14]):
            jobs.append(
                VoiceJob(language.code, "train", "espeak", voice, rng.uniform(0.75, 1.2), 200 + number)
            )
        for number, voice in enumerate(ESPEAK_HELD_OUT[: 5 if language.code in POOR else 2]):
            jobs.append(
                VoiceJob(language.code, "test", "espeak", voice, rng.uniform(0.8, 1.15), 800 + number)
            )
    return jobs
