"""What the log is told of a connection that fails, on a clock that is a number."""

from __future__ import annotations

from resonate_aio.outage import AGAIN_S, Outage


def test_an_outage_is_said_at_once_then_once_a_minute_and_so_is_its_end() -> None:
    outage = Outage()
    said = [now_s for now_s in range(200) if outage.failed(float(now_s))]
    assert said == [0, 60, 120, 180]
    assert [outage.worked() for _ in range(3)] == [True, False, False]


def test_what_works_is_not_worth_a_word() -> None:
    assert not Outage().worked()


def test_trouble_that_passes_is_said_once_a_minute() -> None:
    """A network that loses a request now and then must not fill a log."""
    outage = Outage()
    begun, over = 0, 0
    for now_s in range(int(5 * AGAIN_S)):
        begun += outage.failed(float(now_s))
        over += outage.worked()
    assert (begun, over) == (5, 5)


def test_an_outage_right_after_another_is_said_when_it_lasts() -> None:
    outage = Outage()
    assert outage.failed(0.0)
    assert outage.worked()
    assert [outage.failed(now_s) for now_s in (1.0, 2.0, 3.0, 4.0)] == [False, False, True, False]
    assert outage.worked()
    assert not outage.failed(5.0)
    assert not outage.worked(), "what was not said needs no end"
