"""What a body's log is carried by: the creates of its calls, and what comes of it without one.

Every create says where its call was asked for and what the log gained since the last one (S4).
A body that only ever ran one call and then waited for it says nothing. Where creates may
overtake each other, each repeats what is not acknowledged, and names those before it (S8).
"""

from __future__ import annotations

from .branch import Branch
from .call import Call
from .log import LOG_HEADER, LOGS_HEADER, Asked, Batch, log_header, logs_header


class Carrying(Branch):
    """The part of a body that has its log carried.

    Attributes:
        id: The id of the call it computes.
        call: That call.
        position: How many batches it was given.
        unordered: Its creates may overtake each other on their way (S8).
        above: Logs of other bodies that its next create carries, by body: of those above it
            that led to a cancel it was passed, and of those below it that are not durable.
    """

    id: str
    call: Call
    position: int = 0
    unordered: bool = False
    above: dict[str, str] | None = None
    _under_way: dict[tuple[str, int], Asked] | None = None
    _sequential: bool = True
    _creates: int = 0
    _gain_start: int = 0
    _gain: list[Batch]

    def headers_for(self, call: Call) -> dict[str, str] | None:
        """The log part of a new create's headers (S4), and the log is then carried.

        None while the body is a plain sequence: call, wait for it, next call. Where creates
        may overtake each other, the log counts as carried when one that has it is
        `acknowledged`; until then each repeats it, and names those before it (S8).
        """
        named = self._goes_out(call) if self.unordered else None
        if not call.durable and self._sequential and self._may_limit(call):
            self._leave_sequence()  # whether it ended in time must be known, whatever follows
        if self._sequential:
            before = self.count - 1
            if call.position == before == self._creates and self.siblings is None and not named:
                self._creates += 1
                return None
            self._leave_sequence()
        headers = {LOG_HEADER: log_header(call.position, self._gain_start, self._gain, named)}
        if self.above is not None:
            headers[LOGS_HEADER] = logs_header(self.above)
            call.carried_above = self.above
        if not self.unordered:
            self._gain = []
            self._gain_start = self.position
            self.above = None
        return headers

    def logs_at_hand(self) -> dict[str, str]:
        """What no create has carried yet of its log and of those above it, by body (S4).

        What comes of its inputs without a create carries this: the settlement of a call it
        cuts or of a time limit it leaves, and what its child does after a cancel it passes on.
        A replay then goes the same way, whatever has arrived meanwhile.
        """
        logs = {} if self.above is None else dict(self.above)
        if not self._sequential and (self._gain or self._under_way):
            named = list(self._under_way.values()) if self._under_way else None
            logs[self.id] = log_header(self.position, self._gain_start, self._gain, named)
        return logs

    def _goes_out(self, call: Call) -> list[Asked]:
        """The asks that the create of this call has to name, as ranges."""
        if self._under_way is None:
            self._under_way = {}
        named = list(self._under_way.values())
        place, number = _place_of(call)
        asked = self._under_way.get(place)
        # Frozen values: `named` shows what was under way before this call.
        first = last = number
        waiting = 1
        if asked is not None:
            first, last = min(first, asked.first), max(last, asked.last)
            waiting += asked.waiting
        self._under_way[place] = Asked(place[0], first, last, call.position, waiting)
        call.carried = self.position
        return named

    def acknowledged(self, call: Call) -> None:
        """A create of an unordered body is durable: what it carried need not be repeated."""
        place, _ = _place_of(call)
        asked = self._under_way.get(place) if self._under_way else None
        if asked is None or call.carried < 0 or self._under_way is None:
            return
        if asked.waiting == 1:
            del self._under_way[place]
        else:
            self._under_way[place] = asked._replace(waiting=asked.waiting - 1)
        if not self._sequential and call.carried > self._gain_start:
            del self._gain[: call.carried - self._gain_start]
            self._gain_start = call.carried
        call.carried = -1
        if self.above is not None and (carried := call.carried_above) is not None:
            left = {id: log for id, log in self.above.items() if carried.get(id) != log}
            self.above = left or None

    def pass_log_up(self) -> None:
        """It has ended, and its outcome is recorded nowhere: its caller's log needs its own (S4).

        A replay drives it once more, with everything it recorded at hand at once; without its
        log it could go another way than the one its caller went on from.
        """
        caller = self.call.body
        assert caller is not None  # a root is durable
        if logs := self.logs_at_hand():
            if caller._sequential:
                caller._leave_sequence()
            caller.above = {**(caller.above or {}), **logs}

    def _may_limit(self, call: Call) -> bool:
        """Whether the call may time out by itself: by its deadline, or its caller's, likewise."""
        has_own = self.call.is_volatile or call.timeout_at_ms < self.call.timeout_at_ms
        return call.is_volatile and has_own

    def _leave_sequence(self) -> None:
        """From now on creates carry the log; what the last one left out is carried first."""
        self._sequential = False
        self._gain_start = self.position
        self._gain = []
        # Its create may be lost on the way, where creates overtake each other: said once more.
        if self.position and (self.unordered or self.position == self._creates):
            self._gain_start -= 1
            self._gain.append((str(self.position),))

    def _gained(self, names: Batch) -> None:
        """A new batch is about to be given: the next create carries it."""
        if self._sequential:
            is_next = self.count == self.position + 1 == self._creates
            if is_next and len(names) == 1 and names[0] == str(self.count):
                return
            self._leave_sequence()
        self._gain.append(names)


def _place_of(call: Call) -> tuple[tuple[str, int], int]:
    """Branch and position of an ask, which a range of asks shares, and its number."""
    branch, dot, number = call.suffix.rpartition(".")
    return (branch + dot, call.position), int(number)


Carrying._gain = []
