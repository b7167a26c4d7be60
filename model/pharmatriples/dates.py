"""Dates in ISO 8601: the wording of a release to the days that it can mean.

dateutil reads days and months; what no library reads - quarters, halves, seasons, `mid-2026`, `year-end` - is a span of
months here. A value is never finer than what the wording says, and where a wording can be read in two ways there is
none: `05/06/2025`, `winter 2026`, a fiscal year whose end the wording does not tell.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal

from dateutil.parser import isoparse, parse, parserinfo
from dateutil.relativedelta import relativedelta

# Parts of a year as its first and last month. Early and late are the two halves, mid the quarters between; a season is
# that of the northern hemisphere with the months that either reckoning, by months or by the sun, gives it.
_PARTS = {
    **dict.fromkeys(("", "year", "full year", "q4 and full year"), (1, 12)),
    **dict.fromkeys(("h1", "early", "1 6 months"), (1, 6)),
    **dict.fromkeys(("h2", "late"), (7, 12)),
    **dict.fromkeys(("q1", "start", "beginning", "march quarter", "1 3 months"), (1, 3)),
    **dict.fromkeys(("q2", "june quarter"), (4, 6)),
    **dict.fromkeys(("q3", "september quarter"), (7, 9)),
    **dict.fromkeys(("q4", "end", "year end", "december quarter"), (10, 12)),
    **dict.fromkeys(("mid", "middle", "mid year"), (4, 9)),
    "1 9 months": (1, 9),
    "spring": (3, 6),
    "summer": (6, 9),
    **dict.fromkeys(("autumn", "fall"), (9, 12)),
}
_BARE = {"early", "late", "start", "beginning", "end", "mid", "middle"}  # which say nothing without what of
_NUMBERS = {"first": "1", "second": "2", "third": "3", "fourth": "4", "three": "3", "six": "6", "nine": "9"}
_WORD = re.compile(r"(\d+)(?:st|nd|rd|th)\b|\d+|[a-z]+|[^\w\s]", re.ASCII)
_NO_WORDS = {".", ",", "the", "of", "in", "on", "calendar", "cy"}
_PART = re.compile(r"\b(?:([1-4]) (?:- )?(q|h)(?:uarter|alf)?|(q|h) ([1-4]))\b")
_YEAR = re.compile(r"\b((?:1[89]|2[01])\d\d)\b|(?<=\b[qh][1-4] )([0-4]\d)$")
_RELATIVE_YEAR = re.compile(r"\b(this|current|last|previous|next|the) year\b(?! ?-)")  # not `the year-end`
_YEAR_SPAN = re.compile(r"\s*\d{4}[\u2012-\u2015]\d\d\s*", re.ASCII)  # 2010–11, which with a hyphen is a month
_OFFSETS = {"last": -1, "previous": -1, "next": 1}
_HYPHENATED = re.compile(r"^(early|mid|middle|late|start|beginning|end) - (?!to\b|(?:early|mid|middle|late|end)\b)")
_WITHIN = re.compile(r"(?:early|mid|middle|late|start|beginning|end) (.+)")
_JOINED = re.compile(r"(?<!\d) - | - (?!\d)")  # year-end, but not 1-3 months
_WEEK = re.compile(r"week (.+)")
_FISCAL = re.compile(r"(?:(.*) )?(?:fiscal|financial) year (?:ending|ended) (.+)")
_YEAR_FIRST = re.compile(r"\d{4}([-./])\d{1,2}(\1\d{1,2})?", re.ASCII)
_YEAR_LAST = re.compile(r"\d{1,2}(?:([-./])\d{1,2}\1|[-./])\d{4}", re.ASCII)
_SIGNS = {
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-"),
    **dict.fromkeys(map(ord, "'\u2018\u2019"), " "),
}
_SHORT_YEAR = re.compile(r"['\u2018\u2019]([0-4]\d)\b", re.ASCII)  # Dec '26
_MONTH_NUMBER = re.compile(r"[a-z]{3,9}\.?-\d\d", re.ASCII)  # Mar-26: a day of March, or March 2026
# The line of a dateline: what stands before the date and after it. A place ends in a sign and has no long word in small
# letters, as a sentence has (`PDUFA target date of`), no weekday, as the title of a coming report has, and names no
# meeting; a label, a byline or nothing is looked for in the head alone.
_HEAD, _TOP = 400, 1500  # characters
_MEETING = r"(?i:conference|congress|meeting|webcast|symposium|summit|forum|annual)"
_PLACE = re.compile(
    rf"[(\"“]?(?!{_MEETING}\b)[^\W\d_](?:(?!\b[^\W\dA-Z_]{{4,}}|\b\w+(?:day|DAY)\b|\b{_MEETING}\b)[^\n|:]){{,79}}"
    r"[,;(–—-]\s*(?:\w+day,? )?"
)
_LABEL = re.compile(
    r"(?:.*\|\s*|(?:.*(?:\s\s|\|\s*))?(?:(?:release|publication) )?"
    r"(?:date|time|released|published|posted|updated|issued|input|entered|for immediate release):?\s*)?[\[(]?",
    re.IGNORECASE,
)
_AFTER_LABEL = re.compile(r"[^\S\n]*(?:$|[\n)\]/|:;·(\-–—]|[^\S\n]{2}|,? ?\d{1,2}[:.]\d\d\b|, [A-Z][^\n.]{,40} [–—-] )")
_AFTER_PLACE = re.compile(rf"{_AFTER_LABEL.pattern}|\. ")
_LINE_END = re.compile(r"[^\S\n]*(?:\n|$)")
_ISO_WEEK = re.compile(r"\d{4}-?W\d\d", re.ASCII)
_LONGEST = 100  # characters of a date
# Days within which a writer leaves a year out; see `normalized`.
_FAR = 274
_INFO = parserinfo()


class DateError(ValueError):
    """A release date that is none; the message says how to write it."""


@dataclass(frozen=True)
class Period:
    """The days from `start` to `end`, both included."""

    start: date
    end: date

    @property
    def precision(self) -> str:
        """The calendar unit that it is: day, month, quarter, half or year; else range."""
        first, last = self.start, self.end
        if first == last:
            return "day"
        if not self._whole_months or first.year != last.year:
            return "range"
        months = last.month - first.month + 1
        unit = {1: "month", 3: "quarter", 6: "half", 12: "year"}.get(months, "range")
        return unit if (first.month - 1) % months == 0 else "range"

    @property
    def iso(self) -> str:
        """ISO 8601: a day, month or year, or the interval of two of them."""
        length = 4 if self.precision == "year" else 7 if self._whole_months else 10
        return "/".join(dict.fromkeys(day.isoformat()[:length] for day in (self.start, self.end)))

    @property
    def _whole_months(self) -> bool:
        return self.start.day == 1 and self.end.day == monthrange(self.end.year, self.end.month)[1]

    def to_dict(self) -> dict[str, str]:
        """Plain JSON types."""
        return {
            "iso": self.iso,
            "precision": self.precision,
            "start": self.start.isoformat(),
            "end": self.end.isoformat(),
        }

    def days_from(self, day: date) -> int:
        """How far it is from a day; 0 if it holds it."""
        return max((self.start - day).days, (day - self.end).days, 0)


def normalized(
    wording: str, release_date: date | None = None, side: Literal["past", "future"] | None = None
) -> Period | None:
    """What a date of a release means, None where that is not sure.

    Args:
        wording: as it stands in the text.
        release_date: the release's own; without it, a wording that names no year has no meaning.
        side: where the date should lie, seen from the release. A day or month without a year is the nearest one on this
            side; there is none where that is far and the other side has a nearer one.
    """
    if len(wording) > _LONGEST or _YEAR_SPAN.fullmatch(wording):
        return None
    text = " ".join(_SHORT_YEAR.sub(r" 20\1", wording).translate(_SIGNS).casefold().split())
    if _MONTH_NUMBER.fullmatch(text):
        return None
    if _YEAR_FIRST.fullmatch(text) or _YEAR_LAST.fullmatch(text):
        return _numeric(text)
    phrase = " ".join(match[1] or _NUMBERS.get(match[0], match[0]) for match in _WORD.finditer(text))
    phrase = _PART.sub(lambda m: (m[2] or m[3]) + (m[1] or m[4]), phrase)
    years = list(_YEAR.finditer(phrase))
    relative = _RELATIVE_YEAR.search(phrase)
    if len(years) > 1 or (years and relative):
        return None
    named = years[0] if years else relative
    if named:
        phrase = f"{phrase[: named.start()]} {phrase[named.end() :]}"
    phrase = " ".join(word for word in phrase.split() if word not in _NO_WORDS).strip("-/ ")
    if years:
        year = years[0]
        return _part(phrase, int(year[1] or f"20{year[2]}"))
    if release_date is None or not date.min.year + 1 < release_date.year < date.max.year - 1:
        return None
    if relative:
        return _part(phrase, release_date.year + _OFFSETS.get(relative[1], 0))
    if phrase in _BARE or text.split()[-1:] in (["of"], ["the"]):  # a wording that was cut off
        return None
    found = [_part(phrase, release_date.year + offset) for offset in (-1, 0, 1)]
    periods = [period for period in found if period is not None and period.precision != "year"]
    fitting = [
        p for p in periods if not (p.end < release_date if side == "future" else p.start > release_date and side)
    ]
    nearest, meant = (min(some, key=lambda p: p.days_from(release_date), default=None) for some in (periods, fitting))
    return meant if meant == nearest or (meant and meant.days_from(release_date) <= _FAR) else None


def dateline(text: str, spans: Iterable[tuple[int, int]]) -> date | None:
    """The day by which a release is dated: at its top (`SHANGHAI, March 3, 2025 - `), or else where it is signed.

    Args:
        spans: code points of the dates in the text, in its order.
    """
    signed = None
    for start, end in spans:
        line = text.rfind("\n", max(0, start - _HEAD), start) + 1
        if not line and start > _HEAD:
            continue  # far inside a line
        before = text[line:start].lstrip()
        if _PLACE.fullmatch(before):
            top, signature = end <= _TOP and _AFTER_PLACE.match(text, end), _LINE_END.match(text, end)
        else:
            top, signature = end <= _HEAD and _LABEL.fullmatch(before) and _AFTER_LABEL.match(text, end), None
        if top or signature:
            found = normalized(text[start:end])
            if found is not None and found.precision == "day":
                if top:
                    return found.start
                signed = found.start
    return signed


def as_date(value: Any) -> date | None:
    """A release date as a caller gives it: ISO 8601 text, a date or a datetime, whose day counts.

    None is none, and so is what pandas has for a missing value.

    Raises:
        DateError: it is something else.
    """
    if _is_missing(value):
        return None
    if isinstance(value, date):
        return value.date() if isinstance(value, datetime) else value
    try:
        # Not a year, month or week alone.
        if isinstance(value, str) and len(value) >= len("20250303") and not _ISO_WEEK.fullmatch(value):
            return isoparse(value).date()
    except (ValueError, OverflowError):
        pass
    raise DateError(f"a release date must be a date, or a text such as 2025-03-03, found {value!r:.60}")


def _is_missing(value: Any) -> bool:
    """Whether a value is None, or NaN or NaT, which are not equal to themselves, or NA, which does not say."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        return True
    except ValueError:  # an array
        return False


def _numeric(text: str) -> Period | None:
    """`2025-03-03`, `2025.03`, `28/02/2025`: where day and month can be told apart; not `2011/12`, a span of years."""
    parts = re.split("[-./]", text)
    if len(parts) == 2:
        month, year = map(int, sorted(parts, key=len))
        span = _YEAR_FIRST.fullmatch(text) and "/" in text and month == (year + 1) % 100
        return None if span or not year or not 1 <= month <= 12 else _months(year, month)
    orders = (False,) if len(parts[0]) == 4 else (False, True)
    try:
        days = {parse(text, dayfirst=order).date() for order in orders}
    except (ValueError, OverflowError):
        return None
    return Period(min(days), max(days)) if len(days) == 1 else None


def _part(phrase: str, year: int) -> Period | None:
    """What a phrase means within a year, which it does not name."""
    phrase = _HYPHENATED.sub(r"\1 ", phrase)
    joined = _JOINED.sub(" ", phrase)
    for part in (joined, joined.removesuffix(" year")):  # of `second half of calendar year 2026`
        if part in _PARTS:
            return _months(year, *_PARTS[part])
    sides = re.split(r" (?:(?:- )?to(?: -)?|[-/]|or) ", phrase)
    if len(sides) == 2 and (found := _range(sides[0], sides[1], year)):
        return found
    phrase = joined
    if fiscal := _FISCAL.fullmatch(phrase):
        return _fiscal(fiscal[1] or "", _calendar(fiscal[2].split(), year))
    if within := _WITHIN.fullmatch(phrase):
        found = _part(within[1], year)
        return found if found and found.precision in ("month", "quarter", "half") else None
    if week := _WEEK.fullmatch(phrase):
        day = _calendar(week[1].split(), year)
        if day is None or day.precision != "day":
            return None
        monday = day.start - timedelta(day.start.weekday())
        return Period(monday, monday + timedelta(6))
    return _calendar(phrase.split(), year)


def _range(first: str, last: str, year: int) -> Period | None:
    """`October 23 to 27`, `8-11 December`, `Q1-Q2`: a side that is only a number takes the other's month."""
    if {first, last} <= _PARTS.keys() - {""}:
        (start, _), (after, end) = _PARTS[first], _PARTS[last]
        return _months(year, start, end) if start < after else None
    months = [word for word in f"{first} {last}".split() if _INFO.month(word)]
    begin, close = (_calendar([side, *months] if side.isdecimal() else side.split(), year) for side in (first, last))
    if begin is None or close is None or begin.precision != close.precision or begin.start > close.start:
        return None
    return Period(begin.start, close.end)


def _fiscal(part: str, end: Period | None) -> Period | None:
    """A part of the fiscal year that ends with a day or month."""
    if end is None or part not in _PARTS:
        return None
    first, last = _PARTS[part]
    # Of the last day of February the next is the first of March, whatever the year.
    after = end.end + timedelta(1) - relativedelta(years=1)
    return Period(after + relativedelta(months=first - 1), after + relativedelta(months=last) - timedelta(1))


def _calendar(words: list[str], year: int) -> Period | None:
    """A month or a day of a year, as dateutil reads it."""
    months = [month for word in words if (month := _INFO.month(word))]
    weekdays = [day for word in words if (day := _INFO.weekday(word)) is not None]
    numbers = [word for word in words if word.isdecimal()]
    if len(months) != 1 or len(weekdays) > 1 or len(numbers) > 1 or len(months + weekdays + numbers) < len(words):
        return None
    if not numbers:
        return None if weekdays else _months(year, months[0])
    try:
        day = parse(f"{' '.join(words)} {year}").date()
    except (ValueError, OverflowError):
        return None
    # dateutil takes a year below 100 for one of this century, and passes over a weekday that is wrong.
    if day.year != year or (weekdays and day.weekday() != weekdays[0]):
        return None
    return Period(day, day)


def _months(year: int, first: int, last: int | None = None) -> Period:
    """From the first day of a month to the last of the same or a later one."""
    last = last or first
    return Period(date(year, first, 1), date(year, last, monthrange(year, last)[1]))
