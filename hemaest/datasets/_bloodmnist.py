"""BloodMNIST, fetched once and checked."""

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np
from sklearn.utils import Bunch

CLASSES = {
    0: "basophil",
    1: "eosinophil",
    2: "erythroblast",
    3: "immature granulocyte",
    4: "lymphocyte",
    5: "monocyte",
    6: "neutrophil",
    7: "platelet",
}
SOURCE = "https://zenodo.org/records/10519652/files/"
# checksums as the publishers list them
MD5 = {
    28: "7053d0359d879ad8a5505303e11de1dc",
    64: "2b94928a2ae4916078ca51e05b6b800b",
    128: "adace1e0ed228fccda1f39692059dd4c",
    224: "b718ff6835fcbdb22ba9eacccd7b2601",
}
SCHEMES = ("http", "https")
PARTS = ("train", "val", "test")
DESCR = """
17,092 peripheral blood cells of 8 types: the Barcelona set, cut to its middle and reduced to
squares of 28, 64, 128 or 224 pixels, with an official split of 7 : 1 : 2 at image level.
License: CC BY 4.0.

Yang J. et al. (2023), MedMNIST v2, Scientific Data 10, 41; Acevedo A. et al. (2020), Data in Brief
30, 105474.
"""


def fetch_bloodmnist(
    *,
    size: Literal[28, 64, 128, 224] = 28,
    subset: Literal["all", "train", "val", "test"] = "all",
    data_home: str | os.PathLike[str] | None = None,
    source: str = SOURCE,
    md5: str | None = None,
) -> Bunch:
    """Fetch BloodMNIST (8 types) with its official split; a second call reads the kept file.

    Parameters
    ----------
    size : {28, 64, 128, 224}, default=28
        Side of the images.
    subset : {"all", "train", "val", "test"}, default="all"
        A part of the official split.
    data_home : str or path-like, optional
        Where the file is kept; by default the user's cache folder.
    source : str
        Address (http or https) of the folder to fetch from; another one serves as a mirror.
    md5 : str, optional
        Checksum to expect instead of the published one, for a mirror that holds another file.

    Returns
    -------
    bunch : sklearn.utils.Bunch
        ``images`` (dense), ``target`` (0 to 7), ``class_names``, ``groups``, ``group_source``,
        ``subset``, ``filenames``, ``DESCR``.

    Examples
    --------
    >>> fetch_bloodmnist(size=32)
    Traceback (most recent call last):
    ...
    ValueError: size=32; it must be one of 28, 64, 128, 224.
    """
    if size not in MD5:
        raise ValueError(f"size={size!r}; it must be one of {', '.join(map(str, MD5))}.")
    if subset not in {"all", *PARTS}:
        raise ValueError(f"subset={subset!r}; it must be one of 'all', 'train', 'val', 'test'.")
    name = "bloodmnist.npz" if size == 28 else f"bloodmnist_{size}.npz"
    file = fetch(source, name, md5 or MD5[size], data_home)
    wanted = PARTS if subset == "all" else (subset,)
    with np.load(file) as data:
        images = np.concatenate([data[f"{part}_images"] for part in wanted])
        target = np.concatenate([data[f"{part}_labels"].ravel() for part in wanted]).astype(int)
        lengths = [len(data[f"{part}_labels"]) for part in wanted]
    parts = np.repeat(wanted, lengths)
    places = [f"{part}/{i}" for part, n in zip(wanted, lengths, strict=True) for i in range(n)]
    return Bunch(
        images=images,
        target=target,
        class_names=dict(CLASSES),
        groups=np.array(places),
        group_source="none",
        subset=parts,
        filenames=places,
        DESCR=DESCR.strip(),
    )


def fetch(
    source: str, name: str, md5: str, data_home: str | os.PathLike[str] | None = None
) -> Path:
    """Return a file of the cache, fetched when it is not there; refuse a wrong checksum.

    The file appears only when it is whole: an interrupted download leaves nothing behind and
    starts again.
    """
    import pooch
    import requests

    _check_address(source)
    folder = _cache_folder(data_home)
    keeper = pooch.create(folder, source.rstrip("/") + "/", registry={name: f"md5:{md5.lower()}"})
    keeper.retry_if_failed = 2
    pooch.get_logger().setLevel("ERROR")
    try:
        return Path(keeper.fetch(name))
    except requests.RequestException as error:
        raise ConnectionError(
            f"{name} could not be fetched from {source}: {error}. Without a network, put the file "
            f"into {folder} yourself, or give data_home= the folder that holds it."
        ) from error
    except OSError as error:
        raise OSError(
            f"{name} could not be kept in data_home={folder}: {error}. Give data_home= a folder "
            "that you may write to, with room for the file."
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{name} from {source} was not kept, because its checksum is not the expected one: the "
            "transfer was cut off, so try again; or the address holds another file, which needs "
            f"its own md5=. {error}"
        ) from error


def _check_address(source: str) -> None:
    if urlsplit(source).scheme not in SCHEMES:
        raise ValueError(
            f"source={source!r} is no address; it must begin with {' or '.join(SCHEMES)}://. For a "
            "file on this machine give data_home= the folder that holds it."
        )


def _cache_folder(data_home: str | os.PathLike[str] | None) -> Path:
    """Return where files are kept: the given folder, by default the user's cache."""
    import pooch

    if data_home is None:
        return Path(pooch.os_cache("hemaest"))
    folder = Path(data_home).expanduser()
    if os.path.isfile(folder):
        raise NotADirectoryError(
            f"data_home={folder} is a file; it must be a folder, or the name of one to make."
        )
    return folder
