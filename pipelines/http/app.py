"""The routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from plancast.pipelines.http import bodies
from plancast.pipelines.http.board import Board, Conflict, control_of
from plancast.pipelines.http.extender import ExtenderArgs, filter_nodes, prioritize_nodes
from plancast.pipelines.http.faults import add_faults, known_parameters
from plancast.pipelines.http.guards import BODY_S, Guard
from plancast.pipelines.http.limits import BodyLimits
from plancast.pipelines.http.metrics import CONTENT_TYPE, Metrics
from plancast.pipelines.http.openapi import (
    CHOICES,
    TAGS,
    body_of,
    content_of,
    fault_of,
    openapi_document,
    tag_of,
)
from plancast.pipelines.http.planners import Ask, Planners, QueueFull
from plancast.pipelines.operators.eta import eta_of_request
from plancast.pipelines.planner_process import PlannerLost, Question, plan_in_time, rethink
from plancast.planner.model.messages import Budget, PlanRequest, PlanResponse
from plancast.planner.solvers import SOLVERS

SolverName = Annotated[str, Query(pattern=f"^(auto|{'|'.join(SOLVERS)})$")]

Body = TypeVar("Body")

CHOICE = "Plancast-Choice"
"""Header of the answer to a replan: keep, repair or replan."""

Forecast = Callable[[bodies.ForecastBody], Any]
"""From tasks to estimates; see ``plancast.pipelines.http.forecasts``."""

SMALL_BODY = 1 << 14
"""Bytes below which a body is read at once."""


def create_app(
    planners: Callable[[], Planners],
    *,
    forecast: Forecast | None = None,
    token: str | None = None,
    limits: BodyLimits | None = None,
    body_s: float = BODY_S,
    clock: Callable[[], float] = time.time,
) -> Any:
    """The service as an ASGI application.

    Parameters
    ----------
    planners : callable
        Starts the planner processes; called when the application starts.
    forecast : callable, optional
        None: ``/v1/forecast`` answers 409.
    token : str, optional
        Bearer token that every path but ``/healthz`` asks for.
    limits : BodyLimits, optional
        How large a body may be.
    body_s : float
        Longest time that a body may take to arrive.
    clock : callable
        Seconds since the epoch, for the Kubernetes routes.
    """
    limits = limits or BodyLimits()
    service = _Service(planners, forecast, clock, limits)
    app = FastAPI(
        title="plancast",
        version="1",
        description="Plans batches of tasks, and holds one cluster's state and plan.",
        openapi_tags=TAGS,
        lifespan=service.lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(known_parameters)],
    )
    service.add_routes(app)
    add_faults(app, {Conflict: 409, QueueFull: 429, PlannerLost: 503})
    app.openapi = lambda: openapi_document(app)  # type: ignore[method-assign]
    return Guard(
        app, token=token, most_bytes=limits.most_bytes, body_s=body_s,
        answered=service.metrics.answered,
    )  # fmt: skip


class _Service:
    """Routes and what they share."""

    def __init__(
        self,
        planners: Callable[[], Planners],
        forecast: Forecast | None,
        clock: Callable[[], float],
        limits: BodyLimits,
    ) -> None:
        self.start_planners = planners
        self.planners: Planners | None = None
        self.not_ready = "the planners are starting"
        self.forecast_tasks = forecast
        self.clock = clock
        self.limits = limits
        # Large bodies are read one at a time: each takes a multiple of its length.
        self.reading = asyncio.Lock()
        self.board = Board()
        self.metrics = Metrics()

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Start the planners, and end them."""
        started = self.start_planners()
        # Not awaited: until they are ready /healthz says that they start.
        warming = asyncio.create_task(self._warm_up(started))
        try:
            yield
        finally:
            warming.cancel()
            started.close()

    async def _warm_up(self, started: Planners) -> None:
        try:
            await started.warm_up()
        except PlannerLost as error:
            self.not_ready = f"the planners cannot be started: {error}"
        else:
            self.planners = started

    def add_routes(self, app: FastAPI) -> None:
        """All paths."""
        post, get = ["POST"], ["GET"]
        for path, methods, answer, takes, gives, faults in (
            ("/v1/plan", post, self.plan, PlanRequest, PlanResponse, (409, 429, 503)),
            ("/v1/replan", post, self.replan, bodies.ReplanBody, PlanResponse, (409, 429, 503)),
            ("/v1/events", post, self.events, bodies.EventsBody, bodies.Standing, (409,)),
            ("/v1/state", get, self.state, None, bodies.Standing, (409,)),
            ("/v1/explain", get, self.explain, None, bodies.Explanation, (404, 409)),
            ("/v1/eta", get, self.eta, None, bodies.Starts, (409,)),
            ("/v1/forecast", post, self.forecast, bodies.ForecastBody, bodies.Forecasts, (409,)),
            ("/k8s/filter", post, self.k8s_filter, ExtenderArgs, None, ()),
            ("/k8s/prioritize", post, self.k8s_prioritize, ExtenderArgs, None, (409,)),
        ):
            always = (401, 408, 413, 415, 422) if takes else (401, 422)
            good = content_of(gives)
            if answer == self.replan:
                good["headers"] = {CHOICE: {"required": True, "schema": CHOICES}}
            app.add_api_route(
                path,
                answer,
                methods=methods,
                tags=[tag_of(path)],
                response_model=None,
                responses={200: good, **{f: fault_of(f) for f in (*always, *faults)}},
                openapi_extra={"requestBody": body_of(takes)} if takes else None,
            )
        app.add_api_route(
            "/healthz", self.healthz, response_model=None, tags=[tag_of("/healthz")],
            responses={503: fault_of(503)}, openapi_extra={"security": []},
        )  # fmt: skip
        app.add_api_route(
            "/metrics", self.scrape, response_class=PlainTextResponse, tags=[tag_of("/metrics")],
            responses={401: fault_of(401)},
        )  # fmt: skip

    async def plan(
        self, request: Request, solver: SolverName = "auto", hold: bool = False
    ) -> Response:
        """Plan a request. With hold=true it becomes the state that the other paths speak of."""
        received = time.monotonic()
        asked = await self._read(request, PlanRequest)
        if hold:
            self.board.check_newer(asked.snapshot)

        def question(left: Budget) -> Question:
            return plan_in_time, (replace(asked, budget=left), solver, time.monotonic())

        answer: PlanResponse = await self._asked(question, asked.budget, received)
        self.metrics.planned(answer, time.monotonic() - received)
        if hold:
            await run_in_threadpool(self.board.hold, asked, answer)
        return _answer(answer)

    async def replan(self, request: Request, solver: SolverName | None = None) -> Response:
        """Keep the plan in force, repair it, or plan anew, and put in force what comes of it.

        Which is chosen by how late and how costly the plan has become, and said in the header
        Plancast-Choice. With a solver named it is planned anew by that one.
        """
        received = time.monotonic()
        how = await self._read(request, bodies.ReplanBody)
        asked = self.board.asked(how.seed, how.now_s)
        budget = how.budget or asked.request.budget

        def question(left: Budget) -> Question:
            asked.control = control_of(self.board.control, left, how.budget is not None)
            return rethink, (asked, solver, time.monotonic())

        decision, answer = await self._asked(question, budget, received)
        self.metrics.planned(answer, time.monotonic() - received)
        self.metrics.choices.labels(decision.choice.value).inc()
        await run_in_threadpool(self.board.commit, asked, decision, answer)
        return _answer(answer, {CHOICE: decision.choice.value})

    async def events(self, request: Request) -> Response:
        """Fold events into the snapshot that is held: all of them, or none."""
        found = await self._read(request, bodies.EventsBody)
        await run_in_threadpool(
            self.board.tell, found.events, found.estimates, found.expected_version
        )
        for event in found.events:
            self.metrics.events.labels(event.kind).inc()
        return _answer(self._standing())

    async def state(self) -> Response:
        """Version and counts of what is held, and the plan in force."""
        return _answer(self._standing())

    async def explain(
        self, task: Annotated[str, Query(min_length=1)], now_s: int | None = None
    ) -> Response:
        """Where a task stands, what it waits for, and until when."""
        try:
            found = await run_in_threadpool(self.board.explain, task, now_s)
            return _answer(bodies.Explanation(**found))
        except KeyError:
            raise HTTPException(404, f"task {task!r} is not in the snapshot that is held") from None

    async def eta(
        self,
        samples: Annotated[int, Query(ge=2, le=1000)] = 100,
        dispatcher: Literal["easy", "conservative"] = "easy",
        now_s: int | None = None,
    ) -> Response:
        """When each waiting task would start under a discipline of queues, and what would help."""
        asked = self.board.asked(None, now_s).request
        found = await run_in_threadpool(
            eta_of_request, asked, samples=samples, discipline=dispatcher
        )
        jobs = tuple(bodies.Start(**job) for job in found["jobs"])
        return _answer(bodies.Starts(found["made_at_s"], jobs))

    async def forecast(self, request: Request) -> Response:
        """Run-time quantiles of tasks, from the model that is served."""
        wanted = await self._read(request, bodies.ForecastBody)
        if self.forecast_tasks is None:
            raise HTTPException(409, "no model is served; start with --model")
        found = await run_in_threadpool(self.forecast_tasks, wanted)
        return _answer(bodies.Forecasts(found))

    async def k8s_filter(self, request: Request) -> Response:
        """A Kubernetes scheduler extender's filter: ExtenderArgs to ExtenderFilterResult."""
        args = await self._read(request, ExtenderArgs)
        try:
            return JSONResponse(filter_nodes(self.board, args, self.clock()))
        except Conflict as error:
            return JSONResponse({"Error": str(error)})

    async def k8s_prioritize(self, request: Request) -> Response:
        """A Kubernetes scheduler extender's prioritize: ExtenderArgs to HostPriorityList."""
        args = await self._read(request, ExtenderArgs)
        return JSONResponse(prioritize_nodes(self.board, args))

    async def healthz(self) -> Response:
        """Whether requests are taken."""
        if self.planners is None:
            raise HTTPException(503, self.not_ready)
        return JSONResponse({"status": "ok"})

    async def scrape(self) -> Response:
        """All counters, in Prometheus' text format."""
        if self.planners is not None:
            self.metrics.waiting.set(self.planners.waiting)
            self.metrics.lost.set(self.planners.lost)
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)

    async def _asked(self, ask: Ask, budget: Budget, received: float) -> Any:
        if self.planners is None:
            raise HTTPException(503, self.not_ready)
        return await self.planners.plan(ask, budget, received)

    async def _read(self, request: Request, kind: type[Body]) -> Body:
        text = await request.body()
        if len(text) < SMALL_BODY:
            self.limits.check(text)
            return bodies.read_body(kind, text)
        # In a thread: a request of 10,000 tasks takes a good part of a second to check.
        async with self.reading:
            await run_in_threadpool(self.limits.check, text)
            return await run_in_threadpool(bodies.read_body, kind, text)

    def _standing(self) -> bodies.Standing:
        mind, response, decision = self.board.known, self.board.response, self.board.decision
        snapshot = mind.snapshot
        made = response.plan if response else None
        return bodies.Standing(
            version=snapshot.version,
            now_s=snapshot.now_s,
            workers=len(snapshot.workers),
            pending=len(snapshot.pending),
            running=len(snapshot.running),
            finished=len(snapshot.finished),
            planned=sum(t.id in made.by_task for t in snapshot.pending) if made else 0,
            stopping=len(mind.stopping),
            plan_version=response.snapshot_version if response else None,
            status=response.status.value if response else None,
            cost=response.cost if response else None,
            choice=decision.choice.value if decision else None,
            reason=decision.reason if decision else None,
        )


def _answer(value: Any, headers: dict[str, str] | None = None) -> Response:
    text = bodies.ADAPTERS[type(value)].dump_json(value)
    return Response(text, media_type="application/json", headers=headers)
