"""Offsets of Label Studio, put right: units of old exports, and the blanks and brackets that a hand drags along."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .documents import unmatched_brackets

Span = tuple[int, int]

# The server writes a line break in `value.text` as these two signs.
BREAK = "\\n"


def trimmed(text: str, start: int, end: int) -> Span:
    """The span without blanks at its ends, nor brackets there whose other half is outside of it.

    It is empty where nothing else is in it.
    """
    single = {start + place for place in unmatched_brackets(text[start:end])}
    while start < end and (text[start].isspace() or start in single):
        start += 1
    while start < end and (text[end - 1].isspace() or end - 1 in single):
        end -= 1
    return start, end


def agrees(words: str, given: str) -> bool:
    """Whether `value.text` can be these words of the text: it collapses blanks and spells line breaks out."""
    return _bare(words) == _bare(given)


def _bare(text: str) -> str:
    return re.sub(r"[\W_]", "", text.replace(BREAK, ""))


class Utf16Text:
    """A text whose offsets may count UTF-16 units, as those of exports of years ago do."""

    def __init__(self, text: str):
        self.text = text
        self._places: dict[int, int] = {}  # UTF-16 unit -> code point
        unit = 0
        for place, sign in enumerate(text):
            self._places[unit] = place
            unit += 2 if ord(sign) > 0xFFFF else 1
        self._places[unit] = len(text)

    def span(self, start: int, end: int) -> Span | None:
        """The span in code points; None where an end is outside the text, or in the middle of a character."""
        if start not in self._places or end not in self._places:
            return None
        return self._places[start], self._places[end]


def utf16_text(text: str, spans: Iterable[tuple[int, int, str]], unsure: Utf16Text | None = None) -> Utf16Text | None:
    """A converter of offsets where the spans (start, end, `value.text`) count UTF-16 units, else None.

    They do where some agree with their `value.text` only as UTF-16 units, and none only as code points; where no
    span tells, it is `unsure`.
    """
    if text.isascii() or max(text) <= "\uffff":
        return None
    converter = Utf16Text(text)
    found = False
    for start, end, given in spans:
        in_units = converter.span(start, end)
        fits_units = in_units is not None and agrees(text[in_units[0] : in_units[1]], given)
        fits_points = 0 <= start <= end <= len(text) and agrees(text[start:end], given)
        if fits_points and not fits_units:
            return None
        found = found or (fits_units and not fits_points)
    return converter if found else unsure
