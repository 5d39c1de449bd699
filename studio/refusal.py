"""Prompts that are not drawn, in any project, whatever its concept is called: people shown as minors. Torch-free.

This studio looks for ways to make models draw what they should not, nudity among it, so it draws no minors at all. The
rule: a prompt is refused when it holds a word or an age that means somebody under 18 (`MINORS`, `AGE`) *and* a word
for people (`PEOPLE`) or for sexual content or nudity (`SEXUAL`). A word for minors alone is not refused (a classroom
of children, a toy), unless it means both by itself, nor is any other prompt, whatever the project's concept. Phrases
that only sound like it ("kid gloves", "baby blue") are taken out first, see `HARMLESS`.

Limits. It is a list of English words with their common plurals and spellings. It knows no other language, no slang of
tomorrow, and no meaning: it refuses a harmless family picture, and not a prompt that finds other words. Letters that
only look alike, digits for letters, and signs between letters are undone before the words are read, but whoever wants
to get around a list will. It says nothing about pictures. It is one safeguard beside the checkpoint's own and the
detector's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

MINORS = frozenset(
    """
    adolescent adolescents babies baby boyhood child childhood childlike children girlhood grandchild grandchildren
    granddaughter grandson infant infants jailbait juvenile juveniles kid kiddie kiddies kids kindergarten
    kindergartener kindergartner lad lass loli lolicon lolita minor minors newborn newborns nymphet preadolescent
    prepuberty prepubescent preschool preschooler preschoolers preteen preteens puberty pubescent schoolboy
    schoolboys schoolchild schoolchildren schoolgirl schoolgirls shota shotacon teen teenage teenaged teenager
    teenagers teens toddler toddlers tween tweens underage underaged youngster youngsters youth youths
    """.split()  # noqa: SIM905 (a list of words is read best as words)
)
PEOPLE = frozenset(
    """
    actor actress aunt bodies body boy boyfriend boys bride brother brothers cheerleader couple couples dad daddy
    dancer dancers daughter daughters father fathers female females friend friends gentleman gentlemen girl
    girlfriend girls groom guy guys gymnast human humans husband ladies lady maid male males man men model models
    mom mommy mother mothers mum mummy nurse parent parents people person persons prince princess pupil pupils
    selfie sister sisters somebody someone son sons student students swimmer teacher uncle wife woman women
    """.split()  # noqa: SIM905 (a list of words is read best as words)
)
MINOR_PHRASES = (
    "young boy", "young boys", "young girl", "young girls", "little boy", "little boys", "little girl", "little girls",
    "small boy", "small girl", "high school student", "middle school", "elementary school", "primary school",
    "high schooler", "high schoolers", "middle schooler", "middle schoolers", "grade schooler", "grade schoolers",
    "high school girl", "high school girls", "high school boy", "high school boys", r"\w+(?:st|nd|rd|th) graders?",
    r"(?:weeks?|months?) olds?", "pre teen", "pre teens", "under age",
    "boy scout", "girl scout", "boy scouts", "girl scouts",
)  # fmt: skip
SEXUAL = frozenset(
    """
    anal anus areola areolas aroused bdsm bikini blowjob bondage boobs breast breasts butt buttocks cleavage
    clitoris coitus cum cumshot dildo ecchi ejaculation erect erection erotic erotica explicit fellatio fetish
    fondling genital genitalia genitals groin groping hardcore hentai horny incest intercourse jailbait kinky labia
    lewd lingerie lolicon lust lustful masturbate masturbating masturbation molest molested naked nakedness nipple
    nipples nsfw nude nudes nudism nudist nudity orgasm orgy panties penetration penis porn porno pornographic
    pornography provocative pubic r18 rape raped risque scrotum seductive seductively semen sensual sensually sex
    sexual sexualised sexualized sexually sexy slutty sodomy softcore stripping striptease tits topless unclad
    unclothed undressed undressing upskirt vagina vulva xxx
    """.split()  # noqa: SIM905 (a list of words is read best as words)
)
SEXUAL_PHRASES = ("without clothes", "no clothes", "without clothing", "no clothing", "bare chested", "see through",
                  "barely legal")  # fmt: skip
# Taken out before the words are read: things, sayings and colours whose words would count.
HARMLESS = (
    "kid gloves", "kid glove", "kid leather", "baby elephant", "baby elephants", "baby stroller", "baby carriage",
    "minor injury", "minor injuries", "juvenile court",
    "baby blue", "baby pink", "baby oil", "baby grand", "baby corn", "baby carrots",
    "baby shark", "baby animal", "baby animals", "child seat", "child proof", "childproof", "child lock", "kids menu",
    "minor key", "minor scale", "minor chord", "in a minor", "in b minor", "in c minor", "in d minor", "in e minor",
    "in f minor", "in g minor", "asia minor", "ursa minor", "minor detail", "minor details", "minor damage",
    "teenage mutant ninja turtle", "teenage mutant ninja turtles", "fountain of youth", "youth hostel",
    "chicken breast", "chicken breasts", "turkey breast", "duck breast", "breast pocket", "breast cancer",
    "breast stroke", "naked eye", "naked mole rat", "sexless", "same sex couple", "butt joint", "explicit instructions",
    "nude color", "nude colour", "nude lipstick", "parental advisory explicit content", "erect posture",
    "bikini atoll", "kid goat", "kid goats", "baby doll dress", "baby sitter", "babysitter", "baby shower", "baby bird",
    "baby birds", "baby dragon", "teen drama", "minor character", "minor characters", "youth center", "child care sign",
)  # fmt: skip
ADULT_AGE = 18
_OLD = r"(?:(?:and a half )?(?:years?|yrs?|y)\s*(?:olds?|of age)|yo|y o)"
AGE = re.compile(
    rf"\b(\d{{1,2}})\s*{_OLD}\b|\b(?:aged?|age of)\s+(\d{{1,2}})\b"
    r"|\b(?:girl|boy)s? (?:of )?(\d{1,2})(?: years?| yrs?)?(?= (?:and|in|on|at|with|who|nude|naked|topless)\b|$)"
)
NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen",
)  # fmt: skip
WRITTEN_AGE = re.compile(rf"\b({'|'.join(NUMBERS)})\s+{_OLD}\b|\b(?:aged|age)\s+({'|'.join(NUMBERS)})\b")
LOOK_ALIKES = str.maketrans(
    {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t", "@": "a", "$": "s", "!": "i", "|": "i"}
    | dict(zip("аеорсухіѕ", "aeopcyxis", strict=True))  # Cyrillic letters that look Latin
)
SPACED = re.compile(r"\b(?:[^\W\d_][\s._*-]){2,}[^\W\d_]\b")  # l i k e, t.h.i.s


class RefusedError(ValueError):
    """A prompt that is not drawn; says why."""


def refuse(prompt: str) -> str | None:
    """Why a prompt is not drawn, None where nothing speaks against it.

    Many prompts in one text (one a line) are read together: a pair of words in different lines counts.
    """
    for text in readings(prompt):
        words = set(re.findall(r"[a-z0-9]+", text))
        minor = _says(text, words, MINORS, MINOR_PHRASES) or _young(text)
        if minor and (words & PEOPLE or _says(text, words, SEXUAL, SEXUAL_PHRASES)):
            return (
                "This prompt is not drawn: it combines people, nudity or sexual content with words for somebody under "
                "18. That is refused in every project. Where it is meant otherwise, say it without one of the two."
            )
    return None


def refused_one(prompts: Sequence[str]) -> str | None:
    """The reason for the first of these prompts that is refused, with its place; None where all may be drawn."""
    for number, prompt in enumerate(prompts, 1):
        if (reason := refuse(prompt)) is not None:
            return f"Prompt {number} of {len(prompts)}: {reason}"
    return None


def readings(prompt: str) -> list[str]:
    """The prompt as plain lower-case words, and as it reads with disguises undone; harmless phrases are taken out."""
    plain = unicodedata.normalize("NFKD", prompt).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c) and unicodedata.category(c) != "Cf")
    joined = SPACED.sub(lambda found: re.sub(r"[\s._*-]", "", found.group()), plain)
    undone = joined.translate(LOOK_ALIKES)
    return list(dict.fromkeys(_without_harmless(text) for text in (plain, joined, undone)))


def _without_harmless(text: str) -> str:
    text = " ".join(re.findall(r"[^\W_]+|/", text.replace("y/o", "yo")))
    for phrase in sorted(HARMLESS, key=len, reverse=True):
        if phrase in text:  # a tenth of the time: hardly any prompt holds one
            text = re.sub(rf"\b{phrase}\b", " ", text)
    return " ".join(text.split())


def _says(text: str, words: set[str], single: frozenset[str], phrases: tuple[str, ...]) -> bool:
    return bool(words & single) or any(re.search(rf"\b{phrase}\b", text) for phrase in phrases)


def _young(text: str) -> bool:
    """Whether an age under 18 years is named."""
    ages = [int(number) for found in AGE.finditer(text) for number in found.groups() if number]
    return any(age < ADULT_AGE for age in ages) or WRITTEN_AGE.search(text) is not None
