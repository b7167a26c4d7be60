from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import browser as browser  # a fixture
from pharmatriples.calibration import calibration
from pharmatriples.confidence import Confidence
from pharmatriples.documents import Document, Mention, Relation
from pharmatriples.report import render_report, write_report
from test_page import TEXT, Page
from tiny import SCHEMA, acme

APPROVED = {"event_type": "approval", "status": "occurred"}
HISTORY = '{"history": [{"epoch": 1.0, "eval_records_f1": 0.5}, {"epoch": 2.0, "eval_records_f1": 0.6}]}'


def mention(wording: str, type_: str, entity: str, **attributes: str) -> Mention:
    start = TEXT.index(wording)
    return Mention(start, start + len(wording), type_, entity, attributes)


GOLD = Document(
    '<script>"id"',
    TEXT,
    (mention("<script>", "TARGET", "t"), mention("ABC-1", "DRUG", "d"), mention("approved", "EVENT", "e", **APPROVED)),
    (Relation("targets", "d", "t"), Relation("event_drug", "e", "d")),
)
PREDICTED = replace(
    GOLD,
    mentions=(
        replace(mention("<b>", "TARGET", "x"), score=0.6),
        mention("ABC-1", "DRUG", "d"),
        mention("approved", "EVENT", "e", event_type="approval", status="expected"),
    ),
    relations=(Relation("targets", "d", "x", 0.7), Relation("event_drug", "e", "d", 0.9)),
)


def report(gold: Document = GOLD, predicted: Document = PREDICTED) -> Page:
    return Page(render_report([gold], [predicted], SCHEMA, title="<i>T</i>"))


def errors(page: Page) -> list[dict[str, str | None]]:
    return [row for row in page.attributes("tr") if "data-group" in row]


class TestTexts:
    def test_gold_and_predicted_stand_side_by_side_line_by_line(self) -> None:
        sides = report().texts("div", "side")
        shown = TEXT.replace("\0", "\ufffd")
        assert "".join(sides[::2]) == "".join(sides[1::2]) == shown
        assert len(sides) == 2 * len(shown.splitlines())

    def test_nothing_in_a_release_becomes_an_element(self) -> None:
        page, plain = report(), report(acme(), acme())
        for tag in ("script", "textarea", "b", "i", "img"):
            more = len(errors(page)) if tag == "b" else 0  # each row has its place in bold
            assert len(page.attributes(tag)) == len(plain.attributes(tag)) + more

    def test_a_mention_of_one_side_is_a_ghost_on_the_other(self) -> None:
        marks = [m for m in report().attributes("mark") if m.get("data-error")]
        kinds = sorted((m["data-error"], "ghost" in (m["class"] or "")) for m in marks)
        assert kinds == sorted(
            [("missed", False), ("missed", True), ("spurious", False), ("spurious", True), ("status", False)]
            + [("status", False)]
        )

    def test_a_mention_over_the_end_of_a_line_is_marked_in_both(self) -> None:
        document = Document("a", "one\ntwo", (Mention(1, 5, "DRUG", "x"),))
        assert report(document, document).texts("mark") == ["ne\n", "ne\n", "t", "t"]


class TestErrors:
    def test_each_error_is_a_row_that_names_its_places(self) -> None:
        rows = errors(report())
        assert [row["data-group"] for row in rows] == [
            "mention: missed", "mention: spurious", "attribute: status", "relation: wrong argument", "record: wrong",
        ]  # fmt: skip
        start = TEXT.index("<script>")
        assert rows[0]["data-places"] == f"{start}-{start + 8}"
        assert rows[3]["data-follows"] == "missed, spurious"

    def test_groups_are_counted_at_the_top(self) -> None:
        page = report()
        buttons = [b for b in page.attributes("button") if b.get("data-group")]
        assert {b["data-group"] for b in buttons} == {row["data-group"] for row in errors(page)}
        assert "1 release, 5 errors" in page.texts("p")

    def test_two_equal_documents_have_no_errors_but_their_relations(self) -> None:
        page = report(GOLD, GOLD)
        assert errors(page) == []
        assert page.texts("td", "what") == ["✓"] * 3

    def test_nothing_is_fetched_from_elsewhere(self) -> None:
        source = render_report([GOLD], [PREDICTED], SCHEMA, pictures={"A plot": b"png"})
        assert not re.search(r"https?://|url\(|@import|<link", source)
        assert re.findall(r' src="([^"]{5})', source) == ["data:"]


class TestFiles:
    def write(self, folder: Path, model: Path) -> list[str]:
        calibrated = calibration([GOLD], [PREDICTED], SCHEMA, Confidence())
        return write_report(folder, model, [GOLD], [PREDICTED], SCHEMA, calibrated)

    def test_the_folder_holds_the_page_and_both_plots(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib", reason="no matplotlib; pip install -e '.[dev]'")
        (tmp_path / "training.json").write_text(HISTORY)
        told = self.write(tmp_path / "a" / "report", tmp_path)
        assert told == [f"report: {tmp_path / 'a' / 'report' / 'report.html'}"]
        for name in ("calibration.png", "learning_curve.png"):
            assert (tmp_path / "a" / "report" / name).read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize("record", ["{}", "no JSON", None])
    def test_a_run_without_a_history_has_no_learning_curve_and_says_so(
        self, record: str | None, tmp_path: Path
    ) -> None:
        if record is not None:
            (tmp_path / "training.json").write_text(record)
        told = self.write(tmp_path, tmp_path)
        assert "holds no history of evaluations" in told[0]
        assert not (tmp_path / "learning_curve.png").exists()

    def test_without_matplotlib_the_page_is_there_and_a_line_says_what_to_install(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        (tmp_path / "training.json").write_text(HISTORY)
        told = self.write(tmp_path, tmp_path)
        assert told[0] == "plots need matplotlib; run: pip install 'pharmatriples[report]'"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "training.json"]

    def test_half_a_surrogate_pair_is_written(self, tmp_path: Path) -> None:
        odd = Document("a", "x \ud83d y")
        write_report(tmp_path, tmp_path, [odd], [odd], SCHEMA, {})
        assert "x &#55357; y" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_in_a_browser_errors_are_sorted_filtered_and_lead_to_their_place(browser: Any, tmp_path: Path) -> None:
    faults: list[str] = []
    page = browser.new_page(color_scheme="dark")
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: faults.append(dialog.message))
    (tmp_path / "report.html").write_text(render_report([GOLD], [PREDICTED], SCHEMA), encoding="utf-8")
    page.goto((tmp_path / "report.html").as_uri())
    groups = page.locator("#errors tbody tr:visible td:nth-child(2)")
    in_text = groups.all_inner_texts()

    header = page.locator("#errors th", has_text="Group")
    header.get_by_role("button").click()
    assert groups.all_inner_texts() == sorted(in_text)
    header.get_by_role("button").click()
    assert groups.all_inner_texts() == sorted(in_text, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"

    page.locator("select[name=type]").select_option("TARGET")
    assert sorted(groups.all_inner_texts()) == ["mention: missed", "mention: spurious"]
    assert page.locator("output").inner_text() == "2 of 5"
    page.get_by_role("button", name="Clear").click()
    page.locator("#groups").get_by_role("button", name="mention: missed").click()
    assert groups.all_inner_texts() == ["mention: missed"]

    page.keyboard.press("Enter")  # the button has led to the first of its errors
    assert page.locator("mark.lit").all_inner_texts() == ["<script>"] * 2
    assert page.evaluate("document.activeElement.textContent") == "<script>"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.dataset.group") == "mention: missed"
    page.get_by_role("button", name="Clear").click()
    page.locator("#errors tbody tr:visible").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.previousElementSibling !== null")
    assert faults == []
