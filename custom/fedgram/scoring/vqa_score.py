"""The accuracy of VQA v2, as its authors compute it (Antol et al. 2015; GT-Vision-Lab/VQA, vqaEval.py of 2021).

Written anew from the protocol, its oddities included: scores are to be comparable with published ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

from fedgram.errors import DataError

_ARTICLES = frozenset(("a", "an", "the"))
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBERS)}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"\d,\d")
# The published pattern was meant to spare a point after a digit as well; what it does is this.
_POINT = re.compile(r"\.(?!\d)")
_MOST_POINTS = 32  # a flag stands where the published call takes the number of replacements
# The protocol's contractions. Each is also recognised with any one of its apostrophes left out. Those with a
# capital I are missing: they are looked up in lower case, so the published table never finds them.
_CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
wouldn't wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
""".split()  # noqa: SIM905
_SPELLING = {
    word[:i] + word[i + 1 :]: word for word in _CONTRACTIONS for i, letter in enumerate(word) if letter == "'"
} | {"somebody'd": "somebodyd"}  # as published


def normalise(answer: str) -> str:
    """Normalise an answer: lower case, no punctuation or articles, digits and contractions spelt one way."""
    words = [_DIGITS.get(word, word) for word in _without_punctuation(answer).lower().split()]
    return " ".join(_SPELLING.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """The agreement of people with a prediction: the mean, with each left out, of min(1, agreeing others / 3).

    Answers and prediction are normalised only where people differ; where all say the same the prediction must be
    that to the letter. So 3 of 10 who agree give 0.9, and 4 or more give 1. Fewer than four answers never give 1.

    Args:
        answers: of all the people who were asked, ten in VQA v2.

    Raises:
        DataError: no answers.

    Law: does not depend on the order of the answers.
    """
    if not answers:
        raise DataError("no answers", where="soft accuracy", expected="those of all the people asked")
    given, prediction = [_one_line(answer) for answer in answers], _one_line(prediction)
    if len(set(given)) > 1:
        given, prediction = [normalise(answer) for answer in given], normalise(prediction)
    agreeing = sum(answer == prediction for answer in given)
    return fmean(min(1.0, (agreeing - (answer == prediction)) / 3) for answer in given)


def _without_punctuation(answer: str) -> str:
    """Drop a sign that stands beside a space, and all once a number has a comma; others become a space."""
    left, in_number = answer, _COMMA_IN_NUMBER.search(answer) is not None
    for sign in _PUNCTUATION:
        goes = in_number or f"{sign} " in answer or f" {sign}" in answer
        left = left.replace(sign, "" if goes else " ")
    return _POINT.sub("", left, count=_MOST_POINTS)


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
