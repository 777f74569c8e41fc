"""Everything that is not Markup is escaped."""

from dbp.report.markup import Markup, figure, grid, section, table, tag, text

HOSTILE = '"><script>alert("1")</script>\x1b[31m\udcff'


def test_texts_and_attributes_are_escaped():
    made = tag("p", HOSTILE, [HOSTILE, 5, None], class_=HOSTILE, data_a=None, hidden=True)
    assert "<script" not in made
    assert made.count("&lt;script&gt;") == 3
    assert made.startswith('<p class="&quot;&gt;&lt;script')
    assert " hidden>" in made
    assert "\x1b" not in made
    made.encode()


def test_markup_stays_and_empty_parts_vanish():
    assert text(Markup("<b>")) == "<b>"
    assert section("Title", grid(None, ""), None) == ""
    assert section("T", "x", lead="y") == '<section><h2>T</h2><p class="lead">y</p>x</section>'
    assert tag("br") == "<br>"
    assert "<figcaption>a</figcaption>" in figure("a", "b")
    assert table(["<"], [["&", 1]]).count("&lt;") == 1
