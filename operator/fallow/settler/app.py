"""`fallow settler`: take the lease, follow the hub's claims, settle them, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any

import structlog

from fallow.errors import ApiError, MoneyError, NotLeading, Retryable, SettingsError
from fallow.kube.client import ApiServer
from fallow.kube.lease import Leadership
from fallow.receipts.keystores import load_key
from fallow.receipts.typed_data import Domain
from fallow.receipts.words import checksummed, from_hex
from fallow.settings import SettlerSettings
from fallow.settler.archive import Archive, Store
from fallow.settler.archive_directory import DirectoryStore
from fallow.settler.chain import ChainPayments
from fallow.settler.claim_checks import Money, check_claim
from fallow.settler.contract_payers import ContractPayers
from fallow.settler.cycle import Cycle
from fallow.settler.dispute_watch import DisputeWatch
from fallow.settler.dry_run import look
from fallow.settler.endpoints import Endpoints
from fallow.settler.escrow import Escrow
from fallow.settler.faults import Faults
from fallow.settler.history import History
from fallow.settler.hub_objects import HubObjects
from fallow.settler.keys import load_revealer_key, load_salt_key
from fallow.settler.ledger import LedgerPayments
from fallow.settler.metrics import SettlerMetrics
from fallow.settler.parts import Parts
from fallow.settler.protocol import Payments
from fallow.settler.revealing import Revealer
from fallow.settler.rpc import Rpc
from fallow.settler.sender_watch import SenderWatch, settles_a_bundle
from fallow.settler.signing import KeySigner, RemoteSigner
from fallow.telemetry import Telemetry, serve

log = structlog.get_logger(__name__)

GWEI = 10**9
_DEBOUNCE_SECONDS = 0.05
_LONGEST_REST_SECONDS = 15.0


def run(settings: SettlerSettings) -> None:
    """Run the settler until SIGTERM or SIGINT, or until the lease is lost (raises NotLeading)."""
    asyncio.run(main(settings))


async def main(settings: SettlerSettings) -> None:
    """Run the settler in the present event loop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    telemetry = Telemetry("settler")
    settler = Settler(settings, telemetry)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            serve(telemetry, address=settings.metrics_address, unwell=settler.unwell)
        )
        api = await stack.enter_async_context(
            await ApiServer.connect(settings.kubeconfig, name="hub", telemetry=telemetry)
        )
        lease = settings.lease
        leads = lease.enabled and not settings.dry_run
        leadership = Leadership(
            api,
            namespace=settings.system_namespace,
            name=lease.name,
            identity=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            duration_seconds=lease.duration_seconds,
            renew_seconds=lease.renew_seconds,
        )
        if leads and await _first(leadership.acquire(), stop) is None:
            return
        tasks = [asyncio.create_task(settler.work(api, leadership, stop), name="work")]
        if leads:
            tasks.append(asyncio.create_task(leadership.keep(), name="lease"))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if not stop.is_set():
                raise NotLeading("the lease was lost; another process leads now")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if leads:
                await leadership.release()


class Settler:
    """One process's life as leader."""

    def __init__(self, settings: SettlerSettings, telemetry: Telemetry) -> None:
        self._settings = settings
        self._metrics = SettlerMetrics(telemetry)
        self._problem: str | None = None
        # Secrets and files first: a mistake in them is said before anything is touched.
        self._signer: KeySigner | RemoteSigner = (
            KeySigner(load_key(settings.operator, what="operator"))
            if settings.signer.url is None
            else RemoteSigner(settings.signer)
        )
        self._salt_key = load_salt_key(settings.salt_key_file)
        self._revealer_key = load_revealer_key(settings.disputes.revealer)
        if self._revealer_key is not None and self._revealer_key.address == self._signer.address:
            raise SettingsError("--disputes.revealer must be another key than --operator.")
        self._faults = Faults(settings.fault_point)

    def unwell(self) -> str | None:
        """Return what keeps money from moving, for /healthz."""
        return self._problem

    async def work(self, api: ApiServer, leadership: Leadership, stop: asyncio.Event) -> None:
        """Follow the hub and run cycles until told to stop."""
        settings = self._settings
        money = Money(
            domain=Domain(
                chain_id=settings.payments.chain_id,
                escrow=checksummed(settings.payments.escrow),
                hub_id=from_hex(settings.hub_id),
            ),
            token=settings.payments.token,
            decimals=settings.payments.token_decimals,
        )
        hub = HubObjects(
            api,
            check=lambda obj: check_claim(obj, money=money),
            may_write=self._may_write(leadership),
            domain=money.domain,
            system_namespace=settings.system_namespace,
            in_flight=settings.writers.in_flight,
            page_size=settings.watch.page_size,
            silence_seconds=settings.watch.silence_seconds,
        )
        following = asyncio.create_task(hub.follow(), name="watches")
        try:
            async with AsyncExitStack() as stack:
                if isinstance(self._signer, RemoteSigner):
                    await stack.enter_async_context(self._signer)
                if await _first(hub.synced(), stop) is None:
                    return
                parts = await self._parts(hub, money, stack, stop)
                if parts is None:
                    return
                if settings.dry_run:
                    sys.stdout.write(json.dumps(await look(parts), indent=2) + "\n")
                    stop.set()
                cycle = Cycle(parts, self._disputes(parts))
                while not stop.is_set():
                    hub.changed.clear()
                    began = time.monotonic()
                    under_way = await self._once(cycle)
                    took = time.monotonic() - began
                    # NB: who has nothing to settle takes little of the machine, however much waits.
                    rest = 0.0 if under_way else min(3 * took, _LONGEST_REST_SECONDS)
                    await _first(self._rest(hub, at_least=rest), stop)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    def _may_write(self, leadership: Leadership) -> Callable[[], None]:
        def never() -> None:
            raise NotLeading("a dry run writes nothing")

        if self._settings.dry_run:
            return never
        return leadership.check if self._settings.lease.enabled else lambda: None

    async def _rest(self, hub: HubObjects, *, at_least: float) -> None:
        """Wait for a change on the hub; on a chain, which tells nobody, at most until the next look."""
        epochs = self._settings.epochs
        pause = min(_DEBOUNCE_SECONDS, epochs.poll_seconds)
        await asyncio.sleep(max(at_least, pause))
        on_chain = self._settings.payments.mode == "chain"
        longest = epochs.poll_seconds if on_chain else min(epochs.resync_seconds, max(epochs.poll_seconds, 1))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hub.changed.wait(), max(0.0, longest - pause))

    async def _once(self, cycle: Cycle) -> bool:
        """Run one cycle, and say whether an epoch is under way; whatever it meets, the next looks again."""
        try:
            under_way = await cycle.run()
            self._problem = None
            return under_way
        except NotLeading:
            raise
        except (Retryable, ApiError) as error:
            self._metrics.failed(error)
            log.warning("cycle interrupted", error=f"{type(error).__name__}: {error}")
        except (MoneyError, OSError) as error:
            self._metrics.failed(error)
            problem = f"{type(error).__name__}: {error}"
            if problem != self._problem:  # said once, shown by /healthz for as long as it lasts
                log.error("nothing is settled", error=problem)
            self._problem = problem
        except Exception as error:
            # NB: a bug must not end the process: it would come back to the same objects and die again.
            self._metrics.failed(error)
            self._problem = f"{type(error).__name__}: {error}"
            log.exception("the cycle failed")
        return False

    async def _parts(
        self, hub: HubObjects, money: Money, stack: AsyncExitStack, stop: asyncio.Event
    ) -> Parts | None:
        """Put the parts together; None when told to stop before the chain answered."""
        settings = self._settings
        archive = Archive(self._store())
        for obj in hub.own_settlements():
            spec = obj["spec"]
            archive.learn(
                from_hex(spec["bundleHash"]),
                commitment=from_hex(spec["commitment"]),
                previous=from_hex(spec["previousCommitment"]),
            )
        while not await self._scanned(archive):
            if await _first(asyncio.sleep(settings.epochs.poll_seconds), stop) is None:
                return None
        if settings.payments.mode == "ledger":
            domain = Domain.of_ledger(from_hex(settings.hub_id))
            history = History(archive, domain)
            payments: Payments = LedgerPayments(
                domain,
                self._signer,
                decimals=settings.payments.token_decimals,
                index=hub.index,
                accounts=hub.accounts.values,
                accounts_version=lambda: hub.accounts.newest,
                charged=lambda payer: history.books.by_payer.get(payer, 0),
                unix_now=_unix_now,
            )
        else:
            if not settings.chain.rpc_urls:
                raise SettingsError("--chain.rpc-urls (FALLOW_CHAIN__RPC_URLS) must be set.")
            rpcs = [
                await stack.enter_async_context(Rpc(url, timeout_seconds=settings.chain.rpc_timeout_seconds))
                for url in settings.chain.rpc_urls
            ]
            checked = await self._domain(rpcs, stop)
            if checked is None:
                return None
            domain = checked
            history = History(archive, domain)
            payments = self._chain(rpcs, domain, hub, archive)
        return Parts(
            hub=hub,
            payments=payments,
            archive=archive,
            history=history,
            money=money,
            salt_key=self._salt_key,
            epochs=settings.epochs,
            faults=self._faults,
            metrics=self._metrics,
            unix_now=_unix_now,
            contract_payers=ContractPayers(payments, accounts=hub.accounts.values, unix_now=_unix_now),
            monotonic=time.monotonic,
        )

    def _disputes(self, parts: Parts) -> DisputeWatch:
        disputes = self._settings.disputes
        revealer = None
        if self._revealer_key is not None:
            revealer = Revealer(
                self._revealer_key,
                fee_ceiling=self._settings.chain.fee_ceiling_gwei * GWEI,
                leaves_per_transaction=disputes.leaves_per_transaction,
                faults=self._faults,
            )
        return DisputeWatch(
            parts, revealer=revealer, poll_seconds=disputes.poll_seconds, monotonic=time.monotonic
        )

    async def _scanned(self, archive: Archive) -> bool:
        """Take in what the archive holds; False when it does not answer."""
        try:
            await archive.scan()
        except (Retryable, OSError) as error:
            self._problem = f"the archive does not answer: {error}"
            log.warning("waiting for the archive", error=str(error))
            return False
        return True

    def _store(self) -> Store:
        settings = self._settings
        if settings.archive_directory is not None:
            return DirectoryStore(settings.archive_directory, faults=self._faults)
        try:
            # NB: late, since only who has a bucket installs what it takes.
            from fallow.settler.archive_s3 import S3Store
        except ImportError as error:
            raise SettingsError("An archive in a bucket takes `pip install 'fallow[s3]'`.") from error
        return S3Store(settings.archive_s3, faults=self._faults)

    def _chain(self, rpcs: Sequence[Rpc], domain: Domain, hub: HubObjects, archive: Archive) -> ChainPayments:
        chain = self._settings.chain

        async def witness(rpc: Rpc, block: int) -> object:
            """Return what an endpoint says about the epochs at a block: all have to say the same."""
            if not await rpc.has_code(domain.escrow, block=block):
                return None
            head = await Escrow(rpc, domain.escrow).head(block=block)
            return head.last_epoch, head.commitment

        def told_block() -> int:
            last = hub.index.last_confirmed()
            return 0 if last is None else int((last.get("status") or {}).get("block") or 0)

        return ChainPayments(
            Endpoints(
                rpcs,
                chain_id=domain.chain_id,
                confirmations=chain.confirmations,
                witness=witness,
                monotonic=time.monotonic,
                lag_blocks=chain.rpc_lag_blocks,
                agreeing=chain.rpc_agreeing,
                told=self._metrics.endpoint,
            ),
            domain,
            self._signer,
            watch=SenderWatch(
                self._signer.address,
                recorded=hub.index.recorded,
                confirmed=hub.index.confirmed_nonces,
                is_ours=lambda sent: settles_a_bundle(sent, escrow=domain.escrow, archive=archive),
                resumed=hub.resumed_below,
            ),
            told_block=told_block,
            confirmations=chain.confirmations,
            fee_ceiling=chain.fee_ceiling_gwei * GWEI,
            replace_after_blocks=chain.replace_after_blocks,
            metrics=self._metrics,
        )

    async def _domain(self, rpcs: Sequence[Rpc], stop: asyncio.Event) -> Domain | None:
        """Check once that chain, escrow, hub, token and key are the ones meant.

        Waits for one of the endpoints to answer. Raises SettingsError when it answers something else.
        """
        payments = self._settings.payments
        for rpc in itertools.cycle(rpcs):
            if stop.is_set():
                return None
            try:
                escrow = Escrow(rpc, payments.escrow)
                domain = await escrow.domain()
                token = await escrow.token()
                decimals = await token.decimals()
                operator = (await escrow.head()).operator
                break
            except Retryable as error:
                self._problem = f"the chain does not answer: {error}"
                log.warning("waiting for the chain", error=str(error))
                await _first(asyncio.sleep(self._settings.epochs.poll_seconds), stop)
        for flag, said, found in (
            ("--payments.chain-id", str(payments.chain_id), str(domain.chain_id)),
            ("--hub-id", self._settings.hub_id, "0x" + domain.hub_id.hex()),
            ("--payments.token", checksummed(payments.token), token.address),
            ("--payments.token-decimals", str(payments.token_decimals), str(decimals)),
        ):
            if said != found:
                raise SettingsError(f"{flag} is {said}, but the escrow {escrow.address} says {found}.")
        if operator != self._signer.address:
            log.error("this key is not the escrow's operator", key=self._signer.address, operator=operator)
        return domain


async def _first(awaitable: Coroutine[Any, Any, object], stop: asyncio.Event) -> bool | None:
    """Await something, but not past `stop`; True when it came to its end, None when stopped first."""
    task = asyncio.create_task(awaitable)
    stopping = asyncio.create_task(stop.wait())
    try:
        both: set[asyncio.Task[Any]] = {task, stopping}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return None
    finally:
        for each in (task, stopping):
            each.cancel()
        await asyncio.gather(task, stopping, return_exceptions=True)


def _unix_now() -> int:
    return int(time.time())
