"""A page holds all it was given, escapes what is text, and needs nothing from outside."""

import re

import numpy as np
import pandas as pd
import pytest

from hemaest.report import Report


@pytest.fixture
def page():
    table = pd.DataFrame(
        {
            "recipe": ["<b>forest</b>", "chance"],
            "score": [0.75, 0.25],
            "low": [0.7, 0.2],
            "high": [0.8, np.nan],
            "p Holm": [1e-9, 0.2],
        }
    )
    return (
        Report("Title & more", "Split by patient.")
        .section("Scores", "A note.")
        .text("a < b", "warn")
        .tiles([("0.5", "chance", "2 classes")])
        .table(table, "a caption", intervals=[("score", "low", "high")], quiet=[1])
        .section("Images")
        .gallery([np.full((300, 200, 3), 7, np.uint8)], ["cell 1"], "all cells")
        .matrix(pd.DataFrame([[3, 1], [0, 4]], ["a", "b"], ["a", "b"]), "forest")
        .code("x = {{ 1 }}", "open me")
    )


def test_everything_is_there_and_escaped(page):
    html = page.html()
    for text in (
        "Title &amp; more",
        "Split by patient.",
        "a &lt; b",
        "&lt;b&gt;forest",
        "a caption",
        "&lt;0.001",
        "0.700 to 0.800",
        "cell 1",
        "x = {{ 1 }}",
        'href="#images"',
    ):
        assert text in html, text
    assert "<b>forest</b>" not in html


def test_whole_numbers_stay_whole_beside_fractions():
    html = Report("Types").table(pd.DataFrame({"class": [10, 20], "score": [0.5, 0.25]})).html()
    assert re.findall(r'<td class="number">(.*?)</td>', html) == ["10", "0.500", "20", "0.250"]


def test_a_long_name_in_the_first_column_is_broken_into_lines_rather_than_cut():
    name = "B lymphoblast, Philadelphia chromosome positive"
    html = Report("Types").table(pd.DataFrame({"type": [name, "ig"], "why": ["a", "b"]})).html()
    assert f'<td class="words">{name}</td>' in html and "<td>ig</td>" in html
    assert re.search(r"td\.words:first-child {[^}]*white-space: normal", html)


def test_every_section_is_reached_from_the_contents():
    page = Report("Two").section("白血病").section("白血病").section("Scores").section("Scores")
    html = page.section("...").html()
    places = re.findall(r'<section id="(.*?)"', html)
    assert len(set(places)) == 5 and all(places)
    assert re.findall(r'<a href="#(.*?)"', html) == places


def test_nothing_is_fetched(page):
    html = page.html()
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,|#)', html)
    assert "@import" not in html and "url(" not in html and "<script" not in html


def test_intervals_are_drawn_inside_the_track(page):
    for left in re.findall(r"left:([-\d.]+)%", page.html()):
        assert 0 <= float(left) <= 100


def test_figures_keep_their_own_names():
    from matplotlib.figure import Figure

    page = Report("Figures")
    for shift in (0, 1):
        figure = Figure()
        figure.subplots().plot([0, 1 + shift])
        page.figure(figure, "a line")
    html = page.html()
    names = re.findall(r'\bid="([^"]+)"', html)
    assert len(names) == len(set(names))
    for used in re.findall(r'(?:url\(#|href="#)([^")]+)', html):
        assert used in names
    assert html == page.html()


def test_save_makes_folders(tmp_path):
    path = tmp_path / "new" / "page.html"
    assert Report("Empty").save(path) == path.read_text(encoding="utf-8")


def test_the_page_says_when_how_and_with_what_it_was_made(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    html = Report("A", command="hemaest audit 'cells & co'").html()
    assert "1970-01-02, hemaest 0." in html and "scikit-learn 1." in html
    assert "<code>hemaest audit &#39;cells &amp; co&#39;</code>" in html
    assert "<code>" not in Report("A").html()


def test_identifiers_become_headings_and_names_of_classes_stay():
    table = pd.DataFrame({"macro_f1": [0.5], "p_value": [1e-9]})
    assert '<th class="number">macro f1</th>' in Report("A").table(table).html()
    named = Report("A").table(table, headings={"macro_f1": "macro F1"}).html()
    assert "macro F1" in named and "p value" in named and "&lt;0.001" in named
    assert "macro_f1" in Report("A").table(table, headings={}).html()


def test_letters_of_any_script_reach_the_browser_as_text():
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots()
    ax.set_title("\u4e2d\u6027\u7c92\u7d30\u80de")
    assert "\u4e2d\u6027\u7c92\u7d30\u80de" in Report("A").figure(figure).html()


def test_wide_tables_say_that_they_scroll_and_heat_has_a_scale():
    wide = pd.DataFrame([range(8)], columns=list("abcdefgh"))
    assert 'class="scroll wide"' in Report("A").table(wide).html()
    assert 'class="scroll"' in Report("A").table(wide[["a", "b"]]).html()
    page = Report("A").gallery([np.zeros((9, 9, 3), np.uint8)], ["x"], scale=("none", "most"))
    assert "<span>none</span><i></i><span>most</span>" in page.html()
