"""How the library compiles its kernels, and where it keeps them."""

import os
import pickle
import stat
import tempfile
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any


def kernel(function: Any = None, *, fastmath: bool = True, inline: bool = False) -> Any:
    """Compile without the GIL, and without the zero-division checks that forbid vector code.

    The machine code is kept on disk: beside the module, else in the user's cache folder, else in a
    private folder among the temporary files, else not at all. So a read-only installation and an
    absent home directory cost time but stop nothing, and neither does a full disk.

    Parameters
    ----------
    function : callable
        What to compile. ``@kernel`` and ``@kernel(...)`` both work.
    fastmath : bool, default=True
        Let sums be reordered. False for kernels whose values must be those of the formula.
    inline : bool, default=False
        Compile the function into those that call it.

    Examples
    --------
    >>> @kernel
    ... def double(x):
    ...     return 2 * x
    >>> double(21)
    42
    """
    if function is None:
        return partial(kernel, fastmath=fastmath, inline=inline)
    from numba import config, njit

    compiled = partial(
        njit,
        nogil=True,
        fastmath=fastmath,
        error_model="numpy",
        inline="always" if inline else "never",
    )
    try:
        if os.path.expanduser("~") == "~":  # no home is known: numba would make a folder "~" here
            raise RuntimeError
        return _forgiving(compiled(cache=True)(function))
    except RuntimeError:  # numba found no folder that it can write to
        folder = private_folder()
    if folder is None:
        return compiled()(function)
    settings: Any = config
    before, settings.CACHE_DIR = settings.CACHE_DIR, folder
    try:
        return _forgiving(compiled(cache=True)(function))
    except RuntimeError:
        return compiled()(function)
    finally:
        settings.CACHE_DIR = before


def private_folder() -> str | None:
    """Return a folder among the temporary files that this user alone can write to, or None.

    Machine code of another user would run as this one.
    """
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    try:
        folder = Path(tempfile.gettempdir()) / f"hemaest-kernels-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        return None
    return str(folder)


def _forgiving(dispatcher: Any) -> Any:
    """Let a kernel whose code cannot be read from disk or written there compile all the same."""
    cache = getattr(dispatcher, "_cache", None)  # absent where numba is switched off
    for name in ("load_overload", "save_overload") if cache is not None else ():
        setattr(cache, name, _passing_errors(getattr(cache, name)))
    return dispatcher


def _passing_errors(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def attempt(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except (OSError, EOFError, pickle.PickleError):  # a full disk, a file cut short
            return None

    return attempt


def raise_if_interrupted(error: BaseException) -> None:
    """Raise KeyboardInterrupt where that is what an error comes from.

    Ctrl-C in compiled code comes out as a SystemError, which would pass for a failure of the work.

    Examples
    --------
    >>> raise_if_interrupted(ValueError("a broken file"))
    """
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
