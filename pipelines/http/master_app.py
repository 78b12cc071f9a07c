"""The routes of a living master."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from plancast.pipelines.engines.base import EnvironmentFailed
from plancast.pipelines.http import master_bodies as bodies
from plancast.pipelines.http.bodies import read_body, schemas
from plancast.pipelines.http.faults import add_faults, known_parameters
from plancast.pipelines.http.guards import BODY_S, Guard
from plancast.pipelines.http.limits import BodyLimits
from plancast.pipelines.http.master_metrics import MasterMetrics
from plancast.pipelines.http.metrics import CONTENT_TYPE
from plancast.pipelines.http.openapi import body_of, content_of, fault_of, openapi_document
from plancast.pipelines.master.client import MARK
from plancast.pipelines.master.desk import Ask, Clash, Desk, Flooded, Unknown
from plancast.pipelines.master.looks import Looks
from plancast.pipelines.master.service import Service
from plancast.pipelines.master.submissions import names_before, new_tasks

TAGS = [
    {"name": "tasks", "description": "What is to run."},
    {"name": "workers", "description": "What takes new tasks."},
    {"name": "looks", "description": "Where all stands."},
    {"name": "operations", "description": "Health and counters."},
]
FAULTS = (401, 404, 408, 409, 413, 415, 422, 429, 503)
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
POLL_S, QUIET_S = 0.25, 15.0
"""Seconds between two looks for new events, and of silence after which a comment is sent."""
ENDING = "the master is starting or ending; send it again"
SMALL_BODY = 1 << 14
"""Bytes below which a body is read at once."""

Body = TypeVar("Body")
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
TaskName = Annotated[str, Query(min_length=1)]


def create_master_app(
    service: Service,
    *,
    token: str | None,
    limits: BodyLimits | None = None,
    body_s: float = BODY_S,
    ending: Callable[[], bool] = lambda: False,
) -> Any:
    """The master's service as an ASGI application.

    Parameters
    ----------
    service : Service
        Started with the application, and stopped with it.
    token, limits, body_s
        As of ``http.app.create_app``.
    ending : callable
        Whether the server is about to end: streams of events end then.
    """
    limits = limits or BodyLimits()
    routes = _Routes(service, limits, ending)
    app = FastAPI(
        title="plancast master",
        version="1",
        description="A scheduler that stays: tasks come, are planned, promised a start, and run.",
        openapi_tags=TAGS,
        lifespan=routes.lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(known_parameters)],
    )
    routes.add(app)
    add_faults(app, {Clash: 409, Unknown: 404, Flooded: 429, EnvironmentFailed: 503})
    app.openapi = lambda: openapi_document(app, lambda: schemas(bodies.ADAPTERS))  # type: ignore[method-assign]
    return Guard(
        app, token=token, most_bytes=limits.most_bytes, body_s=body_s,
        answered=routes.metrics.answered, open_paths=OPEN_PATHS, mark=MARK,
    )  # fmt: skip


class _Routes:
    """Routes and what they share."""

    def __init__(self, service: Service, limits: BodyLimits, ending: Callable[[], bool]) -> None:
        self.service, self.limits, self.ending = service, limits, ending
        self.metrics = MasterMetrics()
        # Large bodies are read one at a time: each takes a multiple of its length.
        self.reading = asyncio.Lock()
        self._looks: Looks | None = None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Start the loop, and end it."""
        self.service.start()
        try:
            yield
        finally:
            if self._looks is not None:
                self._looks.close()
            await run_in_threadpool(self.service.stop)

    def add(self, app: FastAPI) -> None:
        """All paths."""
        for path, tag, answer, takes in (
            ("/v1/tasks", "tasks", self.submit, bodies.SubmitBody),
            ("/v1/tasks/cancel", "tasks", self._asking("cancel"), bodies.TasksBody),
            ("/v1/tasks/hold", "tasks", self._asking("hold"), bodies.TasksBody),
            ("/v1/tasks/release", "tasks", self._asking("release"), bodies.TasksBody),
            ("/v1/tasks/prioritise", "tasks", self._asking("prioritise"), bodies.WeightBody),
            ("/v1/workers/drain", "workers", self._asking("drain"), bodies.WorkersBody),
            ("/v1/workers/undrain", "workers", self._asking("undrain"), bodies.WorkersBody),
        ):
            app.add_api_route(
                path, answer, methods=["POST"], tags=[tag], response_model=None, status_code=202,
                responses={202: {"description": "It is on the disk.", **content_of(bodies.Receipt)},
                           **{f: fault_of(f) for f in FAULTS}},
                openapi_extra={"requestBody": body_of(takes, bodies.EXAMPLES[takes])},
            )  # fmt: skip
        for path, look, gives, faults in (
            ("/v1/queue", self.queue, bodies.Queue, ()),
            ("/v1/why", self.why, bodies.Look, (404,)),
            ("/v1/log", self.log, bodies.Log, (404,)),
            ("/v1/status", self.status, bodies.Status, ()),
        ):
            app.add_api_route(
                path, look, methods=["GET"], tags=["looks"], response_model=None,
                responses={200: content_of(gives),
                           **{f: fault_of(f) for f in (401, 422, 503, *faults)}},
            )  # fmt: skip
        stream = {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
        app.add_api_route(
            "/v1/events", self.events, methods=["GET"], tags=["looks"], response_model=None,
            response_class=StreamingResponse,
            responses={200: stream, **{f: fault_of(f) for f in (401, 422, 503)}},
        )  # fmt: skip
        for path, health in (("/healthz", self.healthz), ("/readyz", self.readyz)):
            app.add_api_route(
                path, health, response_model=None, tags=["operations"],
                responses={503: fault_of(503)}, openapi_extra={"security": []},
            )  # fmt: skip
        app.add_api_route(
            "/metrics", self.scrape, response_class=PlainTextResponse, tags=["operations"],
            responses={401: fault_of(401)},
        )  # fmt: skip

    # ------------------------------------------------------------------ what is asked for

    async def submit(self, request: Request, key: Key = None) -> Response:
        """Take tasks in: once this is answered with 202 they are on the disk, and will run.

        With a key in the header Idempotency-Key the same submission sent again does nothing.
        """
        desk = self._desk()
        body = await self._read(request, bodies.SubmitBody)
        new = await run_in_threadpool(self._new_tasks, body)
        asked = {"command": body.command, "hold": body.hold}
        return await self._put(desk, Ask("submit", asked, key, new))

    def _asking(self, kind: str) -> Any:
        takes = bodies.WeightBody if kind == "prioritise" else (
            bodies.WorkersBody if kind.endswith("drain") else bodies.TasksBody
        )  # fmt: skip

        async def asking(request: Request, key: Key = None) -> Response:
            desk = self._desk()
            body = await self._read(request, takes)
            return await self._put(desk, Ask(kind, body.model_dump(), key))

        asking.__name__ = kind
        asking.__doc__ = DOES[kind]
        return asking

    async def _put(self, desk: Desk, ask: Ask) -> Response:
        try:
            receipt = await asyncio.shield(asyncio.wrap_future(desk.put(ask)))
        except asyncio.CancelledError:  # the server ends, and waits for the disk no longer
            raise HTTPException(503, ENDING) from None
        return JSONResponse(
            {"ask": receipt.ask, "again": receipt.again,
             "tasks": len(ask.new or ask.body.get("names", []))}, 202,
        )  # fmt: skip

    def _new_tasks(self, body: bodies.SubmitBody) -> Any:
        looks, settings = self._look(), self.service.settings
        known = looks.states(names_before(body.tasks))
        return new_tasks(
            body.tasks, body.array, body.estimates, body.command, known, looks.shown.mind.snapshot,
            settings,
        )  # fmt: skip

    # ------------------------------------------------------------------ looks

    async def queue(self, most: Annotated[int, Query(ge=1, le=100_000)] = 1000) -> Response:
        """What runs and what waits, with forecast starts and the reason in words."""
        return _answer(bodies.Queue, {"tasks": await run_in_threadpool(self._look().queue, most)})

    async def why(self, task: TaskName) -> Response:
        """Where a task stands, what it waits for, and when it starts."""
        return _answer(bodies.Look, await self._of_task(self._look().why, task))

    async def log(self, task: TaskName) -> Response:
        """The files that a task's runs have printed to, and the last lines of each."""
        return _answer(bodies.Log, await self._of_task(self._look().log, task))

    async def status(self) -> Response:
        """The whole in numbers."""
        return _answer(bodies.Status, await run_in_threadpool(self._look().status))

    async def events(
        self,
        after: Annotated[int | None, Query(ge=0)] = None,
        last: Annotated[int | None, Header(alias="Last-Event-ID", ge=0)] = None,
    ) -> Response:
        """What happens, as server-sent events; from the next one on, or after a number."""
        looks = self._look()
        since = looks.shown.event if after is None and last is None else (after or last or 0)
        return StreamingResponse(self._stream(looks, since), media_type="text/event-stream")

    async def _stream(self, looks: Looks, since: int) -> AsyncIterator[str]:
        quiet_s = 0.0
        yield ": plancast\n\n"
        while not self.ending() and not self.service.ending.is_set():
            found = []
            if looks.shown.event > since:
                found = await run_in_threadpool(looks.events, since)
            for one in found:
                since, quiet_s = one["number"], 0.0
                yield f"id: {since}\nevent: {one['kind']}\ndata: {json.dumps(one)}\n\n"
            if not found:
                await asyncio.sleep(POLL_S)
                quiet_s += POLL_S
            if quiet_s >= QUIET_S:
                quiet_s = 0.0
                yield ": still here\n\n"

    # ------------------------------------------------------------------ health

    async def healthz(self) -> Response:
        """Whether the loop goes on."""
        if not self.service.well:
            raise HTTPException(503, "the loop has stopped")
        return JSONResponse({"status": "ok"})

    async def readyz(self) -> Response:
        """Whether asks are taken, and the engine answers."""
        if not self.service.ready:
            raise HTTPException(503, self.service.away or "the master is starting or ending")
        return JSONResponse({"status": "ok"})

    async def scrape(self) -> Response:
        """All counters, in Prometheus' text format."""
        living = self.service.living
        if living is not None:
            status = await run_in_threadpool(self._look().status)
            self.metrics.look(living, status)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    # ------------------------------------------------------------------ inside

    def _desk(self) -> Desk:
        desk = self.service.desk
        if desk is None or self.service.living is None or self.service.ending.is_set():
            raise HTTPException(503, ENDING)
        return desk

    def _look(self) -> Looks:
        living = self.service.living
        if living is None:
            raise HTTPException(503, "the master is starting; ask again")
        if self._looks is None:
            self._looks = Looks(living)
        return self._looks

    async def _of_task(self, look: Callable[[str], Any], task: str) -> Any:
        try:
            return await run_in_threadpool(look, task)
        except KeyError:
            raise HTTPException(404, f"there is no task {task!r}") from None

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        text = await request.body()
        if len(text) < SMALL_BODY:
            self.limits.check(text)
            return read_body(kind, text)
        async with self.reading:
            await run_in_threadpool(self.limits.check, text)
            return await run_in_threadpool(read_body, kind, text)


DOES = {
    "cancel": "Tasks are wanted no more: one that runs is stopped.",
    "hold": "Tasks that wait are not started until they are released.",
    "release": "Held tasks may start again.",
    "prioritise": "An hour of these tasks' waiting counts so much from now on.",
    "drain": "Workers take nothing new, and finish what they run.",
    "undrain": "Drained workers take tasks again.",
}


def _answer(kind: Any, found: Any) -> Response:
    adapter = bodies.ADAPTERS[kind]
    text = adapter.dump_json(adapter.validate_python(found), exclude_none=False)
    return Response(text, media_type="application/json")
