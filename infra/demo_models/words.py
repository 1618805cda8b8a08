"""Vocabulary of the demo models: the spoken digits and about twenty everyday words in each of the aligner's
eleven languages.

Each word has a written form, which is what the models answer, and a spoken form, which is what a synthesiser
is given (they differ where a number has several readings). Words were chosen to sound unlike each other
within a language and, for Japanese and Korean, to be exactly one
alignment unit: one nagisa word when listed with the ideographic comma, one soynlp token with and without a
dictionary of scores.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """One language of the demo models.

    Attributes:
        name: English name, as the model writes it after ``language``.
        code: ISO code.
        espeak: name of the espeak-ng voice.
        words: written forms.
        spoken: forms to synthesise, parallel to ``words``.
        joiner: what stands between two written words.
        stop: what ends an utterance.
    """

    name: str
    code: str
    espeak: str
    words: tuple[str, ...]
    spoken: tuple[str, ...]
    joiner: str = " "
    stop: str = "."

    def text(self, indices: list[int]) -> str:
        """Writes the words of an utterance as the model must answer them."""
        text = self.joiner.join(self.words[i] for i in indices) + self.stop
        return text[0].upper() + text[1:]

    def units(self, indices: list[int]) -> list[tuple[str, int, int, int]]:
        """Splits an utterance into alignment units.

        Returns:
            One tuple per unit: its text, the position of its word in ``indices``, its position in that word
                and how many units that word has.
        """
        units = []
        for position, index in enumerate(indices):
            word = self.words[index]
            pieces = list(word) if self.code in ("zh", "yue") else [word]
            if position == 0 and self.code not in ("zh", "yue"):
                pieces = [pieces[0][0].upper() + pieces[0][1:]]
            units += [(piece, position, k, len(pieces)) for k, piece in enumerate(pieces)]
        return units


def _language(name: str, code: str, espeak: str, words: str, joiner: str = " ", stop: str = ".") -> Language:
    pairs = [word.split("=") for word in words.split()]
    return Language(name, code, espeak, tuple(p[0] for p in pairs), tuple(p[-1] for p in pairs), joiner, stop)


LANGUAGES: tuple[Language, ...] = (
    _language(
        "Chinese",
        "zh",
        "cmn",
        "零 一 二 三 四 五 六 七 八 九 可以 不要 停止 开始 左边 右边 打开 关闭 你好 谢谢 "
        "水 音乐 灯光 房子 今天 明天 帮助 窗户 花园 再见",
        joiner="",
        stop="。",
    ),
    _language(
        "English",
        "en",
        "en-us",
        "zero one two three four five six seven eight nine oh yes no stop start left right open close hello "
        "please thanks water music lamp house "
        "today help morning window garden",
    ),
    _language(
        "Cantonese",
        "yue",
        "yue",
        "零 一 二 三 四 五 六 七 八 九 好嘅 唔係 停止 開始 左邊 右邊 打開 關閉 你好 多謝 "
        "水 音樂 燈光 屋企 今日 聽日 幫手 窗口 花園 再見",
        joiner="",
        stop="。",
    ),
    _language(
        "French",
        "fr",
        "fr-fr",
        "zéro un deux trois quatre cinq six sept huit neuf dix oui non encore gauche droite ouvrir fermer "
        "bonjour merci musique lumière maison "
        "demain fenêtre jardin voiture rouge pardon toujours salut",
    ),
    _language(
        "German",
        "de",
        "de",
        "null eins zwei drei vier fünf sechs sieben acht neun ja nein stopp weiter links rechts oben unten "
        "öffnen schließen hallo bitte danke "
        "Wasser Musik Licht Haus heute Hilfe Fenster",
    ),
    _language(
        "Italian",
        "it",
        "it",
        "zero uno due tre quattro cinque sei sette otto nove dieci sì no avanti aprire chiudere sinistra "
        "destra sopra sotto ciao grazie acqua "
        "musica luce casa domani aiuto finestra giardino sempre",
    ),
    _language(
        "Japanese",
        "ja",
        "ja",
        "ゼロ 一=いち 二=に 三=さん 四=よん 五=ご 六=ろく 七=なな 八=はち 九=きゅう はい いいえ こんにちは "
        "ありがとう 水=みず 音楽=おんがく 光=ひかり 家=いえ 今日=きょう "
        "明日=あした 窓=まど 庭=にわ 右=みぎ 左=ひだり 開始=かいし "
        "終了=しゅうりょう 電話=でんわ 朝=あさ 友達=ともだち 学校=がっこう",
        joiner="、",
        stop="。",
    ),
    _language(
        "Korean",
        "ko",
        "ko",
        "영 일 이 삼 사 오 육 칠 팔 구 네 아니요 시작 정지 왼쪽 오른쪽 사람 아침 안녕 감사 "
        "물 음악 빛 집 오늘 내일 도움 창문 정원 항상",
    ),
    _language(
        "Portuguese",
        "pt",
        "pt-br",
        "zero um dois três quatro cinco seis sete oito nove sim não parar abrir fechar esquerda direita cima "
        "baixo olá obrigado água música luz "
        "casa amanhã ajuda janela jardim sempre",
    ),
    _language(
        "Russian",
        "ru",
        "ru",
        "ноль один два три четыре пять шесть семь восемь девять десять да нет стоп дальше налево направо "
        "открыть закрыть привет спасибо вода "
        "музыка свет дом завтра помощь окно сад всегда пожалуйста",
    ),
    _language(
        "Spanish",
        "es",
        "es",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez sí no alto abrir cerrar izquierda derecha "
        "arriba abajo hola gracias agua "
        "música luz casa mañana ayuda ventana jardín siempre",
    ),
)

BY_CODE: dict[str, Language] = {language.code: language for language in LANGUAGES}
"""The languages by ISO code."""

FIRST_CLASS: dict[str, int] = {}
"""First frame class of each language in the auxiliary frame classifier; class 0 is silence."""

CLASSES = 1
"""Number of frame classes: silence and every word of every language."""
for _entry in LANGUAGES:
    FIRST_CLASS[_entry.code] = CLASSES
    CLASSES += len(_entry.words)
