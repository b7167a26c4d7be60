"""Where the lines and sentences of a text are: for the features of the model and for the evidence of a record."""

from __future__ import annotations

import re

import numpy as np

from .documents import word_spans

GAPS = ("none", "blank", "line", "paragraph")
_BREAK = re.compile(r"\r\n|\r|\n")
_ITEM = re.compile(r"\s*([-–—•*·]|\(?\w{1,3}[.)])\s")  # the beginning of a list item
_COLUMN = 120  # characters of the longest line of a text that is taken to be wrapped
_CLOSING = "\"'”’)]"
_OPENING = "\"'“‘(["
# Before a full stop that ends no sentence. One letter is of this kind after another (U.S., a.m.) and in a name (John A.
# Smith), but not in `hepatitis B.`
_ABBREVIATION = re.compile(
    "Inc|Ltd|Co|Corp|Dr|Mr|Mrs|Ms|Prof|No|Nos|St|vs|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec"
)


def line_spans(text: str) -> list[tuple[int, int]]:
    """Offsets of the lines that are not blank; a text that was wrapped to a narrow column is unwrapped."""
    edges = [0, *(edge for match in _BREAK.finditer(text) for edge in match.span()), len(text)]
    raw = list(zip(edges[::2], edges[1::2], strict=True))
    filled = [(start, end) for start, end in raw if end > start and not text[start:end].isspace()]
    lengths = sorted(end - start for start, end in filled)
    wrapped = len(filled) >= 4 and lengths[-1] <= _COLUMN and lengths[len(lengths) // 2] >= lengths[-1] * 2 / 3
    lines: list[tuple[int, int]] = []
    last = None  # the raw line before, where it is not blank
    for start, end in raw:
        blank = end == start or text[start:end].isspace()
        goes_on = wrapped and last is not None and last[1] - last[0] >= lengths[-1] * 2 / 3
        if not blank and goes_on and not _ITEM.match(text, start):
            lines[-1] = (lines[-1][0], end)
        elif not blank:
            lines.append((start, end))
        last = None if blank else (start, end)
    return lines


def word_layout(text: str, offsets: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gap before [N] and sentence [N] of each word; `lines` [N] are their lines."""
    gaps = np.zeros(len(offsets), dtype=np.int64)
    sentences = np.zeros(len(offsets), dtype=np.int64)
    sentence = last_end = 0
    last_line = -1
    ended = False  # a full stop stands between the last word of letters and here
    earlier = before = ""  # the last two such words
    for i, ((start, end), line) in enumerate(zip(offsets.tolist(), lines.tolist(), strict=True)):
        between, word = text[last_end:start], text[start:end]
        if line != last_line:
            gaps[i] = 3 if len(_BREAK.findall(between)) > 1 else 2
        else:
            gaps[i] = int(bool(between))
        first = text[end : end + 1] if word in _OPENING else word[0]
        if i and (line != last_line or (ended and between and (first.isupper() or first.isdigit()))):
            sentence += 1
            ended = False
        if word in ".!?":
            initial = (
                len(before) == 1 and before.isalpha() and (earlier.istitle() or text[start - 2 : start - 1] == ".")
            )
            ended = word != "." or not (initial or _ABBREVIATION.fullmatch(before))
        elif word not in _CLOSING:
            ended, earlier, before = False, before, word
        sentences[i] = sentence
        last_end, last_line = end, line
    return gaps, sentences


def sentence_spans(text: str) -> np.ndarray:
    """[S, 2] code points of the sentences, from the first word of each to its last."""
    offsets: np.ndarray = np.array(word_spans(text), dtype=np.int64).reshape(-1, 2)
    if not len(offsets):
        return offsets
    lines = np.searchsorted([start for start, _ in line_spans(text)], offsets[:, 0], side="right") - 1
    first = np.flatnonzero(np.diff(word_layout(text, offsets, lines)[1], prepend=-1))
    return np.stack([offsets[first, 0], offsets[np.append(first[1:], len(offsets)) - 1, 1]], axis=1)
