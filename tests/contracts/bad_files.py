"""Bad input: logs, models, tasks, clusters, policies and estimates."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from plancast.predictor.model_files import digest_of_card
from tests.contracts.bad_input import CLUSTER, ESTIMATES, LOG, PLAN, PREDICT, TASKS, Arguments, case

# --------------------------------------------------------------------------- logs


@case("log.swf.gz", "cut short")
def _a_truncated_gzip_log(home: Path) -> Arguments:
    packed = gzip.compress(LOG.encode())
    (home / "log.swf.gz").write_bytes(packed[: len(packed) // 2])
    return ["ingest", "log.swf.gz", "-o", "out.parquet"]


@case("log.swf", "line 20", "'many'")
def _a_log_with_a_text_in_a_number_column(home: Path) -> Arguments:
    lines = LOG.splitlines()
    words = lines[19].split()
    lines[19] = " ".join([*words[:4], "many", *words[5:]])
    (home / "log.swf").write_text("\n".join(lines))
    return ["ingest", "log.swf", "--strict", "-o", "out.parquet"]


@case("log.csv", "row 2", "submit_s", "'soon'")
def _a_table_with_a_text_in_a_number_column(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit_s,run_s\n1,2\nsoon,4\n")
    return ["ingest", "log.csv", "--strict", "-o", "out.parquet"]


@case("log.csv", "row 2", "submit_s", "'soon'", "1 of 2 rows", "--max-bad")
def _a_table_with_more_bad_rows_than_allowed(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit_s,run_s\n1,2\nsoon,4\n")
    return ["ingest", "log.csv", "--max-bad", "0.2", "-o", "out.parquet"]


@case("nothing.swf", "there is no such file")
def _a_missing_log(home: Path) -> Arguments:
    return ["ingest", "nothing.swf", "-o", "out.parquet"]


@case("folder", "irectory")
def _a_folder_for_a_log(home: Path) -> Arguments:
    return ["ingest", "folder", "-o", "out.parquet"]


@case("'psv'", "swf, sacct, pbs, wfformat, table")
def _an_unknown_format(home: Path) -> Arguments:
    return ["ingest", "log.swf", "--format", "psv", "-o", "out.parquet"]


@case("map.yaml", "columns.submit_s", "when")
def _a_column_map_that_names_no_column(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit,run\n1,2\n")
    (home / "map.yaml").write_text("columns: {submit_s: when}")
    return ["ingest", "log.csv", "--columns", "map.yaml", "-o", "out.parquet"]


@case("log.swf", "plancast ingest")
def _a_log_that_was_not_ingested(home: Path) -> Arguments:
    return ["train", "log.swf", "-o", "out"]


@case("--levels", "'.9,.5'", "rise")
def _levels_that_do_not_rise(home: Path) -> Arguments:
    return ["train", "log.swf", "--levels", ".9,.5", "-o", "out"]


@case("--levels", "'high'", "numbers")
def _levels_that_are_no_numbers(home: Path) -> Arguments:
    return ["train", "log.swf", "--levels", "high", "-o", "out"]


@case("--levels", "'.5,1'", "(0, 1)")
def _a_level_of_one(home: Path) -> Arguments:
    return ["train", "log.swf", "--levels", ".5,1", "-o", "out"]


# --------------------------------------------------------------------------- models


@case("model: card.json is missing", "train")
def _a_model_without_its_card(home: Path) -> Arguments:
    (home / "model/card.json").unlink()
    return PREDICT


@case("model: card.json is no JSON", "train")
def _a_model_with_half_a_card(home: Path) -> Arguments:
    card = home / "model/card.json"
    card.write_text(card.read_text()[:200])
    return PREDICT


@case("model: card.json is not of format", "train")
def _a_model_of_another_format(home: Path) -> Arguments:
    card = home / "model/card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "format": 99}))
    return PREDICT


@case("model: history.parquet is missing", "train")
def _a_model_without_its_history(home: Path) -> Arguments:
    (home / "model/history.parquet").unlink()
    return PREDICT


@case("model: level-0.9.txt is not the file", "train")
def _a_model_with_changed_trees(home: Path) -> Arguments:
    trees = home / "model/level-0.9.txt"
    trees.write_text(trees.read_text().replace("0", "1", 1))
    return PREDICT


@case("model: card.json was changed after training", "train")
def _a_model_with_a_changed_card(home: Path) -> Arguments:
    card = home / "model/card.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "settings": {}}))
    return PREDICT


@case("model: card.json does not fit", "train")
def _a_model_whose_card_lacks_its_settings(home: Path) -> Arguments:
    card = home / "model/card.json"
    lacking = {**json.loads(card.read_text()), "settings": {}}
    card.write_text(json.dumps({**lacking, "card_sha256": digest_of_card(lacking)}))
    return PREDICT


@case("nothing is no folder")
def _a_missing_model(home: Path) -> Arguments:
    return [*PLAN, "--model", "nothing"]


@case("tasks.csv is no folder")
def _a_file_for_a_model(home: Path) -> Arguments:
    return [*PLAN, "--model", "tasks.csv"]


@case("folder: card.json is missing")
def _an_empty_model_folder(home: Path) -> Arguments:
    return [*PLAN, "--model", "folder"]


# --------------------------------------------------------------------------- tasks


@case("tasks.csv", "precedence has a cycle", "a -> b -> a", "remove one 'after'")
def _a_cycle_in_precedence(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,after\na,b\nb,a\n")
    return PLAN


@case("tasks.csv", "row 2", "deadline_s 5 lies before release_s 9")
def _a_deadline_before_release(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,release_s,deadline_s\na,,\nb,9,5\n")
    return PLAN


@case("tasks.csv", "row 1", "cpus", "'two'")
def _a_text_for_cores(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,cpus\na,two\n")
    return PLAN


@case("tasks.csv", "unknown column 'deadline'", "'deadline_s'")
def _a_misspelt_column(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,deadline\na,5\n")
    return PLAN


@case("tasks.csv", "row 2", "in row 1 already")
def _a_task_twice(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id\na\na\n")
    return PLAN


@case("tasks.csv", "row 1", "follows 'z', which is no task")
def _an_unknown_predecessor(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,after\na,z\n")
    return PLAN


@case("tasks.csv", "row 1", "release_s", "too large")
def _a_time_beyond_all_clocks(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,release_s,requested_s\na,1e25,5\n")
    return PLAN


@case("tasks.csv", "row 1", "mem_mib", "too large")
def _an_amount_beyond_all_machines(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("id,mem_mib,requested_s\na,1e25,5\n")
    return PLAN


@case("tasks.csv", "is empty")
def _an_empty_task_file(home: Path) -> Arguments:
    (home / "tasks.csv").write_text("")
    return PLAN


@case("tasks.csv", "is not UTF-8 text")
def _a_task_file_in_another_encoding(home: Path) -> Arguments:
    (home / "tasks.csv").write_bytes("id\nmüller\n".encode("latin-1"))
    return PLAN


@case("tasks.csv.gz", "truncated gzip")
def _a_truncated_gzip_of_tasks(home: Path) -> Arguments:
    (home / "tasks.csv.gz").write_bytes(gzip.compress(TASKS.encode())[:-12])
    return ["tasks.csv.gz" if word == "tasks.csv" else word for word in PLAN]


@case("tasks.txt", "no known suffix", ".csv")
def _a_task_file_of_another_kind(home: Path) -> Arguments:
    (home / "tasks.txt").write_text(TASKS)
    return ["tasks.txt" if word == "tasks.csv" else word for word in PLAN]


@case("nothing.csv", "there is no such file")
def _a_missing_task_file(home: Path) -> Arguments:
    return ["nothing.csv" if word == "tasks.csv" else word for word in PLAN]


# --------------------------------------------------------------------------- clusters, policies


@case("plancast: nothing.yaml: there is no such file; check")
def _a_missing_cluster(home: Path) -> Arguments:
    return ["nothing.yaml" if word == "cluster.yaml" else word for word in PLAN]


@case("plancast: nothing.json: there is no such file; check")
def _a_missing_task_file_in_json(home: Path) -> Arguments:
    return ["nothing.json" if word == "tasks.csv" else word for word in PLAN]


@case("tasks.csv: tasks need a cluster", "--cluster")
def _tasks_and_a_policy_without_a_cluster(home: Path) -> Arguments:
    return ["plan", "tasks.csv", "--policy", "policy.yaml"]


@case("cluster.yaml", "line 1", "nested more than 100 deep")
def _a_cluster_of_brackets(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: " + "[" * 100_000)
    return PLAN


@case("tasks.json", "nested too deeply")
def _a_task_file_of_brackets(home: Path) -> Arguments:
    (home / "tasks.json").write_text("[" * 100_000)
    return ["tasks.json" if word == "tasks.csv" else word for word in PLAN]


@case("map.yaml", "line 1", "not YAML")
def _a_column_map_of_brackets(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit,run\n1,2\n")
    (home / "map.yaml").write_text("columns: " + "[" * 100_000)
    return ["ingest", "log.csv", "--columns", "map.yaml", "-o", "out.parquet"]


@case("map.yaml", "not YAML")
def _a_column_map_with_month_13(home: Path) -> Arguments:
    (home / "log.csv").write_text("submit,run\n1,2\n")
    (home / "map.yaml").write_text("columns: {submit_s: 2001-13-13}")
    return ["ingest", "log.csv", "--columns", "map.yaml", "-o", "out.parquet"]


@case("guide.json", "is no guide")
def _a_guide_of_brackets(home: Path) -> Arguments:
    (home / "guide.json").write_text("[" * 100_000)
    return [*PLAN, "--guide", "guide.json"]


@case("cluster.yaml", "workers", "is empty; list at least one")
def _a_cluster_without_workers(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: []\n")
    return PLAN


@case("cluster.yaml", "must be a mapping", "workers")
def _an_empty_cluster_file(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("")
    return PLAN


@case("cluster.yaml", "workers.1.cpus", "-4 is negative", "write 0 or more")
def _a_worker_with_negative_cores(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: [{id: a, cpus: 1}, {id: b, cpus: -4}]")
    return PLAN


@case("cluster.yaml", "workers.0.cpu", "did you mean 'cpus'?")
def _a_misspelt_field_of_a_worker(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers: [{id: a, cpu: 1}]")
    return PLAN


@case("cluster.yaml", "line 2", "is not YAML")
def _a_cluster_that_is_no_yaml(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text("workers:\n - {id: a, cpus: [}\n")
    return PLAN


@case("cluster.yaml", "running.0", "'w9' is no worker")
def _a_task_that_runs_on_no_worker(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(
        CLUSTER + "running: [{id: r, workers: [w9], start_s: 0, requested_s: 5}]"
    )
    return PLAN


@case("tasks.csv", "running task r has no estimate")
def _a_running_task_without_an_estimate(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(CLUSTER + "running: [{id: r, workers: [w0], start_s: 0}]\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("tasks.csv", "cluster.yaml", "task a is listed twice")
def _a_task_that_waits_and_runs(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(
        CLUSTER + "running: [{id: a, workers: [w0], start_s: 0, requested_s: 5}]"
    )
    return PLAN


@case("cluster.yaml", "finished task old: end_s 9 lies after now_s 5", "list it under running")
def _a_task_that_finished_in_the_future(home: Path) -> Arguments:
    more = "now_s: 5\nfinished:\n  - {id: old, end_s: 9}\n"
    (home / "cluster.yaml").write_text(CLUSTER + more)
    return [*PLAN, "--estimates", "estimates.csv"]


@case("cluster.yaml", "finished task old: end_s 3 lies before its start_s 4")
def _a_task_that_finished_before_it_started(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(CLUSTER + "finished:\n  - {id: old, start_s: 4, end_s: 3}\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("cluster.yaml", "start_s 9 lies after now_s 5")
def _a_task_that_runs_from_the_future_on(home: Path) -> Arguments:
    (home / "cluster.yaml").write_text(
        CLUSTER + "now_s: 5\nrunning: [{id: r, workers: [w0], start_s: 9, requested_s: 5}]"
    )
    return PLAN


@case("folder", "is a directory")
def _a_folder_for_a_cluster(home: Path) -> Arguments:
    return ["folder" if word == "cluster.yaml" else word for word in PLAN]


@case("policy.yaml", "prices.late", "did you mean 'late_h'?")
def _a_misspelt_price(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("prices: {late: 3}")
    return [*PLAN, "--policy", "policy.yaml"]


@case("policy.yaml", "price of kwh is -1.0", "from 0 to")
def _a_negative_price(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("prices: {kwh: -1}")
    return [*PLAN, "--policy", "policy.yaml"]


@case("policy.yaml", "level", "must be less than 1 (it is 80")
def _a_level_in_per_cent(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("level: 80")
    return [*PLAN, "--policy", "policy.yaml"]


# --------------------------------------------------------------------------- estimates


@case("estimates.csv", "row 2", "seconds", "is empty")
def _an_estimate_without_seconds(home: Path) -> Arguments:
    (home / "estimates.csv").write_text("task,level,seconds\na,0.5,3\nb,0.5,\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("estimates.csv", "task a", "non-decreasing")
def _estimates_that_fall_with_the_level(home: Path) -> Arguments:
    (home / "estimates.csv").write_text("task,level,seconds\na,0.5,30\na,0.9,20\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("estimates.csv", "has no column 'level'")
def _estimates_without_levels(home: Path) -> Arguments:
    (home / "estimates.csv").write_text("task,seconds\na,3\n")
    return [*PLAN, "--estimates", "estimates.csv"]


@case("estimates.parquet", "is not a Parquet file")
def _estimates_that_are_no_parquet(home: Path) -> Arguments:
    (home / "estimates.parquet").write_text(ESTIMATES)
    return [*PLAN, "--estimates", "estimates.parquet"]


@case("--model or --estimates, not both")
def _a_model_and_estimates(home: Path) -> Arguments:
    return [*PLAN, "--model", "model", "--estimates", "estimates.csv"]


# --------------------------------------------------------------------------- outputs


@case("--output tasks.csv", "is the file of --tasks too")
def _an_output_that_is_the_input(home: Path) -> Arguments:
    return ["plan", "--tasks", "tasks.csv", "--cluster", "cluster.yaml", "-o", "tasks.csv"]


@case("--save-request out.json", "is the file of --output too")
def _two_outputs_of_one_name(home: Path) -> Arguments:
    return [*PLAN, "--save-request", "./out.json"]


@case("out.pdf", "a Gantt chart ends in .html")
def _a_chart_of_another_kind(home: Path) -> Arguments:
    return ["out.pdf" if word == "out.html" else word for word in PLAN]


@case("policy.yaml", "scenarios: must be a list (it is 0.5)")
def _one_scenario_that_is_no_list(home: Path) -> Arguments:
    (home / "policy.yaml").write_text("scenarios: 0.5\n")
    return [*PLAN, "--policy", "policy.yaml"]


@case("--samples", "add --risk mean")
def _samples_of_nothing(home: Path) -> Arguments:
    return [*PLAN, "--samples", "5"]
