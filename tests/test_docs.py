"""Every public name says what it takes, in the order of its signature, and shows it running."""

import inspect
import re
from pathlib import Path

import pytest
from public import public_names

GUIDE = sorted((Path(__file__).parents[1] / "docs" / "guide").glob("*.rst"))
PUBLIC = {
    f"{module}.{name}": item
    for module, name, item in public_names()
    if module != "hemaest.base" and callable(item) and not module.startswith("hemaest.nets")
}


def documented_parameters(item):
    """Return the names in the Parameters section of a numpydoc docstring."""
    section = re.search(
        r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", inspect.getdoc(item), flags=re.M | re.S
    )
    if section is None:
        return []
    heads = re.findall(r"^(\S[^:\n]*?)(?: :.*)?$", section.group(1), flags=re.M)
    return [name.lstrip("*") for head in heads for name in re.split(r",\s*", head)]


def signature_parameters(item):
    return [p for p in inspect.signature(item).parameters if p not in {"self", "args", "kwargs"}]


def is_result(item):
    """Return whether a class is what a function returns, and users never make."""
    made = hasattr(item, "fit") or hasattr(item, "__dataclass_fields__")
    return isinstance(item, type) and not made and not documented_parameters(item)


@pytest.mark.parametrize("name", sorted(n for n, item in PUBLIC.items() if not is_result(item)))
def test_parameters_are_documented_in_order(name):
    documented, taken = documented_parameters(PUBLIC[name]), signature_parameters(PUBLIC[name])
    if documented[-1:] == ["options"]:  # "the others as in ...": only what differs is described
        documented, taken = set(documented[:-1]) - set(taken), set()
    assert documented == taken


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_has_an_example(name):
    assert ">>>" in (inspect.getdoc(PUBLIC[name]) or ""), name


@pytest.mark.parametrize("page", GUIDE, ids=lambda page: page.stem)
def test_all_python_of_the_guide_is_run(page):
    """Doctests are run; a block of code is not, and its names may be found nowhere."""
    assert "code-block:: python" not in page.read_text(), page.name
