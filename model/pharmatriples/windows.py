"""From text to overlapping windows of pieces, and to the words that the heads see.

The only caller of the tokenizer. A *piece* is a token of the encoder; a *word* is what the heads label, see
`documents.word_spans`, with its character offsets. Letters: `N` words, `T` pieces, `W` windows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from .documents import word_spans
from .layout import line_spans, word_layout

SHAPES = ("lower", "Capital", "UPPER", "single capital", "mIXed", "digits", "lower1", "UPPER1", "CODE001", "sign")
# Widths of batches of windows are multiples of it: a processor's bf16 products are made anew for each shape.
ROUND = 32
# Longest stretch that the tokenizer gets at once: bounds its memory on very long texts.
_STRETCH = 100_000
_SURROGATE = re.compile("[\ud800-\udfff]")
# Numbers as laboratories give them; those in symbols of genes and proteins (CD19, B7-H4) are short.
_CODE_NUMBER = re.compile(r"\d{3}|(?<!\d)0\d")


@dataclass(frozen=True)
class Window:
    """Pieces [start, end) of a document in one window; the states of [core_start, core_end) are taken from it."""

    start: int
    end: int
    core_start: int
    core_end: int


@dataclass(frozen=True)
class EncodedText:
    """A text as the model reads it.

    Attributes:
        text: the text as given.
        offsets: [N, 2] code points of each word, half-open.
        shapes: [N] index into SHAPES; what an uncased encoder does not see.
        gaps: [N] index into GAPS; what stands between the word before and this one.
        sentences: [N] number of the word's sentence; lines: [N] number of its line, blank ones not counted.
        pieces: [T] ids for the encoder, without special tokens.
        piece_words: [T] the word of each piece; -1 for a line break.
        windows: overlapping windows whose cores tile the pieces.
    """

    text: str
    offsets: np.ndarray
    shapes: np.ndarray
    gaps: np.ndarray
    sentences: np.ndarray
    lines: np.ndarray
    pieces: np.ndarray
    piece_words: np.ndarray
    windows: tuple[Window, ...]

    def __len__(self) -> int:
        return len(self.offsets)

    @cached_property
    def folded(self) -> list[str]:
        """[N] the words, case folded."""
        return [self.text[start:end].casefold() for start, end in self.offsets.tolist()]

    @cached_property
    def wordings(self) -> np.ndarray:
        """[N] a number for each word; those that are worded alike, but for their case, have the same."""
        numbers: dict[str, int] = {}
        same = [numbers.setdefault(word, len(numbers)) for word in self.folded]
        return np.array(same, dtype=np.int64)

    def words(self, start: int, end: int) -> tuple[int, int]:
        """First and last word, both inclusive, that a stretch of the text touches; a near one where it touches none."""
        first = min(int(np.searchsorted(self.offsets[:, 1], start, side="right")), max(len(self) - 1, 0))
        return first, max(int(np.searchsorted(self.offsets[:, 0], end, side="left")) - 1, first)


class Windower:
    """Cuts texts into windows for one tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers, or anything else with its `backend_tokenizer`, `sep_token_id` and
            `pad_token_id`.
        window: pieces in a window, special tokens included.
        stride: pieces that neighbouring windows share.
    """

    def __init__(self, tokenizer: Any, window: int, stride: int):
        self.tokenizer = tokenizer
        self.window = window
        self.stride = stride

    @cached_property
    def _cutter(self) -> Tokenizer:
        """A copy of the tokenizer's core: it shares no state, so that several threads can use it."""
        cutter = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        cutter.no_padding()
        cutter.no_truncation()
        cutter.encode_special_tokens = True  # `[SEP]` in a text is a text
        return cutter

    @cached_property
    def _special(self) -> tuple[list[int], list[int]]:
        """Ids of the special tokens before and after the pieces of a window."""
        bare = self._cutter.encode("a", add_special_tokens=False).ids
        whole = self._cutter.encode("a").ids
        for before in range(len(whole) - len(bare) + 1):
            if whole[before : before + len(bare)] == bare:
                return whole[:before], whole[before + len(bare) :]
        raise ValueError(f"{type(self.tokenizer).__name__} does not frame its pieces by special tokens")

    def encode(self, text: str) -> EncodedText:
        """Words, pieces and windows of a text of any length; an empty text has none of them."""
        found: np.ndarray = np.array(word_spans(text), dtype=np.int64).reshape(-1, 2)
        lines = line_spans(text)
        pieces, starts = self._pieces(text, lines)
        real = starts >= 0
        # Words that the tokenizer drops (control characters), or that begin inside a piece of the word before (the full
        # stop in `).`, by byte-level BPE), have no state, so no head may see them. They still end sentences.
        kept, words = np.unique(np.searchsorted(found[:, 0], starts[real], side="right") - 1, return_inverse=True)
        piece_words = np.full(len(pieces), -1, dtype=np.int64)
        piece_words[real] = words
        offsets = found[kept]
        shapes = np.fromiter((_shape(text[a:b]) for a, b in offsets.tolist()), dtype=np.int64, count=len(offsets))
        word_lines = np.searchsorted([start for start, _ in lines], found[:, 0], side="right") - 1
        gaps, sentences, word_lines = (column[kept] for column in (*word_layout(text, found, word_lines), word_lines))
        windows = self._cut(len(pieces))
        return EncodedText(text, offsets, shapes, gaps, sentences, word_lines, pieces, piece_words, windows)

    def _pieces(self, text: str, lines: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """Ids [T] and first characters [T] of the pieces of a text; a line break is one separator, at -1.

        The encoders were trained on running text and drop line breaks; a separator lets them see where a title,
        a heading or a list item ends.
        """
        if not lines:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        clean = _SURROGATE.sub("\ufffd", text)
        stretches = [stretch for start, end in lines for stretch in _stretches(clean, start, end)]
        encoded = self._cutter.encode_batch([clean[start:end] for start, end in stretches], add_special_tokens=False)
        line_starts = {start for start, _ in lines}
        ids: list[int] = []
        starts: list[int] = []
        for (base, _), cut in zip(stretches, encoded, strict=True):
            if ids and base in line_starts:
                ids.append(self.tokenizer.sep_token_id)
                starts.append(-1)
            for id_, (start, stop) in zip(cut.ids, cut.offsets, strict=True):
                # Some tokenizers count the blank before a word into its first piece.
                while start < stop and clean[base + start].isspace():
                    start += 1
                if start < stop:
                    ids.append(id_)
                    starts.append(base + start)
        return np.array(ids, dtype=np.int64), np.array(starts, dtype=np.int64)

    def _cut(self, count: int) -> tuple[Window, ...]:
        before, after = self._special
        content = self.window - len(before) - len(after)
        if content <= self.stride:
            raise ValueError(f"window {self.window} leaves no room beside a stride of {self.stride}")
        if not count:
            return ()
        # As few windows as there must be, all of nearly one length: the least to pad and to read twice.
        number = max(1, -(-(count - self.stride) // (content - self.stride)))
        length = -(-(count + (number - 1) * self.stride) // number)
        starts = [round(i * (count - length) / max(number - 1, 1)) for i in range(number)]
        edges = [0, *((left + length + right) // 2 for left, right in zip(starts, starts[1:], strict=False)), count]
        return tuple(
            Window(start, min(start + length, count), edges[i], edges[i + 1]) for i, start in enumerate(starts)
        )

    def _width(self, length: int) -> int:
        """Pieces in a row of a batch whose longest window has `length` pieces of its text."""
        framed = length + sum(map(len, self._special))
        return min(-(-framed // ROUND) * ROUND, self.window)

    def batch(self, encoded: Sequence[EncodedText], budget: int) -> dict[str, Any]:
        """Arrays for the model's `forward`.

        Windows of all texts are sorted by length and put together up to `budget` padded pieces, so that little is
        padded; `piece_index` restores the order of the texts. Widths are multiples of `ROUND`, or the whole window.

        Returns:
            windows: list of {"input_ids": [w, l], "attention_mask": [w, l], "piece_shapes": [w, l]}; a piece's shape is
                1 + that of its word, 0 for pieces of no word.
            piece_index: [T] place of each piece of a word in the concatenated, flattened windows.
            piece_words: [T] its word, counted over all texts.
            shapes, gaps: [N] over all texts.
            texts: the encoded texts themselves.
        """
        before, after = self._special
        order = sorted(
            ((w.end - w.start, d, i) for d, e in enumerate(encoded) for i, w in enumerate(e.windows)), reverse=True
        )
        batches: list[list[tuple[int, int, int]]] = []
        for item in order:
            if batches and self._width(batches[-1][0][0]) * (len(batches[-1]) + 1) <= budget:
                batches[-1].append(item)
            else:
                batches.append([item])
        piece_base = np.cumsum([0, *(len(e.pieces) for e in encoded)])
        word_base = np.cumsum([0, *(len(e) for e in encoded)])
        piece_index = np.zeros(piece_base[-1], dtype=np.int64)
        windows, flat = [], 0
        for items in batches:
            width = self._width(items[0][0])
            ids = np.full((len(items), width), self.tokenizer.pad_token_id or 0, dtype=np.int64)
            mask, look = np.zeros_like(ids), np.zeros_like(ids)
            for row, (length, d, i) in enumerate(items):
                window = encoded[d].windows[i]
                ids[row, : length + len(before) + len(after)] = [
                    *before,
                    *encoded[d].pieces[window.start : window.end],
                    *after,
                ]
                mask[row, : length + len(before) + len(after)] = 1
                words = encoded[d].piece_words[window.start : window.end]
                look[row, len(before) : len(before) + length] = np.where(words >= 0, 1 + encoded[d].shapes[words], 0)
                core = np.arange(window.core_start, window.core_end)
                piece_index[piece_base[d] + core] = flat + row * width + len(before) + core - window.start
            windows.append({"input_ids": ids, "attention_mask": mask, "piece_shapes": look})
            flat += ids.size
        own = np.concatenate([e.piece_words for e in encoded] or [piece_index])
        piece_words = own + np.repeat(word_base[:-1], np.diff(piece_base))
        return {
            "windows": windows,
            "piece_index": piece_index[own >= 0],
            "piece_words": piece_words[own >= 0],
            "shapes": np.concatenate([e.shapes for e in encoded] or [piece_index]),
            "gaps": np.concatenate([e.gaps for e in encoded] or [piece_index]),
            "texts": list(encoded),
        }


@lru_cache(maxsize=2**16)
def _shape(word: str) -> int:
    if not word[0].isalnum():
        return SHAPES.index("sign")
    letters = [c for c in word if not c.isdigit()]
    digits = len(letters) < len(word)
    if not letters:
        return SHAPES.index("digits")
    if digits:
        if not any(c.isupper() for c in letters):
            return SHAPES.index("lower1")
        return SHAPES.index("CODE001" if _CODE_NUMBER.search(word) else "UPPER1")
    upper = sum(c.isupper() for c in letters)
    if upper == 0:
        return SHAPES.index("lower")
    if upper == len(letters):
        return SHAPES.index("UPPER" if upper > 1 else "single capital")
    return SHAPES.index("Capital" if upper == 1 and letters[0].isupper() else "mIXed")


def _stretches(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A line in parts that the tokenizer gets one by one, cut before blanks."""
    while end - start > _STRETCH:
        blank = text.rfind(" ", start + 1, start + _STRETCH)
        cut = blank if blank > start else start + _STRETCH
        yield start, cut
        start = cut
    yield start, end
