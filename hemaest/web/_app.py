"""The application: routes, page, protection, and the command that serves it."""

import contextlib
import json
import shutil
import socket
import tempfile
import threading
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from hemaest import clinical, persistence
from hemaest.web._safety import COOKIE, HEADERS, Settings, examine, is_loopback, refusal
from hemaest.web._store import Conflict, Missing, Store
from hemaest.web._why import Busy
from hemaest.web._workers import WorkerPool

__all__ = ["create_app", "serve"]

HERE = Path(__file__).parent


def create_app(settings: Settings | None = None) -> Any:
    """Return the ASGI application of the review page.

    Parameters
    ----------
    settings : Settings, optional
        Where the state lies, which model names the cells, who is let in.

    Returns
    -------
    app : fastapi.FastAPI
        Run it with uvicorn, or call :func:`serve`.

    Examples
    --------
    >>> from hemaest.web import Settings, create_app
    >>> app = create_app(Settings(ephemeral=True))
    >>> app.title
    'hemaest review'
    """
    try:
        import python_multipart  # noqa: F401
        from fastapi import FastAPI
    except ImportError:
        raise ImportError(
            "the review page needs fastapi, uvicorn and python-multipart: "
            'pip install "hemaest[web]"'
        ) from None
    from hemaest.web._routes import make_router

    settings = settings or Settings()
    review, close = _open(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        review.pool.start()
        try:
            yield
        finally:
            close()

    app = FastAPI(
        title="hemaest review",
        description="Analyze, correct and sign smears. Changes need the header `X-Hemaest: 1`.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.review = review
    app.include_router(make_router(review))
    _add_pages(app)
    _add_errors(app)
    _protect(app, settings)
    return app


def _open(settings: Settings) -> tuple[Any, Callable[[], None]]:
    """Open the state folder; return what the routes share, and how to close it."""
    from hemaest.web._shared import Review

    temporary = Path(tempfile.mkdtemp(prefix="hemaest-review-")) if settings.ephemeral else None
    folder = temporary or (settings.state or Path("hemaest-review")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(folder / "review.sqlite")
    pool = WorkerPool(store, settings.workers, model=settings.model, max_pixels=settings.max_pixels)
    review = Review(settings, folder, store, pool, _load_counter(settings.counter))
    pool.on_change = review.changed
    _open_paths(review)

    def close() -> None:
        pool.stop()
        review.explainer.stop()
        review.slides.close()
        store.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)

    return review, close


def _load_counter(path: Path | None) -> Any:
    """Return the counter that gives the intervals, or None."""
    if path is None:
        return None
    counter = persistence.load(path)
    if not isinstance(counter, clinical.DifferentialCounter):
        raise ValueError(f"{path} holds a {type(counter).__name__}, not a DifferentialCounter.")
    return counter


def _open_paths(review: Any) -> None:
    """Open a session with the files that the command named, where they are."""
    settings = review.settings
    if not settings.paths:
        return
    session = review.store.new_session(settings.paths[0].resolve().name or "Smear")
    for path in settings.paths:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in files:
            kind, problem = examine(file, settings, own=True)
            if problem is not None and path.is_dir() and "no image of a kind" in problem:
                continue  # a folder also holds tables and notes
            kept = file.resolve()
            if settings.copy_images and problem is None and kind == "image":
                (review.folder / "images").mkdir(exist_ok=True)
                kept = Path(shutil.copy2(file, review.folder / "images" / f"{session}_{file.name}"))
            number = review.store.add_field(session, file.name, kept, kind)
            if problem is not None:
                review.store.fail(number, problem)


def _add_pages(app: Any) -> None:
    """Add the page, the description of the API, and the files that they load."""
    from fastapi.responses import HTMLResponse
    from fastapi.staticfiles import StaticFiles
    from jinja2 import Environment, FileSystemLoader

    texts = json.loads((HERE / "static" / "texts.json").read_text(encoding="utf-8"))
    pages = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True)
    modules = sorted(p.stem for p in (HERE / "static").glob("*.js") if p.stem != "api_page")
    index = pages.get_template("index.html").render(t=texts, modules=modules)
    api = pages.get_template("api.html").render(t=texts)

    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(index)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(api)

    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")


def _add_errors(app: Any) -> None:
    """Turn what the store refuses into answers that say what is wrong."""
    from fastapi.responses import JSONResponse

    def answer(status: int) -> Callable[[Any, Exception], Any]:
        return lambda request, error: JSONResponse({"detail": str(error)}, status)

    app.add_exception_handler(Missing, answer(404))
    app.add_exception_handler(Conflict, answer(409))
    app.add_exception_handler(FileNotFoundError, answer(410))
    app.add_exception_handler(Busy, answer(429))
    app.add_exception_handler(ValueError, answer(422))


def _protect(app: Any, settings: Settings) -> None:
    """Refuse who may not enter, and send the protecting headers with every answer."""
    from fastapi.responses import JSONResponse

    @app.middleware("http")
    async def protect(request: Any, following: Callable[[Any], Awaitable[Any]]) -> Any:
        refused = refusal(request, settings)
        length = request.headers.get("content-length", "0")
        if refused is None and length.isdecimal():
            most = max(settings.max_bytes * min(settings.max_files, 64), settings.max_slide_bytes)
            most += 2**20
            if int(length) > most:
                refused = 413, f"the request is larger than {most / 2**20:.0f} MB."
        if refused is not None:
            response = JSONResponse({"detail": refused[1]}, refused[0])
        else:
            response = await following(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if settings.token is not None and request.query_params.get("token") == settings.token:
            response.set_cookie(COOKIE, settings.token, httponly=True, samesite="strict")
        return response


def serve(settings: Settings | None = None, *, open_browser: bool = False) -> None:
    """Serve the review page until it is interrupted.

    Parameters
    ----------
    settings : Settings, optional
        As :func:`create_app` takes them.
    open_browser : bool
        Open the page in the browser of this machine.

    Examples
    --------
    >>> from hemaest.web import Settings, serve
    >>> serve(Settings(state="smears"), open_browser=True)  # doctest: +SKIP
    """
    settings = settings or Settings()
    app = create_app(settings)
    import uvicorn

    listening = _listen(settings.host, settings.port)
    where = "localhost" if is_loopback(settings.host) else settings.host
    address = f"http://{where}:{listening.getsockname()[1]}/"
    if settings.token is not None:
        address += f"?token={settings.token}"
    print(f"The review page: {address}  (Ctrl-C ends it)", flush=True)
    if open_browser:
        threading.Timer(1.0, webbrowser.open, (address,)).start()
    # clients close what rested for some seconds (httpx: 5, browsers: 60 and more); a server that
    # closes first, in the moment of a request, loses that request
    config = uvicorn.Config(
        app,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket at an address; port 0 takes any that is free."""
    kind = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small answers at once (TCP_NODELAY) only where the protocol is named
    listening = socket.socket(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"port {port} of {host}: {error.strerror}") from error
    return listening
