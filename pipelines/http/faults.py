"""Every fault of a service as one sentence under ``error``."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from plancast.pipelines.http.limits import TooLarge
from plancast.pipelines.inputs.foreign import nearest
from plancast.planner.model.domain import BadRequest
from plancast.planner.model.faults import in_words
from plancast.wording import shorten

AGAIN = {"Retry-After": "1"}


def add_faults(app: FastAPI, own: Mapping[type[Exception], int]) -> None:
    """Answer faults, those of the service's own with their statuses; 429 may be asked again."""

    def handler(status: int) -> Any:
        async def handle(request: Request, error: Exception) -> Response:
            headers = AGAIN if status == 429 else None
            return JSONResponse({"error": str(error)}, status, headers)

        return handle

    app.add_exception_handler(BadRequest, handler(422))
    app.add_exception_handler(TooLarge, handler(413))
    for kind, status in own.items():
        app.add_exception_handler(kind, handler(status))
    app.add_exception_handler(HTTPException, _http_fault)
    app.add_exception_handler(RequestValidationError, _parameter_fault)
    # Nobody hears this answer; without one each client that leaves would log a traceback.
    app.add_exception_handler(ClientDisconnect, handler(400))


async def _http_fault(request: Request, error: Any) -> Response:
    said, path, headers = error.detail, shorten(request.url.path), dict(error.headers or {})
    if said == HTTPStatus.NOT_FOUND.phrase:  # the router's own, of any method
        said = f"there is no path {path}; /openapi.json lists all"
    elif said == HTTPStatus.METHOD_NOT_ALLOWED.phrase:
        said = f"{path} takes {headers['Allow']}, not {shorten(request.method)}"
        if headers["Allow"] == "GET":  # the guard answers the other
            headers["Allow"] = "GET, HEAD"
    return JSONResponse({"error": said}, error.status_code, headers)


async def _parameter_fault(request: Request, error: Any) -> Response:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return JSONResponse({"error": f"{where}: {in_words(first)}"}, 422)


async def known_parameters(request: Request) -> None:
    """Refuse a parameter of the URL that its route does not know, or twice, as a body's field is.

    A route's dependency. Paths of others' conventions (``/metrics``, ``/healthz``, ``/k8s``) take
    what comes.
    """
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    if not request.url.path.startswith("/v1/"):
        return
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in known:
            hint = nearest(name, known) if known else "it takes none"
            raise BadRequest(f"query.{name}: is no parameter of this path; {hint}")
        if given.count(name) > 1:
            raise BadRequest(f"query.{name}: is there twice; remove one")
