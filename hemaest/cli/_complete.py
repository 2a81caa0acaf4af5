"""What a shell offers at the Tab key; light, since it runs at each press."""


def complete_recipes(incomplete: str) -> list[str]:
    """Return what a shell offers for the last of some names with commas between.

    Examples
    --------
    >>> complete_recipes("color-logistic,color-k")
    ['color-logistic,color-knn']
    """
    from hemaest.recipes import list_recipes

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in list_recipes() if name.startswith(last)]
