"""A flow with real phases that only wait, each in another way; run as a module, this serves it."""

import sys
from typing import Literal

from prefect import flow, serve
from prefect.deployments.runner import RunnerDeployment
from prefect.input import RunInput

from holdfast.base import process
from holdfast.base.errors import ConfigError
from holdfast.base.waiting import NotYet, wait_for
from holdfast.plan.results import Result
from tasks.run.flow import reported
from tasks.run.log import say
from tasks.run.pausing import pause_flow_run
from tasks.run.phase import journaled, phase

LONG_S = 900
Way = Literal["wait", "command", "pause", "short", "fails", "nothing"]


class Asked(RunInput):
    word: str


@phase("wait")
def wait() -> Result:
    def never() -> None:
        raise NotYet("it is not there")

    say("waiting")
    wait_for("what never comes", never, deadline_s=LONG_S)
    return Result()


@phase("command")
def command() -> Result:
    process.run_local([sys.executable, "-c", f"import time; time.sleep({LONG_S})"], timeout_s=LONG_S)
    return Result()


@phase("short")
def short() -> Result:
    say("hello from the phase")
    return Result()


@phase("fails")
def fails() -> Result:
    raise ConfigError("a word is wrong.", hint="Correct it.")


def pause() -> None:
    with journaled("pause", None) as done:
        pause_flow_run(wait_for_input=Asked, timeout=LONG_S, poll_interval=1, key="pause")
        done(Result())


@flow(name="waits")
@reported
def waits(way: Way, host: str = "cottage") -> None:
    assert host
    match way:
        case "wait":
            wait()
        case "command":
            command()
        case "pause":
            pause()
        case "short":
            short()
        case "fails":
            fails()
        case "nothing":
            pass


if __name__ == "__main__":
    made = waits.to_deployment("cottage")
    assert isinstance(made, RunnerDeployment)
    serve(made, pause_on_shutdown=False)
