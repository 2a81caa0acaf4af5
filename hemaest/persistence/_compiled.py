"""What compiled code of scikit-learn and XGBoost holds, as numbers that are checked.

Trees, boosters, search trees, losses and scorers have no attributes that could be copied, and the
code behind them trusts its numbers: a child index beyond the end of a tree reads foreign memory.
Each kind has a function that takes it apart and one that checks the parts and puts it together.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hemaest.persistence._values import Decoder, Encoder, UnsafeFileError

__all__ = ["COMPILED", "check_consistent", "encode_compiled"]

LOSSES = (
    *("HalfBinomialLoss", "HalfMultinomialLoss", "ExponentialLoss", "HalfSquaredError"),
    *("AbsoluteError", "HalfPoissonLoss", "HalfGammaLoss"),
)
METRICS = frozenset(("euclidean", "minkowski", "manhattan", "chebyshev"))
OBJECTIVES = frozenset(
    "binary:logistic binary:logitraw multi:softprob multi:softmax reg:squarederror reg:logistic "
    "reg:absoluteerror reg:pseudohubererror count:poisson".split()
)
# the lists of a tree of XGBoost: one entry a node, as floats or as integers
BOOSTED = {
    "base_weights": "<f4",
    "default_left": "<i4",
    "left_children": "<i4",
    "loss_changes": "<f4",
    "parents": "<i4",
    "right_children": "<i4",
    "split_conditions": "<f4",
    "split_indices": "<i4",
    "split_type": "<i4",
    "sum_hessian": "<f4",
}
CATEGORIES = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def encode_compiled(item: Any, encoder: Encoder) -> list[Any] | None:
    """Return the node of an object that compiled code holds, None for all others."""
    name, module = type(item).__name__, type(item).__module__
    if module.startswith("sklearn."):
        if name == "Tree":
            return _encode_tree(item, encoder)
        if name == "TreePredictor":
            return ["predictor", *encoder.add_all(_fields(item.nodes))]
        if name in ("KDTree", "BallTree"):
            return _encode_search_tree(item, encoder)
        if module.startswith("sklearn._loss") and name in LOSSES:
            return ["loss", name, int(item.n_classes) if hasattr(item, "n_classes") else None]
        if name == "_PassthroughScorer":
            return ["default scorer", encoder.add(item._estimator)]
        if name == "_Scorer":
            return _encode_scorer(item)
    if name == "Booster" and module == "xgboost.core":
        return _encode_booster(item, encoder)
    return None


def _fields(nodes: NDArray[Any]) -> list[Any]:
    return [list(nodes.dtype.names or ()), [np.array(nodes[n]) for n in nodes.dtype.names or ()]]


def _structured(decoder: Decoder, names: Any, values: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a structured array of a known type from its fields."""
    columns = dict(zip(decoder.value(names), decoder.value(values), strict=True))
    if columns.keys() != set(dtype.names or ()):
        raise UnsafeFileError("the nodes of a tree have other fields than those of this version.")
    n = len(next(iter(columns.values())))
    nodes = np.zeros(n, dtype)
    for name, column in columns.items():
        if column.shape != (n,) or not np.can_cast(column.dtype, dtype[name], "same_kind"):
            raise UnsafeFileError(f"the field {name!r} of a tree does not fit.")
        nodes[name] = column
    return nodes


def _check_children(left: Any, right: Any, leaf: NDArray[np.bool_]) -> None:
    """Refuse a tree that is none: children come after their parent, each has one."""
    at = np.flatnonzero(~leaf)
    children = np.concatenate([left[at], right[at]]).astype(np.int64)
    sound = (
        len(leaf) > 0
        and (children > np.tile(at, 2)).all()
        and (children < len(leaf)).all()
        and len(np.unique(children)) == len(children) == len(leaf) - 1
    )
    if not sound:
        raise UnsafeFileError("the children of a tree do not make a tree.")


def _encode_tree(item: Any, encoder: Encoder) -> list[Any]:
    _, (n_features, n_classes, n_outputs), state = item.__reduce__()
    parts = [int(n_features), [int(n) for n in n_classes], int(n_outputs), int(state["max_depth"])]
    return ["tree", *parts, *encoder.add_all((*_fields(state["nodes"]), state["values"]))]


def _decode_tree(
    decoder: Decoder,
    n_features: Any,
    n_classes: Any,
    n_outputs: Any,
    max_depth: Any,
    names: Any,
    fields: Any,
    values: Any,
) -> Any:
    from sklearn.tree._tree import NODE_DTYPE, Tree

    nodes, weights = _structured(decoder, names, fields, NODE_DTYPE), decoder.value(values)
    leaf = nodes["left_child"] == -1
    _check_children(nodes["left_child"], nodes["right_child"], leaf)
    inner = nodes["feature"][~leaf]
    if not ((inner >= 0) & (inner < n_features)).all() or len(n_classes) != n_outputs:
        raise UnsafeFileError("a tree splits on features that it does not have.")
    if weights.shape != (len(nodes), n_outputs, max(n_classes)) or weights.dtype != np.float64:
        raise UnsafeFileError("the values of a tree have another shape than its nodes.")
    tree = Tree(n_features, np.array(n_classes, dtype=np.intp), n_outputs)
    state = {"max_depth": max_depth, "node_count": len(nodes), "nodes": nodes, "values": weights}
    tree.__setstate__(state)
    return tree


def _decode_predictor(decoder: Decoder, names: Any, fields: Any) -> Any:
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

    nodes = _structured(decoder, names, fields, PREDICTOR_RECORD_DTYPE)
    _check_children(nodes["left"], nodes["right"], nodes["is_leaf"].astype(bool))
    if nodes["is_categorical"].any():
        raise UnsafeFileError("trees that split on categories cannot be saved.")
    none = np.zeros((0, 8), dtype=np.uint32)
    return TreePredictor(nodes, none, none.copy())


def _encode_search_tree(item: Any, encoder: Encoder) -> list[Any]:
    data, leaf_size, metric = (item.__getstate__()[i] for i in (0, 4, -2))
    name = type(metric).__name__.removesuffix("64").removesuffix("Distance").lower()
    p = float(metric.__getstate__()[0]) if name == "minkowski" else None
    return ["search tree", type(item).__name__, encoder.add(data), int(leaf_size), name, p]


def _decode_search_tree(
    decoder: Decoder, kind: Any, data: Any, leaf_size: Any, metric: Any, p: Any
) -> Any:
    from sklearn.neighbors import BallTree, KDTree

    values = decoder.value(data)
    if metric not in METRICS or values.dtype != np.float64 or values.ndim != 2:
        raise UnsafeFileError("a search tree has an unknown distance, or data that are no table.")
    # built again from its data: the same tree
    options = {} if p is None else {"p": p}
    trees = {"KDTree": KDTree, "BallTree": BallTree}
    return trees[kind](values, leaf_size=leaf_size, metric=metric, **options)


def _decode_loss(decoder: Decoder, name: Any, n_classes: Any) -> Any:
    from sklearn._loss import loss

    if name not in LOSSES or not (n_classes is None or 1 <= n_classes <= 10_000):
        raise UnsafeFileError(f"{name!r} is no loss that save writes.")
    cls = getattr(loss, name)
    return cls(n_classes=n_classes) if name == "HalfMultinomialLoss" else cls()


def _encode_scorer(item: Any) -> list[Any] | None:
    from sklearn.metrics import get_scorer, get_scorer_names

    parts = ("_score_func", "_sign", "_kwargs", "_response_method")
    for name in get_scorer_names():
        known = get_scorer(name)
        if all(getattr(known, part) == getattr(item, part) for part in parts):
            return ["scorer", name]
    return None


def _decode_scorer(decoder: Decoder, name: Any) -> Any:
    from sklearn.metrics import get_scorer, get_scorer_names

    if name not in get_scorer_names():
        raise UnsafeFileError(f"{name!r:.80} is no scorer of scikit-learn.")
    return get_scorer(name)


def _decode_default_scorer(decoder: Decoder, estimator: Any) -> Any:
    from sklearn.metrics import check_scoring

    return check_scoring(decoder.value(estimator), None)


def _encode_booster(item: Any, encoder: Encoder) -> list[Any]:
    """Take the trees out of XGBoost's own JSON; what is left of it is short."""
    model = json.loads(bytes(item.save_raw("json")))
    booster = model["learner"]["gradient_booster"]
    if booster["name"] != "gbtree":
        raise ValueError(f"a booster {booster['name']!r} cannot be saved; use 'gbtree'.")
    trees = booster["model"].pop("trees")
    if any(tree[name] for tree in trees for name in CATEGORIES):
        raise ValueError("trees that split on categories cannot be saved.")
    sizes = np.array([len(tree["parents"]) for tree in trees], dtype=np.int64)
    columns = [
        np.concatenate([np.array(tree[name], dtype) for tree in trees] or [np.empty(0, dtype)])
        for name, dtype in BOOSTED.items()
    ]
    return ["booster", json.dumps(model), *encoder.add_all((sizes, columns))]


def _decode_booster(decoder: Decoder, text: Any, sizes: Any, columns: Any) -> Any:
    import xgboost

    counts, values = decoder.value(sizes), decoder.value(columns)
    model = json.loads(text)
    learner = model["learner"]
    n_features = int(learner["learner_model_param"]["num_feature"])
    inside = learner["gradient_booster"]["model"]
    _check_learner(learner, counts, n_features)
    parts = dict(zip(BOOSTED, values, strict=True))
    if any(part.shape != (counts.sum(),) for part in parts.values()):
        raise UnsafeFileError("the trees of a booster have another length than is said.")
    ends = np.cumsum(counts)
    inside["trees"] = [
        _boosted_tree({n: part[end - size : end] for n, part in parts.items()}, i, n_features)
        for i, (size, end) in enumerate(zip(counts.tolist(), ends.tolist(), strict=True))
    ]
    booster = xgboost.Booster()
    booster.load_model(bytearray(json.dumps(model).encode()))
    return booster


def _check_learner(learner: Any, counts: Any, n_features: int) -> None:
    booster = learner["gradient_booster"]
    n_groups = max(1, int(learner["learner_model_param"]["num_class"]))
    info = np.array(booster["model"]["tree_info"], dtype=np.int64)
    starts = np.array(booster["model"]["iteration_indptr"], dtype=np.int64)
    sound = (
        booster["name"] == "gbtree"
        and learner["objective"]["name"] in OBJECTIVES
        and int(learner["learner_model_param"]["num_target"]) == 1
        and 0 < n_features < 10**6
        and n_groups < 10**4
        and len(info) == len(counts) == int(booster["model"]["gbtree_model_param"]["num_trees"])
        and bool((counts > 0).all())
        and bool(((info >= 0) & (info < n_groups)).all())
        and len(starts) > 0
        and starts[0] == 0
        and starts[-1] == len(info)
        and bool((np.diff(starts) >= 0).all())
        and not any(booster["model"].get("cats", {}).values())
        and len(learner["feature_names"]) in (0, n_features)
    )
    if not sound:
        raise UnsafeFileError("a booster says of itself what does not fit together.")


def _boosted_tree(parts: dict[str, NDArray[Any]], number: int, n_features: int) -> dict[str, Any]:
    left, size = parts["left_children"], len(parts["left_children"])
    _check_children(left, parts["right_children"], left == -1)
    split = parts["split_indices"]
    if not ((split >= 0) & (split < n_features)).all() or parts["split_type"].any():
        raise UnsafeFileError("a boosted tree splits on features that it does not have.")
    above = np.full(size, 2**31 - 1)
    for children in (left, parts["right_children"]):
        above[children[left != -1]] = np.flatnonzero(left != -1)
    if not np.array_equal(above, parts["parents"]):
        raise UnsafeFileError("the parents of a boosted tree are not those of its children.")
    counted = {"num_nodes": size, "num_deleted": 0, "num_feature": n_features}
    return {
        **{name: part.tolist() for name, part in parts.items()},
        **{name: [] for name in CATEGORIES},
        "id": number,
        "tree_param": {n: str(v) for n, v in {**counted, "size_leaf_vector": 1}.items()},
    }


def check_consistent(made: Any) -> None:
    """Refuse an estimator whose parts do not fit each other where compiled code trusts that.

    What is missing is rebuilt: the interpolator of an isotonic regression, threads of a booster.
    """
    name, state = type(made).__name__, vars(made) if hasattr(made, "__dict__") else {}
    check = CHECKS.get(name)
    if check is None or not type(made).__module__.startswith(("sklearn.", "xgboost.")):
        return
    if not any(attribute.endswith("_") or attribute == "_Booster" for attribute in state):
        return  # not fitted
    if check(made) is False:
        raise UnsafeFileError(f"the parts of a {name} do not fit each other.")


def _fits_forest(made: Any) -> bool:
    trees = np.asarray(made.estimators_, dtype=object).ravel()
    n_outputs = getattr(made, "n_outputs_", 1)
    widths = getattr(made, "estimators_features_", None)
    if widths is None:
        widths = [range(made.n_features_in_)] * len(trees)
    in_range = all(len(w) and 0 <= min(w) and max(w) < made.n_features_in_ for w in widths)
    return in_range and all(
        type(t).__name__.startswith(("DecisionTree", "ExtraTree"))
        and t.tree_.n_features == len(w)
        and t.tree_.n_outputs == n_outputs
        for t, w in zip(trees, widths, strict=True)
    )


def _fits_tree(made: Any) -> bool:
    return bool(made.tree_.n_features == made.n_features_in_)


def _fits_boosting(made: Any) -> bool:
    shape = (made.n_trees_per_iteration_,)
    return made.estimators_.shape[1:] == shape and _fits_forest(made)


def _fits_histogram(made: Any) -> bool:
    per_round = made.n_trees_per_iteration_
    return made._baseline_prediction.size == per_round and all(
        len(trees) == per_round and (tree.nodes["feature_idx"] < made.n_features_in_).all()
        for trees in made._predictors
        for tree in trees
    )


def _fits_vectors(made: Any) -> bool:
    n, rows = made._n_support, made.support_vectors_
    n_classes = len(n) if hasattr(made, "classes_") else 2
    pairs = n_classes * (n_classes - 1) // 2
    sides = n_classes - 1
    total = int(n.sum()) if hasattr(made, "classes_") else len(rows)
    return bool(
        made.kernel in ("linear", "poly", "rbf", "sigmoid")
        and made._sparse is False
        and rows.ndim == 2
        and rows.shape == (total, made.n_features_in_)
        and (n >= 0).all()
        and made.support_.shape == (total,)
        and made._dual_coef_.shape == made.dual_coef_.shape == (sides, total)
        and made._intercept_.shape == made.intercept_.shape == (pairs,)
        and made._probA.shape == made._probB.shape
        and made._probA.shape in ((0,), (pairs,))
        and (not hasattr(made, "classes_") or len(made.classes_) == n_classes)
    )


def _fits_neighbors(made: Any) -> bool:
    n = len(made._fit_X)
    tree, labels = made._tree, getattr(made, "_y", None)
    fits = made._fit_X.shape == (n, made.n_features_in_) and made.n_samples_fit_ == n
    if tree is not None:
        fits = fits and np.asarray(tree.data).shape == made._fit_X.shape
    if labels is not None:
        fits = fits and len(labels) == n
        if hasattr(made, "classes_") and not made.outputs_2d_:
            fits = fits and 0 <= labels.min() and labels.max() < len(made.classes_)
    return bool(fits)


def _fits_clusters(made: Any) -> bool:
    return bool(made.cluster_centers_.shape[1:] == (made.n_features_in_,))


def _rebuild_isotonic(made: Any) -> None:
    made._build_f(made.X_thresholds_, made.y_thresholds_)


def _fits_booster(made: Any) -> None:
    made._Booster.set_param({"nthread": made.n_jobs or 0})


CHECKS = {
    "DecisionTreeClassifier": _fits_tree,
    "DecisionTreeRegressor": _fits_tree,
    "ExtraTreeClassifier": _fits_tree,
    "ExtraTreeRegressor": _fits_tree,
    "RandomForestClassifier": _fits_forest,
    "RandomForestRegressor": _fits_forest,
    "ExtraTreesClassifier": _fits_forest,
    "ExtraTreesRegressor": _fits_forest,
    "IsolationForest": _fits_forest,
    "GradientBoostingClassifier": _fits_boosting,
    "HistGradientBoostingClassifier": _fits_histogram,
    "SVC": _fits_vectors,
    "NuSVC": _fits_vectors,
    "OneClassSVM": _fits_vectors,
    "KNeighborsClassifier": _fits_neighbors,
    "KNeighborsRegressor": _fits_neighbors,
    "RadiusNeighborsClassifier": _fits_neighbors,
    "NearestNeighbors": _fits_neighbors,
    "LocalOutlierFactor": _fits_neighbors,
    "KMeans": _fits_clusters,
    "IsotonicRegression": _rebuild_isotonic,
    "XGBClassifier": _fits_booster,
    "XGBRegressor": _fits_booster,
}
COMPILED: dict[str, Callable[..., Any]] = {
    "tree": _decode_tree,
    "predictor": _decode_predictor,
    "search tree": _decode_search_tree,
    "loss": _decode_loss,
    "scorer": _decode_scorer,
    "default scorer": _decode_default_scorer,
    "booster": _decode_booster,
}
