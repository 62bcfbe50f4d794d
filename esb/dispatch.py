"""From the outbox to a target: one lane a target tries its deliveries and commits what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Literal, Protocol

from msgspec import Struct

from esb.blueprint import assemble, templates
from esb.clock import Clock
from esb.deadlines import Deadlines
from esb.errors import DeliveryError, MaybeSent, StoreError, Unavailable, describe
from esb.expressions import TemplateProgram
from esb.gate import Bucket, Gate
from esb.message import Delivery
from esb.plugins import is_foreign
from esb.ports import Receipt, Reply, Target
from esb.replies import Waiters, answers, delivered, failed, pack
from esb.retry import Dead, Failure, History, Park, PauseTarget, RetryAt, RetryPolicy, classify, decide
from esb.store import Store
from esb.store.records import AttemptRecord, Settled, Settlement, StoredDelivery
from esb.table.model import ReplySpec, TargetSpec
from esb.units import QUOTES
from esb.watchdog import Watchdog

log = logging.getLogger(__name__)

GIVE_WAY = 32
"""Deliveries in a row after which a worker lets others run, when the target never waits."""

SETTLE_AGAIN = 1.0
"""Seconds before an outcome that could not be committed is committed again."""

RETRIES_HELD = 10.0
"""Retries a second of one target while a jump of the clock is not agreed to: all of them may be due at once (R12)."""

_FAULTS = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)


class Counters(Protocol):
    """What dispatch counts beside the books (floor 6 shows it)."""

    def delivered(self, route: str, target: str, seconds: float, waited: float, /) -> None: ...

    def failed(self, route: str, target: str, kind: str, /) -> None: ...

    def ended(self, route: str, target: str, state: str, /) -> None: ...


class Outcomes(Protocol):
    """Where a lane's outcomes go, and what remembers that a row is under way (R15)."""

    def settle(self, settlement: Settlement, /) -> asyncio.Future[Settled]: ...

    def begin(self, row: StoredDelivery, /) -> int: ...

    def end(self, slot: int, /) -> None: ...


class Rows(Protocol):
    """Where a lane's rows come from: a window on the outbox, or the inbox of a broker."""

    async def take(self) -> StoredDelivery: ...

    def give_back(self, row: StoredDelivery, /) -> None: ...

    def release(self, row: StoredDelivery, /) -> None: ...

    def nudge(self) -> None: ...

    def look(self) -> None: ...

    async def run(self) -> None: ...

    @property
    def in_hand(self) -> int: ...

    @property
    def idle(self) -> bool: ...


class Own:
    """The outcomes of rows of this node's store."""

    def __init__(self, store: Store) -> None:
        self.settle = store.settle
        self._inflight = store.inflight

    def begin(self, row: StoredDelivery) -> int:
        return self._inflight.enter("delivery", row.row)

    def end(self, slot: int) -> None:
        self._inflight.leave(slot)


class Post(Struct, frozen=True, kw_only=True):
    """What every lane of one bus shares. `offer` takes rows that became due; `replies` are the routes whose senders
    wait for an outcome; `policies` those of routes with a retry policy of their own; `health` says how a component is
    doing."""

    store: Store
    outcomes: Outcomes
    clock: Clock
    counters: Counters
    waiters: Waiters
    replies: Mapping[str, ReplySpec]
    policies: Mapping[str, RetryPolicy]
    offer: Callable[[Any], None]
    mask: Callable[[str], str]
    health: Callable[[str, str, str], None]
    watchdog: Watchdog


class Lane:
    """The deliveries of one target: `concurrency` workers, a rate limit, a pause, and what its failures come to."""

    def __init__(
        self,
        spec: TargetSpec,
        policy: RetryPolicy,
        open_target: Callable[[], AbstractAsyncContextManager[Target]],
        programs: Mapping[str, tuple[TemplateProgram, str | None]],
        window: Rows,
        post: Post,
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self._owner = f"target {spec.name}"
        self.window = window
        self.gate = Gate(spec, post.clock, post.store, post.health)
        self._policy = policy
        self._open = open_target
        self._constants = {
            path: program.constant for path, (program, _) in programs.items() if program.constant is not None
        }
        self._templates = {path: item for path, item in programs.items() if item[0].constant is None}
        self._post = post
        self._target: Target | None = None
        self._foreign = False
        self._deadlines = Deadlines(float(spec.timeout))
        self._bucket = Bucket(None if spec.limit is None else spec.limit.per_second, spec.burst, post.clock)
        self._retries = Bucket(RETRIES_HELD, None, post.clock)
        self._unsettled = 0
        self._under_way = 0
        self._draining = False
        self._quiet = asyncio.Event()
        self.hold_expiry = False

    async def run(self) -> None:
        """Opens the target (again and again while it is away) and works until cancelled."""
        while True:
            try:
                async with self._opened():
                    await self._work_all()
            except _FAULTS as error:
                self._post.health(f"target.{self.name}", "down", describe(error))
                if not isinstance(error, (DeliveryError, OSError)):
                    log.error("target %s failed in its own code; it is opened again", self.name, exc_info=error)
                await self._post.clock.sleep(float(self._policy.transient.first))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(float(self.spec.timeout)):
                    self._target = await stack.enter_async_context(self._open())
            except TimeoutError as error:
                raise Unavailable(f"not open within {self.spec.timeout}") from error
            self._foreign = is_foreign(self._target)
            self._post.health(f"target.{self.name}", "up", "")
            yield

    async def _work_all(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.window.run(), name=f"window {self.name}")
            for number in range(
                1 if self.spec.order_by is None and self.spec.concurrency < 2 else self.spec.concurrency
            ):
                tasks.create_task(self._work(), name=f"lane {self.name} {number}")

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        count = 0
        while True:
            await self._road()
            row = await self.window.take()
            if self._draining or not self.gate.admits():
                self.window.give_back(row)
                continue
            try:
                await self._bucket.token()
                if self.hold_expiry and row.attempts:
                    await self._retries.token()
            except asyncio.CancelledError:
                self._let_go(row)
                raise
            if self._draining or self.gate.closed:
                self.window.give_back(row)
                continue
            await self._tried(row, task)
            count += 1
            if count % GIVE_WAY == 0:
                await asyncio.sleep(0)

    async def _road(self) -> None:
        """Waits while the target is paused, but for the worker that probes; for good when the lane drains."""
        if self._draining:
            await asyncio.get_running_loop().create_future()
        if self.gate.pause is not None:
            await self.gate.wait()

    async def _tried(self, row: StoredDelivery, task: asyncio.Task[Any]) -> None:
        self._under_way += 1
        try:
            await self._attempt(row, task)
        finally:
            self._under_way -= 1
            self._hush()

    def _hush(self) -> None:
        if self.quiet:
            self._quiet.set()

    async def drain(self) -> None:
        """Takes nothing new; returns when what is under way is done and committed. Waiting rows stay in the store."""
        self._draining = True
        while not self.quiet:
            self._quiet.clear()
            await self._quiet.wait()

    async def _attempt(self, row: StoredDelivery, task: asyncio.Task[Any]) -> None:
        """One try of one delivery, and its outcome handed to the store."""
        clock = self._post.clock
        started = clock.now()
        if row.expires is not None and started >= row.expires and not self.hold_expiry:
            self._settle(Settlement(delivery=row, state="expired", reason="expired", counts=False))
            return
        if row.crashes and self._policy_of(row).unknown.as_ == "park":
            self._park(row, "outcome unknown: the process died while it was under way")
            return
        slot = self._post.outcomes.begin(row)
        try:
            delivery = self._delivery(row)
            receipt = await self._deliver(delivery, task)
        except asyncio.CancelledError:
            if task.cancelling():
                self._cut_off(row)  # the lane ends or is opened anew
                raise
            self._failed(row, MaybeSent("the target was cancelled by its own library"), started)
        except _FAULTS as error:
            self._failed(row, error, started)
        else:
            self._succeeded(row, receipt, started)
        finally:
            self._post.outcomes.end(slot)

    def _cut_off(self, row: StoredDelivery) -> None:
        """An attempt that was ended from outside: it may have reached its target (R16)."""
        if self._policy_of(row).unknown.as_ == "park":
            self._park(row, "outcome unknown: it was cut off when the bus stopped")
            return
        now = self._post.clock.now()
        self._settle(Settlement(delivery=row, state="due", due=now, counts=False, maybe_sent=True, reason="cut off"))

    def _park(self, row: StoredDelivery, reason: str) -> None:
        """Set aside for a person without an attempt."""
        self._post.counters.ended(row.route, row.target, "parked")
        log.warning("%s of route %s is parked: %s", row.id, row.route, self._post.mask(reason[:300]))
        outcome = Settlement(
            delivery=row, state="parked", reason=reason, counts=False, maybe_sent=not reason.startswith("no-value"),
            when_stuck=self.spec.when_stuck,
        )  # fmt: skip
        self._settle(outcome)

    def _policy_of(self, row: StoredDelivery) -> RetryPolicy:
        """The route's own policy, else the target's."""
        return self._post.policies.get(row.route, self._policy)

    def _let_go(self, row: StoredDelivery) -> None:
        """The row is read again from the store: nothing is known of this try."""
        self.window.release(row)
        self.window.look()

    async def _deliver(self, delivery: Delivery, task: asyncio.Task[Any]) -> Receipt | None:
        assert self._target is not None
        deadline = self._deadlines.begin(task)
        try:
            delivering = self._target.deliver(delivery)
            receipt = await (self._post.watchdog.driven(self._owner, delivering) if self._foreign else delivering)
        except asyncio.CancelledError as error:
            if deadline.end():
                raise MaybeSent(f"no answer within {self.spec.timeout}", code="D451") from error
            raise
        finally:
            deadline.end()
        if receipt is not None and not isinstance(receipt, Receipt):
            raise TypeError(f"deliver gave {type(receipt).__name__}, not a Receipt or None")
        return receipt

    def _delivery(self, row: StoredDelivery) -> Delivery:
        """The row as the target sees it, with the current target's addresses around the planned values (R11)."""
        store = self._post.store
        body_id = row.body_id
        return Delivery(
            id=row.id,
            message_id=row.uid,
            route=row.route,
            target=row.target,
            attempt=row.attempts + 1,
            maybe_sent=row.maybe_sent,
            replayed=row.round > 0 or row.made == "replay",
            created=row.accepted_at,
            headers=row.headers,
            size=row.size,
            media_type=row.media,
            head=row.head,
            values=self._values(row),
            content=row.content,
            load=None if row.content is not None else (lambda: store.body(body_id)),
            stream=None if row.content is not None else (lambda: store.stream(body_id)),
        )

    def _values(self, row: StoredDelivery) -> Mapping[str, str]:
        if not self._templates:
            return self._constants
        values = dict(self._constants)
        for path, (program, quote) in self._templates.items():
            try:
                values[path] = assemble(program, quote, row.values)
            except KeyError as error:
                raise Unplanned(
                    f"{path} asks for {{{error.args[0]}}}, which this message was not planned with"
                ) from error
        return values

    def _succeeded(self, row: StoredDelivery, receipt: Receipt | None, started: float) -> None:
        post = self._post
        self.gate.succeeded()
        ended = post.clock.now()
        post.counters.delivered(row.route, row.target, ended - started, ended - row.accepted_at)
        spec = answers(post.replies, row.route, row.target)
        reply = None if spec is None else delivered(spec, row.uid, receipt)
        note = "" if receipt is None else receipt.note[:1024]
        settlement = Settlement(
            delivery=row,
            state="delivered",
            note=note,
            answer=None if reply is None else pack(reply),
            decides=spec is None or spec.target is not None,
        )
        self._settle(settlement, reply)

    def _failed(self, row: StoredDelivery, error: BaseException, started: float) -> None:
        """Classifies, decides, and writes both down."""
        now = self._post.clock.now()
        if isinstance(error, Unplanned):
            self._park(row, f"no-value: {error}")
            return
        failure = classify(error)
        self._post.counters.failed(row.route, row.target, failure.kind)
        self._complain(row, failure, error)
        attempt = AttemptRecord(
            n=row.attempts + 1,
            at=now,
            kind=failure.kind,
            code=failure.code,
            place=f"target.{self.name}",
            params=_evidence(error, self._post.mask),
            ms=(now - started) * 1000,
        )
        # While a jump of the clock is not agreed to, nobody knows how old anything is (R12).
        age = 0.0 if self.hold_expiry else self.gate.age(row.since or row.accepted_at, now)
        history = History(row.id, row.attempts + 1, age)
        disposition = decide(self._policy_of(row), failure, history, now)
        self._dispose(row, failure, disposition, attempt)

    def _complain(self, row: StoredDelivery, failure: Failure, error: BaseException) -> None:
        if failure.kind == "fault":
            self._post.health(f"target.{self.name}", "degraded", f"plugin fault: {failure.text[:200]}")
            log.error("target %s: fault of its plugin in %s", self.name, row.id, exc_info=error)
        else:
            log.info("target %s: %s of %s: %s", self.name, failure.kind, row.id, failure.code)

    def _dispose(
        self,
        row: StoredDelivery,
        failure: Failure,
        disposition: RetryAt | Dead | Park | PauseTarget,
        attempt: AttemptRecord,
    ) -> None:
        unknown, reply = failure.kind == "unknown", None
        match disposition:
            case RetryAt(at=at):
                outcome = Settlement(
                    delivery=row, state="due", due=at, attempt=attempt, maybe_sent=unknown, reason=failure.code
                )
            case Dead(reason=reason):
                reply = self._bad_answer(row, reason)
                outcome = self._end(row, "dead", reason, attempt, reply)
            case Park(reason=reason):
                outcome = self._end(row, "parked", reason, attempt, None)
            case PauseTarget(at=at, probe=probe, reason=reason):
                outcome = Settlement(delivery=row, state="due", due=at, attempt=attempt, reason=failure.code)
                self.gate.login_refused(row.uid, probe, reason)
        self.gate.failed(failure, self._policy_of(row))
        self._settle(outcome, reply)

    def _end(
        self,
        row: StoredDelivery,
        state: Literal["dead", "parked"],
        reason: str,
        attempt: AttemptRecord,
        reply: Reply | None,
    ) -> Settlement:
        self._post.counters.ended(row.route, row.target, state)
        log.warning("%s of route %s is %s: %s", row.id, row.route, state, self._post.mask(reason[:300]))
        return Settlement(
            delivery=row,
            state=state,
            reason=reason,
            attempt=attempt,
            when_stuck=self.spec.when_stuck,
            answer=None if reply is None else pack(reply),
        )

    def _bad_answer(self, row: StoredDelivery, reason: str) -> Reply | None:
        """What the sender hears who waits for this dead delivery."""
        if answers(self._post.replies, row.route, row.target) is None:
            return None
        return failed(row.uid, "dead", reason)

    def _settle(self, settlement: Settlement, reply: Reply | None = None) -> None:
        """Hands an outcome to the store's next batch; the row's place is free when it is on disk."""
        self._unsettled += 1
        future = self._post.outcomes.settle(settlement)
        future.add_done_callback(lambda done: self._settled(settlement, reply, done))

    def _settled(self, settlement: Settlement, reply: Reply | None, done: asyncio.Future[Settled]) -> None:
        self._unsettled -= 1
        self._hush()
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._settle_later(settlement, reply, error)
            return
        row = settlement.delivery
        settled = done.result()
        self.window.release(row)
        if settlement.state == "due":
            self.window.nudge()
        if settled.promoted:
            self._post.offer(settled.promoted)
        if self._post.replies:
            self._post.waiters.tell(self._post.replies, row, reply, settled.state)

    def _settle_later(self, settlement: Settlement, reply: Reply | None, error: BaseException) -> None:
        if not isinstance(error, StoreError):
            log.error("target %s: outcome of %s not committed", self.name, settlement.delivery.id, exc_info=error)
        loop = asyncio.get_running_loop()
        loop.call_later(SETTLE_AGAIN, self._settle, settlement, reply)

    @property
    def quiet(self) -> bool:
        """Nothing under way and no outcome uncommitted."""
        return self._unsettled == 0 and self._under_way == 0


class Unplanned(Exception):
    """The target now asks for a value that the message was not planned with."""


def programs(
    spec: TargetSpec, compile_template: Callable[[str], TemplateProgram]
) -> dict[str, tuple[TemplateProgram, str | None]]:
    """Every template of a target's options, compiled, with how its values are escaped."""
    return {path: (compile_template(text), QUOTES[type(text)]) for path, text in templates(spec.options)}


def _evidence(error: BaseException, mask: Callable[[str], str]) -> Mapping[str, Any]:
    """What the target said, for the journal: at most 4 kB, structured, with nothing secret in it."""
    said = {"text": mask(describe(error)[:500])}
    if isinstance(error, DeliveryError) and error.evidence:
        said["evidence"] = mask(error.evidence[:4096].decode("utf-8", "replace"))
    return said
