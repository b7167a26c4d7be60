"""The blocks of pages that scripts renew."""

from __future__ import annotations

import pytest
from pharmatriples.blocks import BlockError, markdown, replace_block
from pharmatriples.evaluation import evaluate
from tiny import SCHEMA, acme


def test_the_table_has_a_row_of_seven_cells_for_each_figure() -> None:
    rows = markdown(evaluate([acme()], [acme()], SCHEMA).to_dict()).splitlines()
    assert {row.count("|") for row in rows} == {8}
    assert len(rows) == 2 + 9
    assert rows[-1] == "| records | 100.0 | 100.0 | 100.0 | 1 | 0 | 0 |"


class TestReplaceBlock:
    def test_what_stands_between_the_markers_is_replaced_and_nothing_else(self) -> None:
        page = "a\n<!-- evaluation:x -->\nold\n<!-- /evaluation:x -->\nb <!-- evaluation:y --><!-- /evaluation:y -->"
        once = replace_block(page, "x", "new")
        assert once == page.replace("old", "new")
        assert replace_block(once, "x", "new") == once

    @pytest.mark.parametrize(
        "page",
        ["", "<!-- evaluation:x -->", "<!-- /evaluation:x --><!-- evaluation:x -->", "<!-- evaluation:x -->" * 2],
    )
    def test_a_page_without_the_markers_is_an_error_that_shows_them(self, page: str) -> None:
        with pytest.raises(BlockError, match="<!-- evaluation:x --> and <!-- /evaluation:x -->"):
            replace_block(page, "x", "new")
