from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from pharmatriples.page import render_page

TYPES = ["DRUG", "TARGET", "EVENT"]
TEXT = (
    "\n <script>alert(1)</script></textarea></div> said 'CD19' & \"more\"\r\n\r\n"
    "שלום ABC-1 אושר\x00 😀 was approved.\n  ABC-1 <b>again</b>"
)


def entity(id_: str, type_: str, wording: str, **attributes: str) -> dict[str, Any]:
    mentions = [
        {"start": match.start(), "end": match.end(), "text": wording, "score": 0.98}
        for match in re.finditer(re.escape(wording), TEXT)
    ]
    return {"id": id_, "type": type_, "name": wording, "score": 0.98, **attributes, "mentions": mentions}


def result(id_: str = "a", text: str = TEXT) -> dict[str, Any]:
    entities = [
        entity("EVENT-1", "EVENT", "approved", event_type="approval", status="occurred"),
        entity("T", "TARGET", "<script>"),
        entity('D "1"<', "DRUG", "ABC-1"),
    ]
    record = {
        **{"drug": "ABC-1", "targets": ["<script>"], "indications": ["gout</td>"], "event": "approval"},
        **{"status": "occurred", "trigger": "approved", "organizations": [], "score": 0.931},
        "dates": ["Q3 <2025>", "2024", "FY26"],
        "dates_iso": [
            {"iso": "2025-07/2025-09", "precision": "quarter", "start": "2025-07-01", "end": "2025-09-30"},
            {"iso": "2024", "precision": "year", "start": "2024-01-01", "end": "2024-12-31"},
            None,
        ],
        "evidence": {"start": 0, "end": 1, "text": ""},
        "entity_ids": {
            **{"drug": 'D "1"<', "targets": ["T"], "indications": [], "event": "EVENT-1"},
            **{"organizations": [], "dates": []},
        },
    }
    return {"id": id_, "text": text, "entities": entities, "relations": [], "records": [record]}


def empty(id_: str, text: str = "") -> dict[str, Any]:
    return {"id": id_, "text": text, "entities": [], "relations": [], "records": []}


class Page(HTMLParser):
    """What a browser would make of the page: elements with their attributes and their text."""

    VOID = frozenset({"meta", "link", "img", "br", "input"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[int] = []
        self.feed(source)
        self.close()
        assert not self._open, "an element is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs), []))
        if tag not in self.VOID:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for index in self._open:
            self.elements[index][2].append(data)

    def texts(self, tag: str, class_: str = "") -> list[str]:
        return [
            "".join(text)
            for name, attributes, text in self.elements
            if name == tag and class_ in ("", *(attributes.get("class") or "").split())
        ]

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes, _ in self.elements if name == tag]


class TestText:
    def test_the_text_stands_there_as_it_is_with_its_mentions_marked(self) -> None:
        page = Page(render_page([result()], TYPES))
        assert page.texts("div", "text") == [TEXT.replace("\0", "\ufffd")]
        assert page.texts("mark") == ["<script>", "ABC-1", "approved", "ABC-1"]

    def test_nothing_in_a_release_becomes_an_element(self) -> None:
        page, other = Page(render_page([result()], TYPES)), Page(render_page([empty("x")], TYPES))
        for tag in ("script", "textarea", "b", "img"):
            assert len(page.attributes(tag)) == len(other.attributes(tag)) <= 1

    def test_ids_and_names_are_escaped_too(self) -> None:
        hostile = result('<script>"</section>')
        hostile["entities"][2]["name"] = '"><img src=x>'
        page = Page(render_page([hostile, empty("<b>")], ['<"TYPE">']))
        assert page.texts("h2")[0].startswith('<script>"</section>')
        assert "img" not in [name for name, *_ in page.elements]

    def test_a_tooltip_tells_name_attributes_and_score(self) -> None:
        titles = [mark["title"] for mark in Page(render_page([result()], TYPES)).attributes("mark")]
        assert "EVENT · approved · event_type: approval · status: occurred · score 0.98" in titles
        assert "DRUG · ABC-1 · score 0.98" in titles

    def test_an_empty_text_is_an_empty_release(self) -> None:
        page = Page(render_page([empty("x")], TYPES))
        assert page.texts("div", "text") == [""]
        assert page.texts("p", "soft") == ["No records."]


class TestRecords:
    def test_a_record_is_a_row(self) -> None:
        cells = Page(render_page([result()], TYPES)).texts("td")
        dates = "Q3 <2025>2025-07/2025-092024FY26"  # the wording and, where it is another, ISO 8601
        assert cells == ["ABC-1", "<script>", "gout</td>", "approval, occurredapproved", "", dates, "0.93"]

    def test_a_row_names_the_marks_of_its_entities_and_leads_to_its_event(self) -> None:
        page = Page(render_page([empty("first"), result()], TYPES))
        marks = page.attributes("mark")
        (row,) = [attributes for attributes in page.attributes("tr") if "data-entities" in attributes]
        assert {mark["data-entities"] for mark in marks} == set((row["data-entities"] or "").split())
        event = next(mark for mark in marks if "approved" in (mark["title"] or ""))
        assert row["data-anchor"] == event["id"]
        assert f"#{event['id']}" in [link["href"] for link in page.attributes("a")]

    def test_a_record_without_a_drug_has_an_empty_cell(self) -> None:
        one = result()
        one["records"][0]["drug"] = one["records"][0]["entity_ids"]["drug"] = None
        assert Page(render_page([one], TYPES)).texts("td", "drug") == [""]


class TestPage:
    def test_a_release_that_could_not_be_read_says_why(self) -> None:
        page = Page(render_page([{"id": "a", "error": "<not> UTF-8"}, result()], TYPES))
        assert page.texts("p", "soft") == ["<not> UTF-8"]
        assert "2 releases, 1 record" in page.texts("p")

    def test_many_releases_have_an_index_and_one_has_none(self) -> None:
        page = Page(render_page([result("a"), empty("b", "\n\n The title \nmore")], TYPES))
        (nav,) = page.texts("nav")
        assert "The title" in nav
        sections = [f"#{section['id']}" for section in page.attributes("section")]
        assert [link["href"] for link in page.attributes("a")][:2] == sections
        assert Page(render_page([result()], TYPES)).texts("nav") == []

    def test_ids_are_unique_however_releases_and_entities_are_named(self) -> None:
        page = Page(render_page([result("same"), result("same")], TYPES))
        ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
        assert len(ids) == len(set(ids)) == 2 * (1 + 4)

    def test_the_legend_gives_each_type_the_colour_of_its_marks(self) -> None:
        page = Page(render_page([result()], ["DRUG", "EVENT"]))
        legend = {"".join(text): attributes["class"] for name, attributes, text in page.elements if name == "li"}
        assert list(legend) == ["DRUG", "EVENT", "TARGET"]
        for mark in page.attributes("mark"):
            assert mark["class"] == legend[(mark["title"] or "").split(" · ")[0]]

    def test_nothing_is_fetched_from_elsewhere(self) -> None:
        source = render_page([result()], TYPES)
        page = Page(source)
        assert not re.search(r"https?://|url\(|@import", source)
        assert not [attributes for _, attributes, _ in page.elements if "src" in attributes]
        assert not page.attributes("link")

    def test_no_releases_are_a_page_that_says_so(self) -> None:
        assert "0 releases, 0 records" in Page(render_page([], TYPES)).texts("p")


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no chromium here: the page is not looked at in a browser")
def test_a_browser_shows_the_page_and_a_click_on_a_record_outlines_its_mentions(tmp_path: Path) -> None:
    click = "document.querySelector('tbody tr').click(); document.title = String(document.scripts.length)"
    source = render_page([result()], TYPES).replace("</body>", f"<script>{click}</script></body>")
    file = tmp_path / "page.html"
    file.write_text(source, encoding="utf-8")
    flags = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    flags += ["disable-component-update", "disable-sync", f"user-data-dir={tmp_path / 'profile'}", "dump-dom"]
    shown = subprocess.run(
        [BROWSER, *(f"--{flag}" for flag in flags), file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    page = Page(shown)
    assert page.texts("title") == ["2"], "a script of the text has run, or ours has not"
    assert page.texts("mark", "lit") == ["<script>", "ABC-1", "approved", "ABC-1"]
    assert page.texts("div", "text") == [TEXT.replace("\0", "\ufffd").replace("\r\n", "\n")]
