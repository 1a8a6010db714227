"""Interruptions: they end what runs, wait for what cleans up, and come again if they were dropped."""

import io
import signal
import time

import pytest

from netlab.scenario import interruption
from netlab.scenario.interruption import interruptible, uninterrupted


@pytest.mark.parametrize(
    ("number", "error", "code"),
    [(signal.SIGINT, KeyboardInterrupt, None), (signal.SIGTERM, SystemExit, 143), (signal.SIGHUP, SystemExit, 129)],
)
def test_a_signal_ends_the_block(number: int, error: type[BaseException], code: int | None) -> None:
    with pytest.raises(error) as caught, interruptible():
        signal.raise_signal(number)
    assert getattr(caught.value, "code", None) == code


def test_the_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)]
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) != before[1]
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)]
    assert after == before


def test_cleaning_up_is_finished_first_and_only_the_first_signal_counts() -> None:
    done = []

    def clean() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            with uninterrupted():
                signal.raise_signal(signal.SIGINT)
            done.append("cleaned")
        done.append("went on")

    with pytest.raises(SystemExit) as caught, interruptible():
        clean()
    assert (caught.value.code, done) == (143, ["cleaned"])


def test_cleaning_up_after_an_interruption_is_not_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_AGAIN", 0.01)
    done = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            with uninterrupted():
                time.sleep(0.05)
                done.append("cleaned")

    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert done == ["cleaned"]


def test_an_interruption_that_a_finalizer_swallowed_comes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "_AGAIN", 0.1)

    class Interrupted(io.RawIOBase):
        def close(self) -> None:
            if not self.closed:
                super().close()
                signal.raise_signal(signal.SIGINT)

    swallowed = []

    def work() -> None:
        file = Interrupted()
        del file
        swallowed.append(True)
        time.sleep(60)

    with pytest.raises(KeyboardInterrupt), interruptible():
        work()
    assert swallowed == [True]


def test_without_interruption_nothing_happens() -> None:
    with interruptible(), uninterrupted():
        pass
    with uninterrupted():
        pass
