"""Dates: wordings to ISO 8601, and the dateline of a release."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pharmatriples.dates import DateError, Period, as_date, dateline, normalized

RELEASE = date(2025, 3, 3)

NAMED = {
    # days
    "Feb 26, 2025": "2025-02-26",
    "Feb. 26, 2025": "2025-02-26",
    "26 February 2025": "2025-02-26",
    "Sept.  04, 2025": "2025-09-04",
    "May 1,2025": "2025-05-01",
    "28th of November 2025": "2025-11-28",
    "Thursday, May 8, 2025": "2025-05-08",
    "2025-02-26": "2025-02-26",
    "2025/11/20": "2025-11-20",
    "2025.08.12": "2025-08-12",
    "28/02/2025": "2025-02-28",
    "02-28-2025": "2025-02-28",
    "05/05/2025": "2025-05-05",
    "29 February 2028": "2028-02-29",
    # months
    "September 2023": "2023-09",
    "JUNE, 2019": "2019-06",
    "2021.06": "2021-06",
    "2021-06": "2021-06",
    "2024/02": "2024-02",
    "02/2024": "2024-02",
    "2.2024": "2024-02",
    "Dec '26": "2026-12",
    "Sept. ’26": "2026-09",
    "March 15, ’26": "2026-03-15",
    "end of July 2025": "2025-07",
    "mid-December 2027": "2027-12",
    "late August 2026": "2026-08",
    # years
    "2018": "2018",
    "1885": "1885",
    "Full-Year 2024": "2024",
    "calendar year 2026": "2026",
    "Fourth Quarter and Full Year 2026": "2026",
    # quarters and halves
    "Q3 2025": "2025-07/2025-09",
    "4Q 2026": "2026-10/2026-12",
    "3Q27": "2027-07/2027-09",
    "Q1'26": "2026-01/2026-03",
    "Q1 ‘24": "2024-01/2024-03",
    "Q4 CY2026": "2026-10/2026-12",
    "fourth quarter of calendar year 2026": "2026-10/2026-12",
    "2026 Q3": "2026-07/2026-09",
    "2026/Q3": "2026-07/2026-09",
    "Q1-Q2 2026": "2026-01/2026-06",
    "1Q–3Q 2026": "2026-01/2026-09",
    "Q3/Q4 2026": "2026-07/2026-12",
    "Q2 or Q3 of 2026": "2026-04/2026-09",
    "early to mid-2026": "2026-01/2026-09",
    "mid-to-late 2026": "2026-04/2026-12",
    "third quarter of 2025": "2025-07/2025-09",
    "FIRST QUARTER OF 2026": "2026-01/2026-03",
    "2nd quarter 2026": "2026-04/2026-06",
    "March quarter of 2027": "2027-01/2027-03",
    "end of the second quarter of 2026": "2026-04/2026-06",
    "1H26": "2026-01/2026-06",
    "H2 2025": "2025-07/2025-12",
    "second-half 2025": "2025-07/2025-12",
    "2026, second half": "2026-07/2026-12",
    # parts of a year
    "early 2025": "2025-01/2025-06",
    "late in 2025": "2025-07/2025-12",
    "start of 2027": "2027-01/2027-03",
    "year-end 2025": "2025-10/2025-12",
    "end of 2026": "2026-10/2026-12",
    "end of calendar year 2026": "2026-10/2026-12",
    "first nine months of 2025": "2025-01/2025-09",
    "mid-2026": "2026-04/2026-09",
    "mid-’26": "2026-04/2026-09",
    "mid‑2026": "2026-04/2026-09",
    "spring 2026": "2026-03/2026-06",
    "fall of 2026": "2026-09/2026-12",
    # from one day or month to another
    "October 23 to 27, 2026": "2026-10-23/2026-10-27",
    "8–11 December 2025": "2025-12-08/2025-12-11",
    "October 30 - November 2, 2026": "2026-10-30/2026-11-02",
    "January to June 2025": "2025-01/2025-06",
    "January–September 2025": "2025-01/2025-09",
    "week of June 10th 2024": "2024-06-10/2024-06-16",
    # a hyphen after a part says no more than a blank
    "early-Q4 2026": "2026-10/2026-12",
    "mid-Q3 2026": "2026-07/2026-09",
    "late-H2 2026": "2026-07/2026-12",
    "mid-fourth quarter 2026": "2026-10/2026-12",
    "early-mid 2026": "2026-01/2026-09",
    "8-December 2025": "2025-12-08",
    "2010-11": "2010-11",
    # fiscal years whose end is told
    "fiscal year ending March 31, 2026": "2025-04/2026-03",
    "fiscal year ending September 2026": "2025-10/2026-09",
    "second quarter of the fiscal year ending March 31, 2026": "2025-07/2025-09",
    "financial year ended 28 February 2025": "2024-03/2025-02",
}

UNSURE = [
    *("end of the", "first half of", "early", "Mid", "end"),
    *("early-fall 2026", "1–3 months", "1-6 months", "2010–11", "2011–12", "4Q98", "1H97"),
    *("05/06/2025", "26/02/25", "2025/26", "2011/12", "2025-13", "2025-02-30", "February 30, 2025", "May 45, 2025"),
    *("Mar-26", "Sept.-27", "December '98", "half of the year FY '26"),
    *("FY2025", "fiscal 2026", "Q2 FY26", "second half of fiscal 2026", "FY 2027-28", "end of FY27"),
    *("winter 2026", "summer of 2029/30", "turn of the year 2026/27", "end of the decade", "annual results 2025"),
    *(
        "17th",
        "end of the",
        "first half of",
        "early",
        "Mid",
        "today",
        "soon",
        "",
        " ",
        "-",
        "third half of 2025",
        "May June 2025",
        "5 May 6 2025",
        "Thursday 2025",
    ),
    *(
        "13/2025",
        "0/2025",
        "Q2-Q1 2026",
        "Q1 to 2026",
        "3/4 2026",
        "by the end of 2026",
        "quarter ended March 31, 2025",
    ),
    *("December to January 2025", "January to 27 2025", "2025 or 2026", "the year 2025 this year", "May 2025 BC"),
    *("٢٠٢٥", "2025年6月", "May 8, 0003", "0000-05", "0000.05", "9999-99-99", "2025-2027"),
]

FROM_RELEASE = {
    "March 3rd": "2025-03-03",
    "March": "2025-03",
    "12 December": "2024-12-12",
    "April": "2025-04",
    "Monday, March 10": "2025-03-10",
    "Sunday, March 10": "2024-03-10",
    "29 February": "2024-02-29",
    "third quarter of the year": "2025-07/2025-09",
    "second half of the year": "2025-07/2025-12",
    "second half of this year": "2025-07/2025-12",
    "the year-end": "2024-10/2024-12",
    "start of the year": "2025-01/2025-03",
    "end of next year": "2026-10/2026-12",
    "December last year": "2024-12",
    "last year": "2024",
    "end of October": "2024-10",
    "fourth quarter": "2024-10/2024-12",
    "October 24–29": "2024-10-24/2024-10-29",
}


@pytest.mark.parametrize(("wording", "iso"), NAMED.items())
def test_a_wording_with_its_year_means_the_same_whatever_the_release_date(wording: str, iso: str) -> None:
    found = normalized(wording)
    assert found is not None
    assert found.iso == iso
    assert normalized(f" {wording.upper()} ", RELEASE, "past") == found


@pytest.mark.parametrize("wording", UNSURE)
def test_what_is_not_sure_has_no_meaning(wording: str) -> None:
    assert normalized(wording) is None
    assert normalized(wording, RELEASE, "future") is None


@pytest.mark.parametrize(("wording", "iso"), FROM_RELEASE.items())
def test_a_wording_without_a_year_is_read_against_the_release_date(wording: str, iso: str) -> None:
    found = normalized(wording, RELEASE)
    assert found is not None
    assert found.iso == iso
    assert normalized(wording) is None


@pytest.mark.parametrize(
    ("wording", "past", "future"),
    [
        ("March 3", "2025-03-03", "2025-03-03"),
        ("March", "2025-03", "2025-03"),
        ("October", "2024-10", "2025-10"),
        ("June", "2024-06", "2025-06"),
        ("fourth quarter", "2024-10/2024-12", "2025-10/2025-12"),
        ("year-end", "2024-10/2024-12", "2025-10/2025-12"),
        ("last year", "2024", "2024"),
        # A year in this direction, days in the other: a status that is wrong, or another year.
        ("March 10", None, "2025-03-10"),
        ("February", "2025-02", None),
    ],
)
def test_an_event_that_occurred_lies_before_the_release_and_an_expected_one_after(
    wording: str, past: str | None, future: str | None
) -> None:
    before, after = normalized(wording, RELEASE, "past"), normalized(wording, RELEASE, "future")
    assert (before and before.iso, after and after.iso) == (past, future)


@pytest.mark.parametrize(
    ("start", "end", "precision", "iso"),
    [
        ("2025-03-03", "2025-03-03", "day", "2025-03-03"),
        ("2024-02-01", "2024-02-29", "month", "2024-02"),
        ("2023-02-01", "2023-02-28", "month", "2023-02"),
        ("2025-10-01", "2025-12-31", "quarter", "2025-10/2025-12"),
        ("2025-07-01", "2025-12-31", "half", "2025-07/2025-12"),
        ("2025-01-01", "2025-12-31", "year", "2025"),
        ("2025-03-01", "2025-05-31", "range", "2025-03/2025-05"),
        ("2025-04-01", "2025-09-30", "range", "2025-04/2025-09"),
        ("2024-10-01", "2025-09-30", "range", "2024-10/2025-09"),
        ("2025-03-03", "2025-03-09", "range", "2025-03-03/2025-03-09"),
        ("2024-01-01", "2025-12-31", "range", "2024-01/2025-12"),
    ],
)
def test_precision_is_the_calendar_unit_that_a_period_is(start: str, end: str, precision: str, iso: str) -> None:
    period = Period(date.fromisoformat(start), date.fromisoformat(end))
    assert period.to_dict() == {"iso": iso, "precision": precision, "start": start, "end": end}


_WORDS = st.sampled_from(
    ["q1", "2H", "first", "second", "quarter", "half", "of", "the", "year", "early", "mid", "-", "late", "end", "to"]
    + ["May", "Feb.", "3", "31", "2025", "26", "fiscal", "ending", "week", "Monday", ",", "/", "spring", "last", "next"]
    + ["2024-02", "this", "year-end", "nine", "months"]
)
_WORDINGS = st.text() | st.lists(_WORDS, max_size=6).map(" ".join) | st.from_regex(r"[0-9./-]{4,10}")
_DAYS = st.none() | st.dates() | st.just(date.min) | st.just(date.max)


@settings(deadline=None)
@given(_WORDINGS, _DAYS, st.sampled_from([None, "past", "future"]))
def test_any_text_has_a_meaning_or_none_and_reads_back_from_iso(wording: str, day: date | None, side: str) -> None:
    found = normalized(wording, day, side)  # type: ignore[arg-type]
    if found is None:
        return
    assert found.start <= found.end
    first, _, last = found.iso.partition("/")
    assert found.start.isoformat().startswith(first)
    assert found.end.isoformat().startswith(last or first)
    assert (found.precision == "day") == (found.start == found.end)
    if day is not None and side == "past" and not re.search(r"\d{2}|year", wording):
        assert found.start <= day


@settings(deadline=None)
@given(
    st.dates(date(1900, 1, 1), date(2199, 12, 31)), st.sampled_from(["%B %d, %Y", "%d %b %Y", "%Y-%m-%d", "%Y/%m/%d"])
)
def test_every_day_is_read_back_from_its_wordings(day: date, form: str) -> None:
    assert normalized(day.strftime(form)) == Period(day, day)


@settings(deadline=None)
@given(st.dates(date(1901, 1, 1), date(2198, 12, 31)), st.integers(-90, 90))
def test_a_day_near_the_release_needs_no_year(release: date, days: int) -> None:
    day = release + timedelta(days)
    assert normalized(f"{day:%B} {day.day}", release) == Period(day, day)


@pytest.mark.parametrize(
    "day", [date.min, date.max, date(2, 1, 1), date(9998, 12, 31), date(3, 1, 1), date(9997, 12, 31)]
)
@pytest.mark.parametrize(
    "wording", ["next year", "last year", "week of January 1", "fiscal year ending December", "May 8"]
)
def test_the_ends_of_the_calendar_are_no_error(day: date, wording: str) -> None:
    for side in (None, "past", "future"):
        normalized(wording, day, side)  # type: ignore[arg-type]


def test_the_year_of_months_has_neither_gaps_nor_overlaps() -> None:
    for parts in (["Q1", "Q2", "Q3", "Q4"], ["H1", "H2"], ["early", "late"]):
        periods = [normalized(f"{part} 2024") for part in parts]
        assert all(a and b and a.end + timedelta(1) == b.start for a, b in pairwise(periods))


def dated(text: str, *wordings: str) -> date | None:
    spans = []
    for wording in wordings:
        start = text.index(wording, spans[-1][1] if spans else 0)
        spans.append((start, start + len(wording)))
    return dateline(text, spans)


@pytest.mark.parametrize(
    "text",
    [
        "SHANGHAI, March 3, 2025 - Acme said",
        "Acme Announces\r\n\r\nSHANGHAI and BOSTON, Mass., March 3, 2025 /PRNewswire/ -- Acme",
        "Acme reports.\n\nSaint-Herblain (France), March 3, 2025 – Acme",
        "(HONG KONG, March 3, 2025) Acme",
        "Basel, March 3, 2025. Acme said",
        "Basel, Monday, March 3, 2025. Acme said",
        "Ghent, Belgium, March 3, 2025, 18:00 CET – Acme",
        "News\nMarch 3, 2025\nSource: x",
        "March 3, 2025, Tokyo – Acme",
        "News\nRelease Date: March 3, 2025\nFont size",
        "For Immediate Release: March 3, 2025\nAcme",
        "News\n[March 3, 2025] Acme said",
        "News\nSource: WeChat   Time: March 3, 2025   Views: 7",
        "News\nBy A. Writer | March 3, 2025 | 3 min read",
        "News\n" + "Acme said so. " * 200 + "\nHong Kong, March 3, 2025\n* For identification only",
    ],
)
def test_a_dateline_is_known_by_what_stands_around_it(text: str) -> None:
    assert dated(text, "March 3, 2025") == RELEASE


@pytest.mark.parametrize(
    "text",
    [
        "PDUFA target date of March 3, 2025\n",
        "Acme said on March 3, 2025 – as it does – that",
        "On March 3, 2025, Acme said",
        "Acme to host a call on March 3, 2025\n",
        "Acme to Report Fourth Quarter Results on Monday, March 3, 2025\n",
        "FOR THE YEAR ENDED March 3, 2025 (EXTRACT)",
        "PDUFA date: March 3, 2025\n",
        "(data cut-off: March 3, 2025)",
        "Jefferies Global Healthcare Conference, March 3, 2025",
        "Acme to Host R&D Day Webcast, March 3, 2025\n\nAcme",
        "Notice of Annual General Meeting, March 3, 2025\n",
        "As of March 3, 2025 (unaudited)",
        "x" * 5000 + "\nMarch 3, 2025\n",
        "X, " * 5000 + "March 3, 2025\n",
    ],
)
def test_another_date_is_no_dateline(text: str) -> None:
    assert dated(text, "March 3, 2025") is None


def test_the_first_dateline_with_a_whole_day_counts_and_the_top_before_the_signature() -> None:
    text = "PARIS, March 2025 – Old.\nPARIS, March 3, 2025 – New.\nPARIS, March 4, 2025 – Newer." + "\nx" * 900
    signed = f"{text}\nParis, March 5, 2025"
    assert dated(text, "March 2025") is None
    assert dated(signed, "March 2025", "March 3, 2025", "March 4, 2025", "March 5, 2025") == RELEASE
    assert dated(signed, "March 5, 2025") == date(2025, 3, 5)


def test_a_release_date_may_be_a_date_a_datetime_or_iso_text() -> None:
    moment = datetime(2025, 3, 3, 23, 30, tzinfo=timezone.utc)
    for value in (RELEASE, moment, "2025-03-03", "20250303", "2025-03-03T23:30:00Z"):
        assert as_date(value) == RELEASE
    assert as_date(None) is None
    assert as_date(float("nan")) is None
    assert as_date(pd.NA) is None
    assert as_date(pd.NaT) is None


@pytest.mark.parametrize(
    "value",
    [
        *("", "2025", "2025-03", "03/03/2025", "March 3, 2025", "9999-12-31T24:00"),
        *(20250303, b"2025-03-03", ["2025-03-03"], np.array([1, 2])),
    ],
)
def test_a_release_date_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(DateError, match="such as 2025-03-03, found"):
        as_date(value)
