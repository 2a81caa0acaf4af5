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
        .section("Pictures")
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
        'href="#pictures"',
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
