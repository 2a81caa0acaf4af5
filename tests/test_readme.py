"""The README's code runs as pasted, in order, in one session."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_readme_runs_as_pasted(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README, flags=re.M | re.S)
    assert len(blocks) == 3
    session: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), session)
    scores = session["scores"]
    assert len(scores) == 3 and scores.mean() > 0.8
    assert len(session["search"].cv_results_["params"]) == 2
    assert "accuracy on patients never seen" in capsys.readouterr().out


def test_the_commands_come_first():
    commands = re.findall(r"^```\n(.*?)\n```", README, flags=re.M | re.S)
    assert commands[:2] == [
        "pip install . && hemaest compare",
        'pip install ".[test]" && pytest -n 2 --dist worksteal',
    ]


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "benchmarks/RESULTS.md"]
)
def test_links_within_the_project_lead_somewhere(name):
    page = Path(__file__).parents[1] / name
    links = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", page.read_text()))
    within = [link.split("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in within if not (page.parent / link).exists()] == []
