"""The list of recipes, the one function that makes them, and what their options mean.

Each module of recipes registers its own with :func:`register`; ``make_recipe`` calls the builder.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from hemaest import balance as balancing, stain as normalizers
from hemaest.base import did_you_mean, refuse_bare_fitted
from hemaest.recipes._pipeline import ImagePipeline

Steps = list[tuple[str, Any]]

# each module registers its recipes when it is imported
MODULES = ("_classical", "_combined", "_deep", "_synthetic")

# values of ``balance=``
ON_FEATURES = ("oversample", "smote", "borderline-smote", "adasyn", "smote-tomek")
OF_NETS: dict[str, dict[str, Any]] = {
    "oversample": {"resampler": "balanced"},
    "weights": {"class_weight": "balanced"},
    "focal": {"loss": "focal"},
    "logit-adjusted": {"loss": "logit-adjusted"},
    "acdbgan": {},
    "rendered": {},
}


@dataclass(frozen=True)
class Options:
    """The options that a user gave a recipe; a builder reads what it needs."""

    stain: Any = None
    segmenter: Any = None
    balance: Any = None
    image_size: Any = None
    max_epochs: int | None = None
    device: str = "auto"
    n_jobs: int | None = None
    random_state: Any = None


@dataclass(frozen=True)
class Recipe:
    """One named pipeline: what it is, which options it takes, and the grid that tunes it.

    Parameters
    ----------
    name : str
        As users write it.
    summary : str
        One line.
    build : callable
        Takes options, returns the steps.
    accepts : frozenset of str
        Those of stain, segmenter, balance, image_size and max_epochs that change this recipe.
    param_grid : dict
        A small grid for a nested search.
    control : bool, default=False
        Whether it is a shortcut control rather than a model to use.

    Examples
    --------
    >>> from hemaest.recipes import get_recipe
    >>> get_recipe("color-logistic").control
    True
    """

    name: str
    summary: str
    build: Callable[[Options], Steps]
    accepts: frozenset[str]
    param_grid: dict[str, list[Any]] = field(default_factory=dict)
    control: bool = False


_RECIPES: dict[str, Recipe] = {}


def register(
    name: str,
    summary: str,
    *,
    accepts: tuple[str, ...] = (),
    param_grid: dict[str, list[Any]] | None = None,
    control: bool = False,
) -> Callable[[Callable[[Options], Steps]], Callable[[Options], Steps]]:
    """Add the decorated builder of steps to the list of recipes.

    Parameters
    ----------
    name : str
        As users write it.
    summary : str
        One line.
    accepts : tuple of str
        Those of stain, segmenter, balance, image_size and max_epochs that change this recipe;
        another one that is given is an error, never ignored.
    param_grid : dict, optional
        A small grid for a nested search.
    control : bool, default=False
        Whether it is a shortcut control rather than a model to use.
    """

    def add(build: Callable[[Options], Steps]) -> Callable[[Options], Steps]:
        _RECIPES[name] = Recipe(name, summary, build, frozenset(accepts), param_grid or {}, control)
        return build

    return add


def all_recipes() -> dict[str, Recipe]:
    """Return the recipes by name."""
    for module in MODULES:
        import_module(f"hemaest.recipes.{module}")
    # in the order of the modules, whichever of them was imported first
    places = [f"hemaest.recipes.{module}" for module in MODULES]
    rank = {name: places.index(r.build.__module__) for name, r in _RECIPES.items()}
    return {name: _RECIPES[name] for name in sorted(_RECIPES, key=rank.__getitem__)}


def get_recipe(name: str) -> Recipe:
    """Return one recipe; an unknown name is answered with the nearest.

    Parameters
    ----------
    name : str
        One of :func:`list_recipes`.

    Returns
    -------
    recipe : Recipe

    Examples
    --------
    >>> from hemaest.recipes import get_recipe
    >>> get_recipe("handcrafted-forest").accepts == {"stain", "segmenter", "balance"}
    True
    """
    recipes = all_recipes()
    if name not in recipes:
        known = ", ".join(recipes)
        raise ValueError(
            f"There is no recipe {name!r}.{did_you_mean(name, recipes)} Known: {known}."
        )
    return recipes[name]


def list_recipes() -> list[str]:
    """Return the names of all recipes.

    Returns
    -------
    names : list of str

    Examples
    --------
    >>> "color-logistic" in list_recipes()
    True
    """
    return list(all_recipes())


def make_recipe(
    name: str,
    *,
    stain: Any = None,
    segmenter: Any = None,
    balance: Any = None,
    image_size: int | None = None,
    max_epochs: int | None = None,
    device: str = "auto",
    memory: Any = None,
    n_jobs: int | None = None,
    random_state: Any = None,
) -> ImagePipeline:
    """Make a named pipeline, from images to labels.

    Parameters
    ----------
    name : str
        One of :func:`list_recipes`.
    stain : {"reinhard", "macenko", "vahadane"} or transformer, optional
        Stain normalization in front, fitted on the training fold. The names stand for what
        serves images of single cells: the glass takes the target's color as well, and
        ``"macenko"`` takes the known basis of Giemsa stain, since one cell holds too little to
        learn two stains from. For another, give the transformer.
    segmenter : segmenter, optional
        For recipes that measure cells; by default the label-free
        :class:`hemaest.segmentation.CellSegmenter`. With one a net sees the cell cut out, all
        cells to one scale, without one the whole image. A fitted one goes in as
        ``FrozenEstimator(segmenter)``.
    balance : str or sampler, optional
        How the training fold is balanced. Nets: ``"weights"``, ``"logit-adjusted"``, ``"focal"``,
        ``"oversample"``, ``"acdbgan"``. Models of features: ``"weights"``, ``"oversample"``,
        ``"smote"``, ``"borderline-smote"``, ``"adasyn"``, ``"smote-tomek"``. Both: ``"rendered"``,
        cells of :class:`hemaest.balance.RenderedCellSampler`.
    image_size : int, optional
        Side of the images that a deep net sees.
    max_epochs : int, optional
        Of deep recipes; the others train without epochs and refuse it.
    device : str, default="auto"
        Of deep recipes.
    memory : str or joblib.Memory, optional
        Keeps fitted steps between the points of a grid.
    n_jobs : int, optional
        Threads of the steps that this function makes.
    random_state : int or RandomState, optional
        Seed of everything random inside.

    Returns
    -------
    pipeline : ImagePipeline
        Unfitted. ``pipeline.set_params`` reaches every parameter of every step.

    Examples
    --------
    >>> make_recipe("color-logistic").steps[-1][0]
    'classify'
    >>> make_recipe("color-logistik")
    Traceback (most recent call last):
    ...
    ValueError: There is no recipe 'color-logistik'. Did you mean 'color-logistic'? ...
    """
    recipe = get_recipe(name)
    requested = {
        "stain": stain,
        "segmenter": segmenter,
        "balance": balance,
        "image_size": image_size,
        "max_epochs": max_epochs,
    }
    for option, value in requested.items():
        if value is not None and option not in recipe.accepts:
            accepted = ", ".join(sorted(recipe.accepts)) or "none of these options"
            raise ValueError(
                f"The recipe {name!r} has no step that {option}={value!r} could change; it takes "
                f"{accepted}."
            )
        refuse_bare_fitted(value, option)
    options = Options(**requested, device=device, n_jobs=n_jobs, random_state=random_state)
    return ImagePipeline([*_stain_steps(options), *recipe.build(options)], memory=memory)


def _stain_steps(options: Options) -> Steps:
    stain = options.stain
    if stain is None:
        return []
    if not isinstance(stain, str):
        return [("stain", stain)]
    known: dict[str, tuple[str, dict[str, Any]]] = {
        "reinhard": ("ReinhardNormalizer", {}),
        # measured in benchmarks/RESULTS.md, "Stain": see make_recipe
        "macenko": ("MacenkoNormalizer", {"basis": "giemsa", "preserve_background": False}),
        "vahadane": ("VahadaneNormalizer", {"preserve_background": False}),
    }
    if stain not in known:
        raise ValueError(
            f"stain={stain!r}; it must be one of {', '.join(known)}, or a transformer."
            f"{did_you_mean(stain, known)}"
        )
    name, params = known[stain]
    return [("stain", getattr(normalizers, name)(n_jobs=options.n_jobs, **params))]


def feature_sampler(options: Options, *, weights: bool = False) -> Steps:
    """Return the step that balances rows of features, if one is requested.

    Parameters
    ----------
    options : Options
    weights : bool, default=False
        Whether the model takes ``class_weight``, and so ``balance="weights"`` (no step then).
    """
    balance = options.balance
    if balance in (None, "rendered") or (weights and balance == "weights"):
        return []
    if not isinstance(balance, str):
        return [("balance", balance)]
    known = [*ON_FEATURES, "rendered", *(["weights"] if weights else [])]
    if balance not in known:
        # "weights" is for most models of features as well
        nets_only = balance in OF_NETS and balance != "weights"
        of_net = " That is for recipes of nets." if nets_only else ""
        raise ValueError(
            f"balance={balance!r}; it must be one of {', '.join(known)}, or a sampler."
            f"{of_net or did_you_mean(balance, known)}"
        )
    return [("balance", balancing.FeatureSampler(balance, random_state=options.random_state))]


def rendered_cells(options: Options) -> Steps:
    """Return the step that fills rare classes with rendered cells, if it is wanted.

    It works on images, so it stands before everything that measures them.
    """
    if not isinstance(options.balance, str) or options.balance != "rendered":
        return []
    return [("balance", _rendered_sampler(options))]


def _rendered_sampler(options: Options) -> Any:
    return balancing.RenderedCellSampler(n_jobs=options.n_jobs, random_state=options.random_state)


def class_weight(options: Options) -> str | None:
    """Return the ``class_weight`` of a model of features."""
    return "balanced" if options.balance == "weights" else None


def net_parameters(options: Options, image_size: int = 64) -> dict[str, Any]:
    """Return how a network balances classes itself, after it held out what it validates on.

    Examples
    --------
    >>> net_parameters(Options(balance="weights"))
    {'class_weight': 'balanced'}
    """
    balance = options.balance
    if balance is None:
        return {}
    if not isinstance(balance, str):
        return {"resampler": balance}
    if balance not in OF_NETS:
        of_features = " That is for recipes of features." if balance in ON_FEATURES else ""
        raise ValueError(
            f"balance={balance!r}; it must be one of {', '.join(OF_NETS)}, or a sampler."
            f"{of_features or did_you_mean(balance, OF_NETS)}"
        )
    if balance == "rendered":
        return {"resampler": _rendered_sampler(options)}
    if balance != "acdbgan":
        return OF_NETS[balance]
    gan = balancing.ACDBGAN(
        image_size=gan_size(image_size), device=options.device, random_state=options.random_state
    )
    return {"resampler": gan}


def gan_size(image_size: int) -> int:
    """Return the largest side that the GAN can make for a network of some size.

    Examples
    --------
    >>> gan_size(128), gan_size(224), gan_size(100), gan_size(384)
    (128, 224, 96, 256)
    """
    sizes = [start << k for start in (4, 5, 6, 7) for k in range(2, 7)]
    return max(size for size in sizes if size <= max(16, min(image_size, 256)))


def default_size(net: type) -> int:
    """Return the side of the images that a classifier sees if nothing else is said."""
    return int(inspect.signature(net).parameters["image_size"].default)
