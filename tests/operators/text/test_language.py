"""Truth: article 1 of the Universal Declaration of Human Rights, which is in the public domain."""

# ruff: noqa: RUF001  the letters of other languages are meant

from __future__ import annotations

import json

import pytest

from weft.errors import DefinitionError
from weft.operators.text import Language
from weft.pipelines.operator import digest

ARTICLE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with "
    "reason and conscience and should act towards one another in a spirit of brotherhood.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués "
    "de raison et de conscience et doivent agir les uns envers les autres dans un esprit de "
    "fraternité.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft "
    "und Gewissen begabt und sollen einander im Geiste der Brüderlichkeit begegnen.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como "
    "están de razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati "
    "di ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de "
    "razão e de consciência, devem agir uns para com os outros em espírito de fraternidade.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd "
    "met verstand en geweten, en behoren zich jegens elkander in een geest van broederschap te "
    "gedragen.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med "
    "förnuft och samvete och bör handla gentemot varandra i en anda av gemenskap.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De er udstyret med "
    "fornuft og samvittighed, og de bør handle mod hverandre i en broderskabets ånd.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan. Heille on "
    "annettu järki ja omatunto, ja heidän on toimittava toisiaan kohtaan veljeyden hengessä.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni "
    "obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "cs": "Všichni lidé se rodí svobodní a sobě rovní co do důstojnosti a práv. Jsou nadáni "
    "rozumem a svědomím a mají spolu jednat v duchu bratrství. Každý má právo na život, "
    "svobodu a osobní bezpečnost.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek, "
    "ésszel és lelkiismerettel bírván, egymással szemben testvéri szellemben kell hogy "
    "viseltessenek.",
    "ro": "Toate ființele umane se nasc libere și egale în demnitate și în drepturi. Ele sunt "
    "înzestrate cu rațiune și conștiință și trebuie să se comporte unele față de altele în "
    "spiritul fraternității.",
    "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana "
    "sahiptirler ve birbirlerine karşı kardeşlik zihniyeti ile hareket etmelidirler.",
    "vi": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền lợi. Mọi "
    "con người đều được tạo hoá ban cho lý trí và lương tâm và cần phải đối xử với nhau trong "
    "tình bằng hữu.",
    "id": "Semua orang dilahirkan merdeka dan mempunyai martabat dan hak-hak yang sama. Mereka "
    "dikaruniai akal dan hati nurani dan hendaknya bergaul satu sama lain dalam semangat "
    "persaudaraan.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены "
    "разумом и совестью и должны поступать в отношении друг друга в духе братства.",
    "uk": "Всі люди народжуються вільними і рівними у своїй гідності та правах. Вони наділені "
    "розумом і совістю і повинні діяти у відношенні один до одного в дусі братерства.",
    "el": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "he": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "th": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}


def test_languages_are_told() -> None:
    """26 of 27. Indonesian and Malay are one language in two standards; it takes the other.

    The texts in Latin letters have 120 characters or more: for a shorter one, Lingua loads the
    models of all sequences, which takes 5 seconds.
    """
    operator = Language()
    loaded = operator.setup("cpu")
    found = {code: operator.map_row({"text": text}, loaded) for code, text in ARTICLE.items()}
    wrong = {code: row["language"] for code, row in found.items() if row["language"] != code}
    assert wrong == {"id": "ms"}
    sure = sum(row["language_confidence"] > 0.9 for row in found.values())
    assert sure >= 25


def test_the_same_again() -> None:
    answers = {json.dumps(Language()(text)) for text in [ARTICLE["da"]] * 3}
    assert len(answers) == 1


@pytest.mark.parametrize("text", ["", " \n", "12:30", "... !", "🙂"])
def test_nothing_to_tell_it_by(text: str) -> None:
    assert Language()(text) == {"language": None, "language_confidence": 0.0}


def test_only_the_languages_asked_for() -> None:
    """Danish is none of them: it is given the nearest."""
    assert Language(("sv", "fr"))(ARTICLE["da"])["language"] == "sv"
    few, more = Language(("en", "fr")), Language(("en", "fr", "it", "es"))
    assert few("prologue")["language_confidence"] > more("prologue")["language_confidence"]


def test_the_order_of_languages_is_no_part_of_the_identity() -> None:
    one, other = Language(("en", "de", "en")), Language(("de", "en"))
    assert one == other
    assert digest(one.identity()) == digest(other.identity())


@pytest.mark.parametrize(
    ("languages", "message"),
    [
        (("en", "xx"), r"text\.Language: languages has 'xx': expected ISO 639-1 codes"),
        (("EN", "de"), r"languages has 'EN': .* in small letters"),
        (("en",), r"languages=\('en',\): expected two at least, to choose among"),
    ],
)
def test_wrong_languages(languages: tuple[str, ...], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Language(languages)
