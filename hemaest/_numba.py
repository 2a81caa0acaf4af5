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
