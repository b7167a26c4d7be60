"""Windows: every text is read whole, with offsets that hold, whatever is in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pharmatriples.layout import GAPS, sentence_spans
from pharmatriples.windows import SHAPES, Windower
from tiny import tiny_tokenizer
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import BertProcessing
from transformers import PreTrainedTokenizerFast

WINDOWER = Windower(tiny_tokenizer(), window=32, stride=8)


@given(st.text(st.characters(codec=None), max_size=300))
@settings(max_examples=200, deadline=None)
def test_words_and_windows_of_any_text_are_in_order_and_tile_it(text: str) -> None:
    encoded = WINDOWER.encode(text)
    assert all(0 <= a < b <= len(text) for a, b in encoded.offsets)
    assert (np.diff(encoded.offsets.reshape(-1)) >= 0).all()
    cores = [p for w in encoded.windows for p in range(w.core_start, w.core_end)]
    assert cores == list(range(len(encoded.pieces)))
    for window in encoded.windows:
        assert window.start <= window.core_start < window.core_end <= window.end
        assert window.end - window.start <= 30
    assert sorted(set(encoded.piece_words.tolist()) - {-1}) == list(range(len(encoded)))


def test_a_piece_belongs_to_the_word_that_it_stands_in() -> None:
    text = "BAT4406F for\r\nNMOSD 😀 anti-CD20"
    encoded = WINDOWER.encode(text)
    assert [text[a:b] for a, b in encoded.offsets] == ["BAT4406F", "for", "NMOSD", "😀", "anti", "-", "CD20"]
    pieces = WINDOWER.tokenizer.convert_ids_to_tokens(encoded.pieces)
    assert [p for p, w in zip(pieces, encoded.piece_words, strict=True) if w == 6] == ["c", "##d", "##2", "##0"]


def test_a_windows_neighbour_shares_the_stride_and_each_piece_is_taken_where_it_has_context() -> None:
    encoded = WINDOWER.encode("the nda " * 60)
    for left, right in zip(encoded.windows, encoded.windows[1:], strict=False):
        assert left.end - right.start >= 8
        assert left.core_end - right.start >= 4
        assert left.end - left.core_end >= 4


def test_lengths_of_the_windows_of_a_text_are_nearly_equal() -> None:
    lengths = [w.end - w.start for w in WINDOWER.encode("the nda " * 17).windows]
    assert len(lengths) == 2
    assert max(lengths) - min(lengths) <= 1


def test_a_batch_brings_each_piece_back_to_its_place() -> None:
    encoded = [WINDOWER.encode(text) for text in ("the nda\n" * 50, "", "fda", "acme said that " * 9)]
    batch = WINDOWER.batch(encoded, budget=64)
    flat = np.concatenate([w["input_ids"].reshape(-1) for w in batch["windows"]])
    wanted = [p for e in encoded for p, w in zip(e.pieces.tolist(), e.piece_words.tolist(), strict=True) if w >= 0]
    assert flat[batch["piece_index"]].tolist() == wanted
    assert len(batch["shapes"]) == sum(map(len, encoded))
    assert all(w["input_ids"].size <= 64 for w in batch["windows"])
    assert all((w["attention_mask"].sum(1) > 2).all() for w in batch["windows"])


def test_a_batch_has_few_widths_and_keeps_to_its_budget_and_to_the_window() -> None:
    windower = Windower(tiny_tokenizer(), window=80, stride=8)
    encoded = [windower.encode("nda " * count) for count in range(1, 100)]
    shapes = [w["input_ids"].shape for w in windower.batch(encoded, budget=128)["windows"]]
    assert {width for _, width in shapes} == {32, 64, 80}
    assert all(rows * width <= 128 for rows, width in shapes)


def test_a_full_stop_inside_a_piece_of_the_word_before_still_ends_its_sentence() -> None:
    """Byte-level BPE makes one piece of `).`; the second word in it has no state of its own."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["(a). (a). (a)."] * 9, vocab_size=300, min_frequency=2, special_tokens=["<s>", "</s>"])
    framed = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, bos_token="<s>", eos_token="</s>", sep_token="</s>", pad_token="</s>"
    )
    framed.backend_tokenizer.post_processor = BertProcessing(("</s>", 1), ("<s>", 0))
    text = "Nda (a). Nda."
    encoded = Windower(framed, 32, 8).encode(text)
    assert [text[a:b] for a, b in encoded.offsets] == ["Nda", "(", "a", ")", "Nda", "."]
    assert encoded.sentences.tolist() == [0, 0, 0, 0, 1, 1]


def test_special_tokens_in_a_text_are_text() -> None:
    encoded = WINDOWER.encode("a [SEP] b")
    assert WINDOWER.tokenizer.sep_token_id not in encoded.pieces.tolist()
    assert len(encoded) == 5


@pytest.mark.parametrize(
    ("word", "shape"),
    [
        ("drug", "lower"),
        ("Acme", "Capital"),
        ("NMPA", "UPPER"),
        ("A", "single capital"),
        ("mAb", "mIXed"),
        ("2025", "digits"),
        ("q3", "lower1"),
        ("HS20089", "CODE001"),
        ("BT02", "CODE001"),
        ("KXBS001", "CODE001"),
        ("B7-H4", "UPPER1"),
        ("10mg", "lower1"),
        ("(", "sign"),
    ],
)
def test_the_shape_of_a_word(word: str, shape: str) -> None:
    assert SHAPES[WINDOWER.encode(word).shapes[0]] == shape


def test_sentences_lines_and_gaps() -> None:
    encoded = WINDOWER.encode("Acme Inc. said so. It is true\nThe end\r\n\r\nx")
    words = [encoded.text[a:b] for a, b in encoded.offsets]
    by_word = dict(zip(words, encoded.sentences.tolist(), strict=True))
    assert by_word["said"] == by_word["Acme"]  # Inc. ends no sentence
    assert by_word["It"] == by_word["so"] + 1
    assert by_word["The"] == by_word["true"] + 1
    gaps = [GAPS[g] for g in encoded.gaps]
    assert (gaps[words.index("The")], gaps[words.index("x")], gaps[words.index("said")]) == (
        "line",
        "paragraph",
        "blank",
    )
    assert encoded.lines.tolist()[-1] == 2


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Acme Inc. said so. It is true!  Yes.", ["Acme Inc. said so.", "It is true!", "Yes."]),
        ("Filed with the FDA. The NDA. A U.S. Patent", ["Filed with the FDA.", "The NDA.", "A U.S. Patent"]),
        ("\n One\n\n\n two 3.5 mg. \r\n", ["One", "two 3.5 mg."]),
        ('He said "so." Then (yes.) Now', ['He said "so."', "Then (yes.)", "Now"]),
        (
            'It is. "We are glad," said Lee. He left. (Nasdaq: X) rose. “Good.” Yes.',
            ["It is.", '"We are glad," said Lee.', "He left.", "(Nasdaq: X) rose.", "“Good.”", "Yes."],
        ),
        (
            "In May. For hepatitis B. By John A. Lee at 8 a.m. EDT.",
            ["In May.", "For hepatitis B.", "By John A. Lee at 8 a.m. EDT."],
        ),
        (" ", []),
        ("", []),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


def test_the_encoder_sees_where_a_line_ends() -> None:
    encoded = WINDOWER.encode("\nnda\r\n \n\nfda in\nacme")
    assert WINDOWER.tokenizer.convert_ids_to_tokens(encoded.pieces) == ["nda", "[SEP]", "fda", "in", "[SEP]", "acme"]
    assert encoded.piece_words.tolist() == [0, -1, 1, 2, -1, 3]


def test_a_text_that_was_wrapped_to_a_column_is_unwrapped_and_a_list_is_not() -> None:
    wrapped = "Acme\n\n" + "the nda is accepted by\r\nthe fda and by the\r\nema in its second\r\nreview of acme"
    encoded = WINDOWER.encode(wrapped)
    assert encoded.lines.tolist() == [0] + [1] * 17
    items = WINDOWER.encode("- one\n- two and some more words\n- three\n- four")
    assert sorted(set(items.lines.tolist())) == [0, 1, 2, 3]


def test_a_stride_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="stride of 30"):
        Windower(tiny_tokenizer(), window=32, stride=30).encode("the nda")


def test_a_very_long_text_is_tokenized_in_stretches_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "acme said that 😀 ACM-101 is approved\r\n" * 40
    whole = WINDOWER.encode(text)
    monkeypatch.setattr("pharmatriples.windows._STRETCH", 100)
    parts = WINDOWER.encode(text)
    assert parts.pieces.tolist() == whole.pieces.tolist()
    assert parts.offsets.tolist() == whole.offsets.tolist()
