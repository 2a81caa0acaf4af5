"""Files that try to harm whoever loads them; every checksum is right.

``corpus(folder, canary)`` writes them all. Whatever would run creates the file ``canary``. The
tests load each one, and so does the benchmark of reliability.
"""

import copy
import dataclasses
import io
import json
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load as read_arrays, save as write_arrays
from sklearn.base import ClassifierMixin
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    StackingClassifier,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics._scorer import _Scorer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from hemaest.clinical import DifferentialCounter
from hemaest.nets import SmallUNet
from hemaest.persistence import info, save, save_data
from hemaest.preprocessing import AdaptiveLocalHistogramEnhancer
from hemaest.stain import MacenkoNormalizer, ReinhardNormalizer, VahadaneNormalizer

X = np.random.default_rng(0).normal(size=(40, 3))
Y = np.arange(40) % 3


class Reduced:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def entries_of(path):
    """Return the content of each entry of a file."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries):
    """Return a file of these entries as save writes it: the zip, and the checksum behind it."""
    return zipped(entries.items())


class File:
    """The entries of a saved model, to be changed and written with a right checksum."""

    def __init__(self, model, folder):
        path = save(model, folder / "sound.hemaest")
        self.card = {k: v for k, v in info(path).items() if k != "checksum"}
        self.entries = entries_of(path)
        self.content = json.loads(self.entries["estimator.json"])
        self.nodes = self.content["nodes"]
        self.arrays = read_arrays(self.entries["arrays.safetensors"])

    def node(self, kind):
        """Return the first node of a kind."""
        return next(node for node in self.nodes if node[0] == kind)

    def attributes(self, key):
        """Return the attributes of the first object of a class."""
        return next(n for n in self.nodes if n[0] == "object" and n[1].endswith(key))[2]

    def set(self, key, name, value):
        """Give an attribute of an object another value."""
        pairs = self.attributes(key)
        pairs[:] = [pair for pair in pairs if pair[0] != name] + [[name, value]]
        return self

    def insert(self, *nodes):
        """Put nodes before all others."""
        n = len(nodes)

        def shifted(value):
            if isinstance(value, list):
                if len(value) == 1 and type(value[0]) is int:
                    return [value[0] + n]
                return [shifted(part) for part in value]
            return value

        moved = [
            node if node[0] in ("array", "objects", "random state", "weights") else shifted(node)
            for node in self.nodes
        ]
        for node in moved:
            if node[0] == "objects":
                node[2] = shifted(node[2])
        self.nodes[:] = [*nodes, *moved]
        self.content["root"] = shifted(self.content["root"])
        return self

    def values(self, ref, dtype):
        """Return an array that a node refers to, to be changed in place."""
        return self.arrays[str(self.nodes[ref[0]][4])].view(dtype)

    def bytes(self):
        """Return the file."""
        self.arrays = {name: np.array(values) for name, values in self.arrays.items()}
        changed = {
            "card.json": json.dumps(self.card).encode(),
            "estimator.json": json.dumps(self.content).encode(),
            "arrays.safetensors": write_arrays(self.arrays),
        }
        return packed({**self.entries, **changed})


def _arrays_for_kernels(folder):
    """Yield models whose fitted arrays or settings our own compiled loops would take on trust."""
    images = np.random.default_rng(0).integers(30, 250, (6, 24, 24, 3)).astype(np.uint8)
    for normalizer in (MacenkoNormalizer(), VahadaneNormalizer(), ReinhardNormalizer()):
        name = type(normalizer).__name__
        fitted = normalizer.fit(images)
        for part in fitted.target_:
            for what, change in {
                "not a number": lambda v: v * np.nan,
                "infinite": lambda v: v + np.inf,
                "too short": lambda v: v[:1],
                "too long": lambda v: np.concatenate([v, v]),
                "empty": lambda v: v[:0],
            }.items():
                target = {**fitted.target_, part: change(fitted.target_[part])}
                yield f"{name}: {part} {what}", _crafted(fitted, folder, target_=target)
        yield f"{name}: target is a list", _crafted(fitted, folder, target_=[1.0, 2.0])
        yield f"{name}: target lacks all", _crafted(fitted, folder, target_={})
    for setting, value in {
        "tiles": -3,
        "clip_limit": float("nan"),
        "noise": -1.0,
    }.items():
        enhancer = AdaptiveLocalHistogramEnhancer()
        yield f"ALHE: {setting} is {value}", _crafted(enhancer, folder, **{setting: value})
    counter = _counter()
    known = counter._confusion
    wide = {f.name: getattr(known, f.name) for f in dataclasses.fields(known)}
    for name, values in wide.items():
        for what, changed in (
            {"short": values[:, :1], "empty": values[:0]}.items() if values.ndim > 1 else ()
        ):
            crafted = type(known)(**{**wide, name: changed})
            yield f"counter: {name} {what}", _crafted(counter, folder, _confusion=crafted)
    yield "counter: more types than rows", _crafted(counter, folder, types_=(*counter.types_, "x"))


def _counter():
    rng = np.random.default_rng(0)
    y = rng.choice(["lymphocyte", "monocyte"], 60)
    rows = np.c_[(y == "lymphocyte") * 1.0, rng.normal(size=60)]
    counter = DifferentialCounter(LogisticRegression().fit(rows, y), taxonomy=None)
    return counter.fit(rows, y, groups=np.arange(60) % 6)


def _crafted(model, folder, **attributes):
    """Return the file of a model with other attributes, which save itself would refuse."""
    changed = copy.deepcopy(model)
    vars(changed).update(attributes)
    entries = entries_of(save_data(changed, folder / "changed"))
    return packed({**File(model, folder).entries, **entries})


def of_nodes(*nodes, root=None, n_arrays=0, arrays=None, **more):
    """Return a file that holds some nodes."""
    content = {"nodes": list(nodes), "root": root or [len(nodes) - 1], "n_arrays": n_arrays}
    return with_entries(
        {
            "estimator.json": json.dumps(content).encode(),
            "arrays.safetensors": write_arrays(arrays or {}),
            **more,
        }
    )


def card():
    """Return a card that is accepted."""
    return {
        "format": 2,
        "estimator": "Pipeline",
        "classes": [],
        "steps": [],
        "versions": {},
        "names_beyond_the_list": [],
        "data_hash": None,
        "trained_on": {},
        "claim": None,
    }


def with_entries(entries):
    return packed({"card.json": json.dumps(card()).encode(), **entries})


def sealed(archive):
    """Return a zip, made in any way, with the ending of a container."""
    import hashlib

    mark = b"hemaest sha256 "
    at = archive.rindex(b"PK\5\6")
    body = archive[: at + 20] + struct.pack("<H", len(mark) + 64) + mark
    return body + hashlib.sha256(body).hexdigest().encode()


def zipped(entries, how=zipfile.ZIP_STORED, change=None):
    """Return a sealed zip of (name, content); ``change`` edits an entry before it is written."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", how) as archive:
        warnings.simplefilter("ignore")  # one name twice is meant
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = how
            if change:
                change(entry)
            archive.writestr(entry, content)
    return sealed(stream.getvalue())


def obj(key, **attributes):
    return ["object", key, [[name, value] for name, value in attributes.items()]]


def pickles(canary):
    """Yield pickles in every place where one might be read."""
    command = f"touch {canary}"
    system = __import__("os").system
    call = pickle.dumps(Reduced(system, command))
    chain = _eval_chain(canary)
    for name, content in {"a call": call, "the chain of eval": chain}.items():
        yield (
            f"pickle, {name}, format 1",
            packed(
                {
                    "card.json": json.dumps({**card(), "format": 1}).encode(),
                    "estimator.pickle": content,
                }
            ),
        )
        yield f"pickle, {name}, format 2", with_entries({"estimator.pickle": content})
        yield (
            f"pickle, {name}, in place of nodes",
            with_entries({"estimator.json": content, "arrays.safetensors": write_arrays({})}),
        )
        yield (
            f"pickle, {name}, in place of arrays",
            of_nodes(["list", []], **{"arrays.safetensors": content}),
        )
        yield f"pickle, {name}, bare", content
    stream = io.BytesIO()
    import joblib

    joblib.dump(Reduced(system, command), stream)
    yield "joblib", stream.getvalue()
    import torch

    stream = io.BytesIO()
    torch.save({"net": Reduced(system, command)}, stream)
    yield "torch", stream.getvalue()
    yield "torch, sealed", sealed(stream.getvalue())
    stream = io.BytesIO()
    np.save(stream, np.array([Reduced(system, command)], dtype=object), allow_pickle=True)
    yield "npy of objects", with_entries({"estimator.json": stream.getvalue()})


def _eval_chain(canary):
    """Return the pickle that ran code through DataFrame.eval, of allowed classes alone."""
    import pandas as pd

    scorer = _Scorer(max, 1, {}, "predict")
    scorer._response_method = "eval"
    frozen = FrozenEstimator(pd.DataFrame({"a": [1]}))
    mixed = type("Mixed", (), {})
    del mixed
    return pickle.dumps([scorer, frozen, f"@np.f2py.os.system('touch {canary}')"])


def names(canary):
    """Yield files that name what is on no list."""
    for key in (
        *("os:system", "builtins:eval", "builtins:exec", "subprocess:Popen", "numpy.f2py:os"),
        *("numpy.f2py.__main__:main", "operator:methodcaller", "functools:partial", "joblib:load"),
        *("torch:load", "torch.hub:load", "pickle:loads", "xgboost.tracker:RabitTracker"),
        *("sklearn.metrics._scorer:_Scorer", "sklearn.base:ClassifierMixin", "antigravity:x"),
        *("sklearn.svm:SVC.__class__", "sklearn.svm:os", "hemaest.persistence:load"),
        *("hemaest.cli:main", "hemaest.images:ImageRef", "hemaest.deep:__getattr__", "", ":"),
        *("sklearn.utils._testing:TempMemmap", "pandas:DataFrame", "hemaest.stain.os:system"),
    ):
        yield f"class {key}", of_nodes(obj(key, a=f"touch {canary}"))
    for key in (
        *("os:system", "operator:attrgetter", "functools:partial", "numpy:load", "builtins:eval"),
        *("pandas:eval", "numpy.f2py:os", "sklearn.svm:SVC", None, 3),
    ):
        yield (
            f"function {key}",
            of_nodes(
                ["function", key],
                obj("sklearn.preprocessing:FunctionTransformer", func=[0], kw_args=None),
            ),
        )
    for kind in ("reduce", "build", "__reduce__", "eval", "call", "_node", "decode", "REDUCE"):
        yield f"kind {kind}", of_nodes([kind, "os:system", [f"touch {canary}"]])
    for name in ("eval", "make_scorer", "_Scorer", None, "../x"):
        yield f"scorer {name}", of_nodes(["scorer", name])
    for name in ("Sequential", "Module", "os", "build_net", None):
        yield f"network {name}", of_nodes(["dict", []], ["network", name, [0], [0], False])


def attributes(folder, canary):
    """Yield sound models of which one attribute was changed."""
    linear = LogisticRegression().fit(X, Y)
    stacked = StackingClassifier([("a", LogisticRegression())], LogisticRegression(), cv=2)
    stacked.fit(X, Y)
    frozen = FrozenEstimator(linear)
    command = f"@np.f2py.os.system('touch {canary}')"
    table = [
        ["objects", [1], [command]],
        ["index", "str", [0], None],
        ["counted", [1], None],
        ["table", [2], [1], [["numpy", [0]]]],
    ]
    for name in (
        *("predict", "predict_proba", "score", "__class__", "__dict__", "__reduce__", "fit"),
        *("__setstate__", "_get_tags", "__sklearn_tags__", "get_params", "a b", "coef_.x", ""),
    ):
        yield (
            f"attribute {name}",
            File(linear, folder).set("LogisticRegression", name, command).bytes(),
        )
    yield "attribute of one name twice", _doubled(linear, folder)
    for name in ("stack_method", "stack_method_"):
        file = File(stacked, folder).insert(["list", ["eval"]])
        yield f"{name} is eval", file.set("StackingClassifier", name, [0]).bytes()
    file = File(stacked, folder)
    yield "stack_method is a name", file.set("StackingClassifier", "stack_method", "query").bytes()
    index = ["range", [0, 1, 1]]
    table_nodes = [index, ["counted", [0], None], ["index", "numpy", [2], None]]
    values = ["objects", [1], [command]]
    table_nodes = [
        index,
        ["counted", [0], None],
        values,
        ["index", "str", [2], None],
        ["table", [1], [3], [["str", [2]]]],
    ]
    file = File(frozen, folder).insert(*table_nodes)
    yield "a frozen table", file.set("FrozenEstimator", "estimator", [4]).bytes()
    file = File(frozen, folder).insert(["dict", [["eval", command]]])
    yield "a frozen dict", file.set("FrozenEstimator", "estimator", [0]).bytes()
    yield (
        "a table in a pipeline",
        of_nodes(
            *table_nodes,
            ["tuple", ["x", [4]]],
            ["list", [[5]]],
            obj("sklearn.pipeline:Pipeline", steps=[6], memory=None, verbose=False),
        ),
    )
    del table
    for key in ("sklearn.pipeline:Pipeline", "hemaest.recipes:ImagePipeline"):
        yield (
            f"memory of {key}",
            of_nodes(["list", []], obj(key, steps=[0], memory=str(folder), verbose=False)),
        )
    transformer = "sklearn.preprocessing:FunctionTransformer"
    yield "func is text", of_nodes(obj(transformer, func="eval", kw_args=None))
    yield (
        "func has arguments",
        of_nodes(
            ["function", "numpy:log"],
            ["dict", [["out", str(canary)]]],
            obj(transformer, func=[0], kw_args=[1]),
        ),
    )
    for n_jobs in (10**9, "x", -(10**6)):
        file = File(linear, folder)
        yield f"n_jobs {n_jobs}", file.set("LogisticRegression", "n_jobs", n_jobs).bytes()


def _doubled(model, folder):
    file = File(model, folder)
    file.attributes("LogisticRegression").append(["coef_", "x"])
    return file.bytes()


def structures(folder):
    """Yield files whose numbers do not fit each other."""
    forest = RandomForestClassifier(2, random_state=0).fit(X, Y)
    for name, field, change in (
        ("cycle", "left_child", 0),
        ("far child", "right_child", 10**6),
        ("negative child", "left_child", -7),
        ("far feature", "feature", 10**6),
    ):
        file = File(forest, folder)
        tree = file.node("tree")
        fields = file.nodes[tree[5][0]][1]
        columns = file.nodes[tree[6][0]][1]
        file.values(columns[fields.index(field)], np.int64)[0] = change
        yield f"tree, {name}", file.bytes()
    file = File(forest, folder)
    yield (
        "forest of fewer features",
        file.set("RandomForestClassifier", "n_features_in_", 1).bytes(),
    )
    file = File(forest, folder)
    file.node("tree")[2] = [10**9]
    yield "tree of many classes", file.bytes()
    boosted = GradientBoostingClassifier(n_estimators=2).fit(X, Y)
    file = File(boosted, folder)
    yield (
        "boosting of another width",
        file.set("GradientBoostingClassifier", "n_trees_per_iteration_", 1).bytes(),
    )
    histogram = HistGradientBoostingClassifier(max_iter=2).fit(X, Y)
    file = File(histogram, folder)
    columns = file.nodes[file.node("predictor")[2][0]][1]
    fields = file.nodes[file.node("predictor")[1][0]][1]
    file.values(columns[fields.index("feature_idx")], np.int64)[:] = 10**6
    yield "histogram, far feature", file.bytes()
    vectors = SVC().fit(X, Y)
    file = File(vectors, folder).set("svm:SVC", "n_features_in_", 30)
    yield "vectors of more features", file.bytes()
    file = File(vectors, folder)
    ref = dict(file.attributes("svm:SVC"))["_n_support"]
    file.values(ref, np.int32)[:] = 10**6
    yield "more vectors than there are", file.bytes()
    neighbors = KNeighborsClassifier(3).fit(X, Y)
    file = File(neighbors, folder)
    ref = dict(file.attributes("KNeighborsClassifier"))["_y"]
    file.values(ref, np.int64)[:] = 10**6
    yield "labels of no class", file.bytes()
    yield from boosters(folder)


def boosters(folder):
    from xgboost import XGBClassifier

    model = XGBClassifier(n_estimators=2, max_depth=2).fit(X, Y)

    def changed(edit):
        file = File(model, folder)
        node = file.node("booster")
        content = json.loads(node[1])
        edit(content["learner"])
        node[1] = json.dumps(content)
        return file.bytes()

    def linear(learner):
        learner["gradient_booster"]["name"] = "gblinear"

    def objective(learner):
        learner["objective"]["name"] = "rank:pairwise"

    def groups(learner):
        learner["gradient_booster"]["model"]["tree_info"][0] = 10**6

    def features(learner):
        learner["learner_model_param"]["num_feature"] = "1"

    for edit in (linear, objective, groups, features):
        yield f"booster, {edit.__name__}", changed(edit)
    for name, at in (("far child", 2), ("far feature", 7)):
        file = File(model, folder)
        columns = file.nodes[file.node("booster")[3][0]][1]
        file.values(columns[at], np.int32)[0] = 10**6
        yield f"booster, {name}", file.bytes()


def encodings(folder):
    """Yield files whose nodes are broken or describe far too much."""
    yield "a node refers to itself", of_nodes(["list", [[0]]])
    yield "a node refers forward", of_nodes(["list", [[1]]], ["list", []])
    yield "a node refers backward beyond", of_nodes(["list", [[-1]]])
    yield "no nodes", of_nodes(root=[0])
    yield "the root is none", of_nodes(["list", []], root=[7])
    yield "nodes are text", of_nodes("list")
    yield "a JSON object as a value", of_nodes(["list", [{"__reduce__": "x"}]])
    yield "a list as a key", of_nodes(["list", []], ["dict", [[[0], 1]]])
    yield "text as a float", of_nodes(["float", "__import__('os')"])
    yield "a scalar of another size", of_nodes(["scalar", "<f8", "00"])
    yield "a class as a type", of_nodes(["type", "Popen"])
    yield (
        "a generator of no name",
        of_nodes(["dict", [["bit_generator", "__loader__"]]], ["generator", [0]]),
    )
    yield "a device of no kind", of_nodes(["device", "meta:9", None])
    data = {"0": np.zeros(8, np.uint8)}
    for name, dtype, shape in (
        *(("objects", "|O", [1]), ("structured", "<f8,<f8", [1]), ("no type", "eval", [1])),
        *(("huge", "<f8", [10**9, 10**9]), ("negative", "<f8", [-1]), ("nested", "<f8", [[1]])),
        *(("empty text", "<U0", [10**12]), ("much text", "<U2", [10**12])),
    ):
        node = ["array", dtype, shape, "C", 0]
        yield f"array, {name}", of_nodes(node, n_arrays=1, arrays=data)
    node = ["array", "<f8", [1], "C", 0]
    yield "one array twice", of_nodes(node, node, n_arrays=1, arrays=data)
    yield "an array that is not there", of_nodes(["array", "<f8", [1], "C", 3], n_arrays=1)
    yield "a billion arrays", of_nodes(["list", []], n_arrays=10**9)
    raw = json.dumps({"nodes": [["list", []]], "root": [0], "n_arrays": 0})
    for name, text in {
        "deep": "[" * 400_000,
        "deep and closed": "[" * 200_000 + "]" * 200_000,
        "wide": "[" + "[]," * 4_000_000 + "[]]",
        "long": "[" + "1," * 7_000_000 + "1]",
        "not a number": raw.replace("[0]", "[NaN]"),
        "infinite": raw.replace('"n_arrays": 0', '"n_arrays": Infinity'),
        "a number of many digits": raw.replace("[0]", f"[{'9' * 100_000}]"),
        "cut": raw[:-4],
        "no text": "\ud800",
    }.items():
        entry = text.encode("utf-8", "surrogatepass")
        arrays = write_arrays({})
        yield f"JSON, {name}", with_entries({"estimator.json": entry, "arrays.safetensors": arrays})
        yield f"card, {name}", packed({"card.json": entry, "estimator.json": raw.encode()})
    for name, content in {
        "a list": [],
        "no versions": {"format": 2},
        "versions of another kind": {**card(), "versions": {"a": []}},
        "trained on text": {**card(), "trained_on": "x"},
        "steps of no steps": {**card(), "steps": [{"class": []}]},
        "a claim of no facts": {**card(), "claim": {"facts": []}},
        "a later format": {"format": 10**6, "versions": {}},
    }.items():
        yield f"card is {name}", packed({"card.json": json.dumps(content).encode()})
    header = json.dumps({"0": {"dtype": "F64", "shape": [10**12], "data_offsets": [0, 8]}}).encode()
    overlap = json.dumps(
        {n: {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]} for n in "01"}
    ).encode()
    for name, content in {
        "long header": struct.pack("<Q", 2**62) + b"{}",
        "huge tensor": struct.pack("<Q", len(header)) + header + bytes(8),
        "overlap": struct.pack("<Q", len(overlap)) + overlap + bytes(8),
        "nothing": b"",
        "text": b"eval" * 10,
    }.items():
        yield f"safetensors, {name}", of_nodes(["list", []], **{"arrays.safetensors": content})


def networks(folder, canary):
    """Yield models whose networks are larger than the file."""
    from public import make

    from hemaest.datasets import make_cells

    cells = make_cells(6, classes=["lymphocyte", "neutrophil"], image_size=32, random_state=0)
    model = make("ImageClassifier").fit(cells.images, cells.target)
    for name, options in {
        "wide": [["channels", [0]]],
        "unknown": [["__class__", "x"]],
    }.items():
        file = File(model, folder)
        file.insert(["tuple", [8, 8, 16, 1_000_000]], ["dict", options])
        yield f"network, {name}", file.set("ImageClassifier", "backbone_options", [1]).bytes()
    planted = folder / "planted.pth"
    import torch

    torch.save(Reduced(__import__("os").system, f"touch {canary}"), planted)
    for option in ("checkpoint_path", "pretrained_cfg", "cache_dir"):
        file = File(model, folder)
        file.insert(["dict", [[option, str(planted)]]])
        yield f"network, {option}", file.set("ImageClassifier", "backbone_options", [0]).bytes()
        file.insert(["dict", [["backbone", "resnet18"], ["options", [0]]]])
        yield f"structure, {option}", file.set("ImageClassifier", "_architecture", [0]).bytes()
    for name in ("hf-hub:a/b", f"local-dir:{folder}"):
        yield (
            f"network {name[:8]}",
            File(model, folder).set("ImageClassifier", "backbone", name).bytes(),
        )
    file = File(model, folder)
    yield (
        "network of another name",
        file.set("ImageClassifier", "backbone", "convnextv2_huge").bytes(),
    )
    yield (
        "network that trains elsewhere",
        file.set("ImageClassifier", "checkpoint_dir", str(folder)).bytes(),
    )
    net = SmallUNet(3, 3, (4, 4))
    weights = {k: v.numpy() for k, v in net.state_dict().items()}
    names = [[n, "C", list(v.shape)] for n, v in weights.items()]
    flat = {n: np.ascontiguousarray(v) for n, v in weights.items()}
    for label, widths in {"wide": [4, 10**5], "deep": [4] * 5000}.items():
        yield (
            f"U-Net, {label}",
            of_nodes(
                ["tuple", widths],
                ["dict", [["in_channels", 3], ["out_channels", 3], ["widths", [0]]]],
                ["weights", 0, names],
                ["network", "SmallUNet", [1], [2], False],
                **{"weights-0.safetensors": write_arrays(flat)},
            ),
        )


def containers(folder):
    """Yield zips that are more than they seem."""
    sound = [
        ("card.json", json.dumps(card()).encode()),
        ("estimator.json", b'{"nodes": [["list", []]], "root": [0], "n_arrays": 0}'),
        ("arrays.safetensors", write_arrays({})),
    ]
    bomb = bytes(250 << 20)
    yield "bomb, card", zipped([("card.json", bomb), *sound[1:]], zipfile.ZIP_DEFLATED)
    yield "bomb, arrays", zipped([*sound[:2], ("arrays.safetensors", bomb)], zipfile.ZIP_DEFLATED)
    yield "bomb, bzip2", zipped([("card.json", bomb[: 20 << 20]), *sound[1:]], zipfile.ZIP_BZIP2)
    del bomb
    yield "one name twice", zipped([*sound, sound[0]])
    for name in (
        "../../up.json",
        "/etc/up.json",
        "a/b.json",
        "C:\\x.json",
        "card.json\0x",
        "é.json",
    ):
        yield f"entry {name!r}", zipped([*sound, (name, b"{}")])
    yield (
        "entry that is a link",
        zipped(
            [*sound, ("link.json", b"/etc/passwd")],
            change=lambda entry: setattr(entry, "external_attr", 0o120777 << 16),
        ),
    )
    yield "entry that is missing", zipped(sound[:2])
    yield "entry too many", zipped([*sound, ("weights-7.safetensors", write_arrays({}))])
    content = zipped(sound)
    yield "encrypted", _patched(content, 8, b"\1\0")
    yield "lying size", _patched(content, 24, struct.pack("<L", 1 << 31))
    yield "lying place", _patched(content, 42, struct.pack("<L", 5))
    yield "lying method", _patched(content, 10, struct.pack("<H", 99))
    at = content.rindex(b"PK\5\6")
    counts = content[: at + 8] + struct.pack("<HH", 60_000, 60_000) + content[at + 12 :]
    yield "lying count", sealed(counts)
    yield "bytes before", sealed(b"PK" + bytes(1000) + content)
    yield "nothing in it", zipped([])
    yield "empty", b""
    yield "ending alone", b"PK" + b"hemaest sha256 " + b"0" * 64


def _patched(content, offset, value):
    """Change a field of the first entry of the central directory."""
    at = content.index(b"PK\1\2") + offset
    return sealed(content[:at] + value + content[at + len(value) :])


def corpus(folder, canary):
    """Write all files and return their paths by name."""
    folder = Path(folder)
    found = {}
    for source in (
        *(pickles(canary), names(canary), attributes(folder, canary), structures(folder)),
        *(encodings(folder), networks(folder, canary), containers(folder)),
        _arrays_for_kernels(folder),
    ):
        for name, content in source:
            path = folder / f"{len(found):03d}.hemaest"
            path.write_bytes(content)
            found[name] = path
    (folder / "sound.hemaest").unlink(missing_ok=True)
    assert ClassifierMixin.score is not range
    return found
