"""Signals as the system sends them, in a process of their own."""

import signal
import subprocess
import sys
import textwrap

import pytest

FRAME = """
import os, signal, sys, time
from ltx_trainer import interruption
from ltx_trainer.errors import Interrupted, exit_status_of

def tell(number=signal.SIGTERM):
    os.kill(os.getpid(), number)

def body():
{body}

interruption.handle_signals()
try:
    body()
    print("end")
except Interrupted as error:
    sys.exit(exit_status_of(error))
"""


def run(body: str) -> tuple[int, str]:
    program = FRAME.format(body=textwrap.indent(textwrap.dedent(body), "    "))
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert not ended.stderr
    return ended.returncode, " ".join(ended.stdout.split())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_process_at_once(number: int, status: int) -> None:
    assert run(f"tell({int(number)}); print('still here')") == (status, "")


def test_a_first_signal_is_only_noted_while_stopping_is_deferred() -> None:
    body = """
    with interruption.deferred():
        print(interruption.noted())
        tell()
        print(interruption.noted())
    """
    assert run(body) == (0, "0 15 end")


def test_the_echo_of_a_launcher_is_not_a_second_signal() -> None:
    body = """
    os.environ[interruption.LAUNCHER] = "1"
    with interruption.deferred():
        tell(signal.SIGINT)
        tell(signal.SIGTERM)
        print(interruption.noted())
    """
    assert run(body) == (0, "2 end")


def test_a_second_signal_ends_the_process_at_once() -> None:
    body = """
    with interruption.deferred():
        tell()
        tell()
        print("still here")
    """
    assert run(body) == (143, "")


def test_under_a_launcher_a_later_second_signal_ends_the_process_at_once() -> None:
    body = """
    os.environ[interruption.LAUNCHER] = "1"
    interruption.ECHO_SECONDS = 0.05
    with interruption.deferred():
        tell()
        time.sleep(0.1)
        tell()
        print("still here")
    """
    assert run(body) == (143, "")


def test_after_the_block_a_signal_ends_the_process_again() -> None:
    assert run("with interruption.deferred(): pass\ntell(); print('still here')") == (143, "")


def test_long_work_that_can_be_done_again_is_left_at_once_and_what_follows_is_done() -> None:
    body = """
    with interruption.deferred():
        done = interruption.unless_stopped(lambda: (tell(), print("still here")))
        print(done, interruption.noted())
        print(interruption.unless_stopped(lambda: "begun"))
        print("saved")
    """
    assert run(body) == (0, "None 15 None saved end")


def test_work_that_nobody_stops_gives_its_result() -> None:
    body = """
    with interruption.deferred():
        print(interruption.unless_stopped(lambda: "deferred"))
    print(interruption.unless_stopped(lambda: "plain"))
    """
    assert run(body) == (0, "deferred plain end")
