"""How the library compiles its kernels."""

from typing import Any


def kernel(function: Any) -> Any:
    """Compile without the GIL, and without the zero-division checks that forbid vector code.

    The machine code is kept on disk where there is a writable place for it.
    """
    from numba import njit

    options: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # no writable place
        return njit(**options)(function)


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
