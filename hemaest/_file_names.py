"""What file names reveal about which images belong together."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

import numpy as np

from hemaest._near_duplicates import near_duplicate_groups
from hemaest._words import some


class _Rule(NamedTuple):
    source: str
    pattern: str  # searched in the path without its ending; the groups that match name the group


# What public sets write into their file names. Order matters: the first that fits all files wins.
RULES: dict[str, _Rule] = {
    # C-NMC 2019: UID_<subject>_<image>_<cell>_<all|hem>
    "cnmc": _Rule("patient", r"(?:^|/)UID_(H?\d+)_\d+_\d+_(?:all|hem)$"),
    # Kaggle blood cells: about 350 photographs, each turned into many copies _<n>_<random>; n
    # starts anew in every split and class folder (of which the names may hold the inner one only)
    "kaggle": _Rule("photograph", r"(?:^|/)((?:[^/]+/)?[^/]+)/_(\d+)_\d+$"),
    # Raabin: crops are named after their smear, or after the day and time of the photograph; one
    # day is the finest unit that surely holds whole smears
    "raabin": _Rule("smear", r"(?:^|/)(?:(\d{8})_\d{6}_\d+|(\d+(?:-\d+)+)_\d+(?:_\d+)?)$"),
    # plain words, anywhere in the path
    "named": _Rule(
        "patient",
        r"(?i)(?:^|[/_\- ])(?:patient|subject|donor|case|slide|smear)[_\- ]?0*(\d+)(?!\d)",
    ),
}


def infer_groups(
    filenames: Sequence[Any],
    rule: str = "auto",
    *,
    images: Any = None,
    unmatched: Literal["raise", "own"] = "raise",
    return_source: bool = False,
) -> Any:
    """Read from file names which images belong together.

    Parameters
    ----------
    filenames : sequence of str or path
        Paths, best relative to the folder of the data set: the folders may matter.
    rule : str, default="auto"
        "auto" tries the known naming rules and takes the first that fits every file, and warns
        where one fits most of them only. A rule's name
        ("cnmc", "kaggle", "raabin", "named"), "folder" (the folder of the file) or a regular
        expression whose parts in parentheses name the group.
    images : sequence of images or None
        Where rule="auto" finds none that fits, near-duplicates among these images become the
        groups.
    unmatched : {"raise", "own"}, default="raise"
        What to do with files that the named rule does not fit: refuse them, or make each a group of
        its own, with a warning.
    return_source : bool, default=False
        Also return how the groups were known.

    Returns
    -------
    groups : ndarray of str
        One group for each file. Where nothing is known, each file is its own.
    source : str
        "patient", "smear", "photograph", "folder", "file name", "near-duplicate" or "none"; only
        with ``return_source=True``.

    Examples
    --------
    >>> infer_groups(["UID_7_1_1_all.bmp", "UID_7_2_1_all.bmp", "UID_H3_1_1_hem.bmp"])
    array(['7', '7', 'H3'], dtype='<U2')
    >>> copies = ["TRAIN/MONOCYTE/_12_405.jpeg", "TEST/MONOCYTE/_12_77.jpeg"]
    >>> infer_groups(copies, return_source=True)
    (array(['TRAIN/MONOCYTE/12', 'TEST/MONOCYTE/12'], dtype='<U17'), 'photograph')
    >>> infer_groups(["ann-1.png", "ann-2.png", "bob-1.png"], rule=r"^(.+)-")
    array(['ann', 'ann', 'bob'], dtype='<U3')
    """
    stems = _stems(filenames)
    if images is not None and len(images) != len(stems):
        raise ValueError(f"there are {len(stems)} file names and {len(images)} images.")
    if rule == "auto":
        found, source = _by_any_rule(stems)
        if source == "none" and images is not None:
            found = [str(g) for g in near_duplicate_groups(images)]
            source = "near-duplicate"
    elif rule == "folder":
        found = [PurePath(stem).parent.as_posix() for stem in stems]
        source = "folder"
    else:
        found, source = _by_rule(stems, rule, unmatched)
    groups = np.asarray(found, dtype=str)
    if source not in ("none", "near-duplicate") and len(groups) > 1 and len(np.unique(groups)) == 1:
        warnings.warn(
            f"rule={rule!r} puts all {len(groups)} files into one group '{groups[0]}': such data "
            "cannot be split.",
            stacklevel=2,
        )
    return (groups, source) if return_source else groups


def _stems(filenames: Sequence[Any]) -> list[str]:
    """Return the paths without their endings, the folders parted by slashes."""
    if isinstance(filenames, str | os.PathLike):
        raise TypeError(f"filenames is one path, {str(filenames)!r}; give a sequence of them.")
    paths = []
    for row, name in enumerate(filenames):
        # tables that were written on Windows part folders by backslashes
        path = PurePath(str(name).replace("\\", "/"))
        if not isinstance(name, str | os.PathLike) or not path.name:
            raise ValueError(f"filenames[{row}] is {name!r}, which is no path of a file.")
        paths.append(path)
    return [path.with_suffix("").as_posix() for path in paths]


def _by_any_rule(stems: list[str]) -> tuple[list[str], str]:
    """Return the groups of the first known rule that fits all, or each file for itself."""
    for known in RULES.values():
        found = [_apply(known.pattern, stem) for stem in stems]
        if stems and None not in found:
            return [str(group) for group in found], known.source
    for name, known in RULES.items():
        lost = [stem for stem in stems if _apply(known.pattern, stem) is None]
        if 2 * len(lost) < len(stems):
            warnings.warn(
                f"The rule {name!r} ({known.source}) fits all but {len(lost)} of {len(stems)} "
                f"file names ({some(lost)}), so it is not used, and what belongs together may be "
                f"separated. Rename or remove these files, use infer_groups(names, {name!r}, "
                "unmatched='own'), or give the groups yourself.",
                stacklevel=3,
            )
            break
    return stems, "none"


def _by_rule(stems: list[str], rule: str, unmatched: str) -> tuple[list[str], str]:
    """Return the groups by one rule, a known one or a regular expression."""
    if unmatched not in {"raise", "own"}:
        raise ValueError(f"unmatched={unmatched!r}; it must be 'raise' or 'own'.")
    known = RULES.get(rule, _Rule("file name", rule))
    try:
        found = [_apply(known.pattern, stem) for stem in stems]
    except re.error as error:
        raise ValueError(
            f"rule={rule!r} is neither 'auto', 'folder', {', '.join(map(repr, RULES))} nor a "
            f"regular expression ({error})."
        ) from None
    lost = [stem for stem, group in zip(stems, found, strict=True) if group is None]
    if lost and unmatched == "raise":
        raise ValueError(
            f"rule={rule!r} does not fit {len(lost)} of {len(stems)} file names, the first "
            f"being {lost[0]!r}. The rule is searched in the path without its ending."
        )
    if lost:
        warnings.warn(
            f"rule={rule!r} does not fit {len(lost)} of {len(stems)} file names ({some(lost)}): "
            f"each of these is a group of its own, whatever {known.source} it belongs to.",
            stacklevel=3,
        )
    groups = [stem if group is None else group for stem, group in zip(stems, found, strict=True)]
    return groups, "none" if len(lost) == len(stems) else known.source


def _apply(pattern: str, stem: str) -> str | None:
    match = re.search(pattern, stem)
    if match is None:
        return None
    named = [part for part in match.groups() if part is not None]
    return "/".join(named) if named else match.group(0)
