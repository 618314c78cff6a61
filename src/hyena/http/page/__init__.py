"""The page at `/`: static files without a build step, which ask nothing of any other host."""

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

_STATIC = Path(__file__).parent / "static"

_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-cache",  # so that an upgraded server is not asked by an older page
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def router() -> APIRouter:
    """The routes of the page's files."""
    routes = APIRouter(include_in_schema=False)
    files = {path.name: path for path in _STATIC.iterdir() if path.suffix in _MEDIA_TYPES}

    @routes.get("/")
    def index() -> FileResponse:
        return _answer(files["index.html"])

    @routes.get("/page/{name}")
    def part(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404, f"there is no file {name!r} of the page")
        return _answer(files[name])

    return routes


def _answer(path: Path) -> FileResponse:
    return FileResponse(path, headers=_HEADERS, media_type=_MEDIA_TYPES[path.suffix])
