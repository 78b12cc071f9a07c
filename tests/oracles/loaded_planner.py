"""What a planner loads and compiles when it starts: imported by the process that tests fork."""

from plancast.pipelines.planner_process import warm_up

warm_up()
