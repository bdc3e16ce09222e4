import threading

import pytest

from vnpy_core.kit.flow import CreditFlow


@pytest.fixture
def flow():
    return CreditFlow()


def test_it_is_open_while_nobody_holds_it(flow):
    assert flow.open
    flow.hold("a")
    flow.hold("b")
    flow.release("a")
    assert not flow.open
    flow.release("b")
    assert flow.open


def test_holding_twice_takes_one_release(flow):
    flow.hold("a")
    flow.hold("a")
    flow.release("a")
    assert flow.open


def test_releasing_what_one_does_not_hold_opens_nothing(flow):
    flow.hold("a")
    flow.release("b")
    assert not flow.open


def test_an_open_flow_resumes_at_once(flow):
    calls = []
    flow.when_open(lambda: calls.append(1))
    assert calls == [1]


def test_the_last_release_resumes_all_who_wait_once(flow):
    calls = []
    flow.hold("a")
    flow.hold("b")
    for name in "xy":
        flow.when_open(lambda name=name: calls.append(name))
    flow.release("a")
    assert calls == []
    flow.release("b")
    assert calls == ["x", "y"]
    flow.hold("a")
    flow.release("a")
    assert calls == ["x", "y"]


def test_one_who_resumes_may_hold_and_wait_again(flow):
    calls = []

    def resume():
        calls.append(1)
        if len(calls) < 3:
            flow.hold("a")
            flow.when_open(resume)

    flow.hold("a")
    flow.when_open(resume)
    for _ in range(3):
        flow.release("a")
    assert len(calls) == 3


def test_one_who_fails_to_resume_leaves_nobody_asleep(flow):
    calls = []

    def broken():
        raise ValueError("broken")

    flow.hold("a")
    flow.when_open(broken)
    flow.when_open(lambda: calls.append(1))
    with pytest.raises(ValueError, match="broken"):
        flow.release("a")
    assert calls == [1]
    assert flow.open


def test_no_wake_up_is_lost_between_threads(flow):
    rounds = 2_000
    resumed = threading.Semaphore(0)

    def consume():
        for _ in range(rounds):
            flow.hold("a")
            flow.release("a")

    def feed():
        for _ in range(rounds):
            flow.when_open(resumed.release)

    threads = [threading.Thread(target=work) for work in (consume, feed)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(resumed.acquire(timeout=1) for _ in range(rounds))
    assert not resumed.acquire(blocking=False)
