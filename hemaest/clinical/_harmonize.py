"""Translate the labels of public sets, and of laboratories, into the words of the taxonomy."""

from __future__ import annotations

import tomllib
import warnings
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from hemaest._words import some
from hemaest.base import did_you_mean
from hemaest.clinical._taxonomy import CellTaxonomy

WHY = "why not"


def harmonize(
    labels: ArrayLike,
    source: str | None = None,
    *,
    taxonomy: CellTaxonomy | None = None,
) -> NDArray[Any]:
    """Return labels in the words of a taxonomy.

    Parameters
    ----------
    labels : array-like of shape (n_samples,)
        As a loader's ``target`` has them: folders, codes or numbers.
    source : str, optional
        The set that they come from, named as its loader: ``"pbc"``, ``"bone_marrow"``,
        ``"segmentation_wbc"``, ``"synthetic"`` for :func:`hemaest.datasets.make_cells`, ... Without
        it the names and synonyms of the taxonomy are looked up.
    taxonomy : CellTaxonomy, optional
        Where to look; by default :meth:`CellTaxonomy.blood`. With `source`, what the set's table
        gives is looked up in it.

    Returns
    -------
    names : array of shape (n_samples,)
        Standard names. Where a label has none it is None (and the array holds objects), and a
        warning says which and why; leave these samples out.

    Examples
    --------
    >>> harmonize(["ig", "MMY", "platelet"], source="pbc").tolist()
    ['immature granulocyte', 'metamyelocyte', 'platelet']
    >>> harmonize(["Seg", "normoblast", "Lymphocytes"]).tolist()
    ['segmented neutrophil', 'erythroblast', 'lymphocyte']
    """
    values = np.asarray(labels)
    if values.ndim != 1:
        raise ValueError(f"labels has shape {values.shape}: give one label for each sample.")
    taxonomy = CellTaxonomy.blood() if taxonomy is None else taxonomy
    table = None if source is None else _table_of(source)
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    found = [_translate(label, source, table, taxonomy) for label in distinct]
    lost = [label for label, name in zip(distinct, found, strict=True) if name is None]
    if lost:
        reason = _tables()[WHY].get(source or "", "no name or synonym matches")
        n = int(np.isin(codes, [i for i, name in enumerate(found) if name is None]).sum())
        warnings.warn(
            f"{n} of {len(values)} labels have no type in the taxonomy, and are None: "
            f"{some([repr(str(label)) for label in lost])} ({reason}).",
            stacklevel=2,
        )
    names = np.array(found, dtype=object)[codes]
    return names if lost or not len(names) else names.astype(str)


def _translate(
    label: Any, source: str | None, table: dict[str, str] | None, taxonomy: CellTaxonomy
) -> str | None:
    if table is None:
        return taxonomy.resolve(label) if label in taxonomy else None
    # numbers of a set are the same number whether int, float or text
    text = f"{label:g}" if isinstance(label, (float, np.floating)) else str(label)
    if text not in table:
        raise ValueError(
            f"{text!r} is no label of {source!r}, whose labels are {', '.join(table)}."
            f"{did_you_mean(text, table)} Leave out source= to look it up as a name or synonym."
        )
    return taxonomy.resolve(table[text]) if table[text] in taxonomy else None


@cache
def _tables() -> dict[str, dict[str, str]]:
    return tomllib.loads(
        files("hemaest.clinical").joinpath("labels.toml").read_text(encoding="utf-8")
    )


def _table_of(source: str) -> dict[str, str]:
    sets = sorted(set(_tables()) - {WHY})
    if source not in sets:
        raise ValueError(
            f"source={source!r} is no set whose labels are known.{did_you_mean(source, sets)} "
            f"Known are {', '.join(sets)}; None looks names and synonyms up."
        )
    return _tables()[source]
