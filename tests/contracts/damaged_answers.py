"""Damages of what an answer says of its plan, and of its text."""

from __future__ import annotations

import json

from plancast.planner.model.evaluate import relative_gap
from tests.contracts.damages import KIND, Case, Expected, damage

# --------------------------------------------------------------------------- status, cost, bound


@damage
def _no_plan_said_where_there_is_one(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["status"] = case.pick(["infeasible", "no_plan_in_time"])
    return KIND.WRONG_STATUS, "but there is a plan"


@damage
def _a_plan_said_where_there_is_none(case: Case) -> Expected:
    if case.body["plan"]:
        return None
    case.body["status"] = case.pick(["feasible", "optimal"])
    return KIND.WRONG_STATUS, "but there is no plan"


@damage
def _the_plan_taken_out(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["plan"] = None
    return KIND.WRONG_STATUS, "but there is no plan"


@damage
def _the_plan_taken_out_and_its_cost_left(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body |= {"plan": None, "status": "no_plan_in_time"}
    return KIND.WRONG_COST, "of no plan"


@damage
def _called_impossible_though_it_was_planned(case: Case) -> Expected:
    snapshot, policy = case.request.snapshot, case.request.policy
    bounded = policy.hard_deadlines or policy.max_wait_s is not None or policy.max_stretch
    drains = any(w.until_s is not None for w in snapshot.workers)
    if bounded or drains or case.row(lambda r, t: not set(t.after) & set(case.tasks)) is None:
        return None
    case.body |= {
        "plan": None, "status": "infeasible", "cost": None, "terms": {}, "lower_bound": None,
        "gap": None, "moved": [], "why": {},
    }  # fmt: skip
    return KIND.WRONG_STATUS, "would fit once workers are free"


@damage
def _optimal_called_feasible(case: Case) -> Expected:
    if case.body["status"] != "optimal":
        return None
    case.body["status"] = "feasible"
    return KIND.WRONG_STATUS, "proves the plan optimal"


@damage
def _feasible_called_optimal(case: Case) -> Expected:
    if case.body["status"] != "feasible":
        return None
    case.body["status"] = "optimal"
    return KIND.WRONG_BOUND, "the status is optimal"


@damage
def _another_cost(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    case.body["cost"] += (1 + case.body["cost"]) * float(case.rng.choice([-0.5, 1e-4, 3]))
    return KIND.WRONG_COST, "cost is said to be"


@damage
def _no_cost(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    case.body["cost"] = None
    return KIND.WRONG_COST, "cost is said to be None"


@damage
def _another_term(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    term = case.pick(case.body["terms"])
    case.body["terms"][term] += (1 + case.body["terms"][term]) * float(case.rng.choice([-0.5, 2]))
    return KIND.WRONG_TERMS, f"term {term} is said"


@damage
def _a_term_left_out(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    term = case.pick(case.body["terms"])
    del case.body["terms"][term]
    return KIND.WRONG_TERMS, f"term {term} is said to be None"


@damage
def _a_term_that_does_not_exist(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    case.body["terms"]["beauty"] = 0.0
    return KIND.WRONG_TERMS, "term beauty"


@damage
def _a_bound_above_the_cost(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    case.body |= {"lower_bound": 1.01 * case.body["cost"] + 0.01, "gap": 0.0, "status": "optimal"}
    return KIND.WRONG_BOUND, "exceeds the cost"


@damage
def _no_bound(case: Case) -> Expected:
    if case.body["lower_bound"] is None:
        return None
    case.body["lower_bound"] = None
    return KIND.WRONG_BOUND, "needs a lower bound"


@damage
def _another_gap(case: Case) -> Expected:
    if case.body["gap"] is None:
        return None
    case.body["gap"] = case.pick([case.body["gap"] + 0.01, case.body["gap"] / 2 + 0.6, None])
    gap = relative_gap(case.body["cost"], case.body["lower_bound"])
    if case.body["gap"] is not None and abs(case.body["gap"] - gap) < 1e-3:
        return None
    return KIND.WRONG_BOUND, "the gap is said"


# --------------------------------------------------------------------------- moved, unplanned, why


@damage
def _a_move_made_up(case: Case) -> Expected:
    still = [name for name in case.tasks if name not in case.body["moved"]]
    if not case.body["plan"] or not still:
        return None
    case.body["moved"].append(case.pick(still))
    return KIND.WRONG_MOVED, "moved is said"


@damage
def _a_move_kept_quiet(case: Case) -> Expected:
    if not case.body["moved"]:
        return None
    case.body["moved"].remove(case.pick(case.body["moved"]))
    return KIND.WRONG_MOVED, "moved is said"


@damage
def _a_planned_task_called_unplanned(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    case.body["unplanned"][row["task"]] = "it does not fit"
    return KIND.WRONG_UNPLANNED, f"task {row['task']} is unplanned and planned"


@damage
def _an_unknown_task_called_unplanned(case: Case) -> Expected:
    case.body["unplanned"]["ghost"] = "it does not fit"
    return KIND.WRONG_UNPLANNED, "ghost"


@damage
def _an_unplanned_task_kept_quiet(case: Case) -> Expected:
    if not case.body["plan"] or not case.body["unplanned"]:
        return None
    name = case.pick(case.body["unplanned"])
    del case.body["unplanned"][name]
    return KIND.TASK_MISSING, name


@damage
def _unplanned_without_a_reason(case: Case) -> Expected:
    if not case.body["unplanned"]:
        return None
    name = case.pick(case.body["unplanned"])
    case.body["unplanned"][name] = ""
    return KIND.WRONG_UNPLANNED, f"no reason for '{name}'"


@damage
def _an_unknown_task_called_waiting(case: Case) -> Expected:
    case.body["why"]["ghost"] = "waits 5 s"
    return KIND.WRONG_UNPLANNED, "ghost"


@damage
def _a_task_called_waiting_that_does_not(case: Case) -> Expected:
    row = case.row(lambda r, t: t.id not in case.body["why"])
    if row is None:
        return None
    case.body["why"][row["task"]] = "waits 5 s"
    return KIND.WRONG_UNPLANNED, f"{row['task']} waits, which it does not"


@damage
def _waiting_without_a_reason(case: Case) -> Expected:
    if not case.body["why"]:
        return None
    name = case.pick(case.body["why"])
    case.body["why"][name] = ""
    return KIND.WRONG_UNPLANNED, f"no reason for {name}"


# --------------------------------------------------------------------------- JSON


@damage
def _cut_off(case: Case) -> Expected:
    text = json.dumps(case.body)
    case.text = text[: int(case.rng.integers(1, len(text)))]
    return None, "is not JSON: "


@damage
def _empty(case: Case) -> Expected:
    case.text = ""
    return None, "is not JSON: "


@damage
def _not_an_object(case: Case) -> Expected:
    case.text = case.pick(["[]", "null", "3", '"response"'])
    return None, "object"


@damage
def _not_a_number(case: Case) -> Expected:
    if case.body["cost"] is None:
        return None
    key = case.pick(["cost", "lower_bound", "gap", "wall_s"])
    case.body[key] = float(case.pick(["nan", "inf", "-inf"]))
    return None, f"{key}: must be a finite number"


@damage
def _a_term_that_is_not_a_number(case: Case) -> Expected:
    if not case.body["terms"]:
        return None
    term = case.pick(case.body["terms"])
    case.body["terms"][term] = case.pick([float("nan"), "much", None, [1]])
    return None, f"terms.{term}: must be a"


@damage
def _an_unknown_field(case: Case) -> Expected:
    case.body["colour"] = "red"
    return None, "colour: "


@damage
def _an_unknown_field_of_the_plan(case: Case) -> Expected:
    if not case.body["plan"]:
        return None
    case.body["plan"]["colour"] = "red"
    return None, "plan.colour: "


@damage
def _an_unknown_field_of_an_assignment(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["colour"] = "red"
    return None, f"plan.assignments.{case.rows.index(row)}.colour: "


@damage
def _a_field_left_out(case: Case) -> Expected:
    key = case.pick(["request_id", "snapshot_version", "status"])
    del case.body[key]
    return None, f"{key}: is missing; add it"


@damage
def _a_field_of_an_assignment_left_out(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    key = case.pick([name for name in row if name not in ("mode", "devices")])
    place = case.rows.index(row)
    del row[key]
    return None, f"plan.assignments.{place}.{key}: is missing; add it"


@damage
def _a_time_that_is_no_whole_number(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    key = case.pick(["start_s", "end_s"])
    row[key] = case.pick([row[key] + 0.5, "soon", None, [row[key]]])
    return None, f"plan.assignments.{case.rows.index(row)}.{key}: must be a whole number"


@damage
def _workers_that_are_no_list_of_names(case: Case) -> Expected:
    if (row := case.row()) is None:
        return None
    row["workers"] = case.pick(["w0", None, {"w0": 1}, [0]])
    return None, f"plan.assignments.{case.rows.index(row)}.workers"


@damage
def _a_word_that_is_no_status(case: Case) -> Expected:
    case.body["status"] = case.pick(["fine", "OPTIMAL", "", 3, None])
    return None, "status: must be"


@damage
def _another_schema(case: Case) -> Expected:
    case.body["schema_version"] = 3
    return None, "schema_version is 3"
