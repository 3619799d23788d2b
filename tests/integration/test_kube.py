"""The kube layer against a real API server: what it refuses, how watches break, who holds a lease."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from devkit.rig import Rig
from fallow.errors import (
    AlreadyExists,
    Conflict,
    CredentialsRejected,
    Forbidden,
    Gone,
    Invalid,
    NotFound,
    Timeout,
    TooManyRequests,
    Unavailable,
)
from fallow.kube.client import JSON, ApiServer
from fallow.kube.compare_and_set import write, write_status
from fallow.kube.kinds import (
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    LEASE,
    NAMESPACE,
    NODE,
    PLACEMENT,
    SERVICE_ACCOUNT,
)
from fallow.kube.kopf_host import run_with_kopf
from fallow.kube.lease import Heartbeat, Leadership
from fallow.kube.resource import Resource
from fallow.kube.view import View
from fallow.kube.watch import Reflector
from fallow.telemetry import Telemetry

SELF = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", namespaced=False)


@pytest.fixture
def hub_kubeconfig(rig: Rig) -> Path:
    return rig.hub_kubeconfig


@pytest.fixture
def signals_kept() -> Iterator[None]:
    """The event loop leaves signals as the system has them; the session's rig needs its handler."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest_asyncio.fixture
async def api(hub_kubeconfig: Path) -> AsyncIterator[ApiServer]:
    """An administrator at the hub."""
    server = await ApiServer.connect(hub_kubeconfig, name="hub", telemetry=Telemetry("test"))
    async with server:
        yield server


@pytest_asyncio.fixture
async def young_kind(api: ApiServer) -> AsyncIterator[Resource]:
    """A kind that was defined just now: positions from before it are too old for its watches."""
    plural = f"things{uuid.uuid4().hex[:8]}"
    kind = Resource("kube.example", "v1", plural, plural.capitalize())
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    spec = {
        "group": kind.group,
        "names": {"plural": plural, "kind": kind.kind},
        "scope": "Namespaced",
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
    }
    name = f"{plural}.{kind.group}"
    await api.create(CUSTOM_RESOURCE_DEFINITION, {"metadata": {"name": name}, "spec": spec})
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(NotFound, TooManyRequests):
                await api.list(kind)
                break
            await asyncio.sleep(0.05)
    yield kind
    await api.delete(CUSTOM_RESOURCE_DEFINITION, name)


@pytest_asyncio.fixture
async def namespace(api: ApiServer) -> AsyncIterator[str]:
    """A namespace of the test's own; deleted afterwards, without waiting."""
    name = f"kube-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACE, {"metadata": {"name": name}})
    yield name
    await api.delete(NAMESPACE, name)


async def config_map(api: ApiServer, namespace: str, name: str, **data: str) -> JSON:
    return await api.create(CONFIG_MAP, {"metadata": {"name": name, "namespace": namespace}, "data": data})


async def until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Wait for a condition that other tasks bring about; fail when it never comes."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - conditions here have no event of their own
            await asyncio.sleep(0.01)


def requests(api: ApiServer, verb: str) -> float:
    assert api.telemetry is not None
    metrics = api.telemetry.api_requests.collect()
    samples = [each for metric in metrics for each in metric.samples]
    return sum(each.value for each in samples if each.name.endswith("_total") and each.labels["verb"] == verb)


# Compare and set


async def test_write__object_changed_since_read__conflicts_and_changes_nothing(
    api: ApiServer, namespace: str
) -> None:
    read = await config_map(api, namespace, "a", x="1")
    first = await write(api, CONFIG_MAP, read, {"data": {"x": "2"}})
    with pytest.raises(Conflict):
        await write(api, CONFIG_MAP, read, {"data": {"x": "3"}})
    now = await api.get(CONFIG_MAP, "a", namespace=namespace)
    assert now == first
    assert now["data"] == {"x": "2"}


async def test_write__nothing_different__sends_nothing(api: ApiServer, namespace: str) -> None:
    read = await config_map(api, namespace, "a", x="1")
    before = requests(api, "patch")
    assert await write(api, CONFIG_MAP, read, {"data": {"x": "1"}, "metadata": read["metadata"]}) == read
    assert requests(api, "patch") == before


async def test_write__keys_gone__are_removed_on_the_server(api: ApiServer, namespace: str) -> None:
    read = await config_map(api, namespace, "a", x="1", y="2")
    labelled = await write(api, CONFIG_MAP, read, {"metadata": {"labels": {"k": "v"}}, "data": {"y": "2"}})
    assert labelled["data"] == {"y": "2"}
    assert labelled["metadata"]["labels"] == {"k": "v"}
    bare = await write(api, CONFIG_MAP, labelled, {"metadata": {"labels": {}}})
    assert not bare["metadata"].get("labels")
    assert bare["data"] == {"y": "2"}


async def test_write_status__stale_read__conflicts(api: ApiServer) -> None:
    name = f"node-{uuid.uuid4().hex[:8]}"
    read = await api.create(NODE, {"metadata": {"name": name}})
    ready = {"type": "Ready", "status": "True", "reason": "Test", "message": ""}
    try:
        answer = await write_status(api, NODE, read, {**read["status"], "conditions": [ready]})
        assert answer["status"]["conditions"][0]["type"] == "Ready"
        with pytest.raises(Conflict):
            await write_status(api, NODE, read, {**read["status"], "conditions": []})
    finally:
        await api.delete(NODE, name)


# Lists and errors


async def test_list__more_objects_than_a_page__returns_all_as_of_one_version(
    api: ApiServer, namespace: str
) -> None:
    for number in range(25):
        await config_map(api, namespace, f"m{number:02}")
    before = requests(api, "list")
    listing = await api.list(CONFIG_MAP, namespace=namespace, page_size=10)
    names = [item["metadata"]["name"] for item in listing.items]
    assert [name for name in names if name.startswith("m")] == [f"m{number:02}" for number in range(25)]
    assert requests(api, "list") - before == 3
    assert {item["kind"] for item in listing.items} == {"ConfigMap"}
    newest = max(int(item["metadata"]["resourceVersion"]) for item in listing.items)
    assert int(listing.resource_version) >= newest


async def test_list__selectors__only_what_matches(api: ApiServer, namespace: str) -> None:
    for name, colour in (("a", "red"), ("b", "blue")):
        meta = {"name": name, "namespace": namespace, "labels": {"colour": colour}}
        await api.create(CONFIG_MAP, {"metadata": meta})
    by_label = await api.list(CONFIG_MAP, namespace=namespace, label_selector="colour=red")
    by_field = await api.list(CONFIG_MAP, namespace=namespace, field_selector="metadata.name=b")
    assert [each["metadata"]["name"] for each in by_label.items + by_field.items] == ["a", "b"]


async def test_errors__each_refusal__has_its_class_and_says_what_happened(
    api: ApiServer, namespace: str
) -> None:
    made = await config_map(api, namespace, "a")
    with pytest.raises(NotFound, match=r"get ConfigMap none: configmaps \"none\" not found"):
        await api.get(CONFIG_MAP, "none", namespace=namespace)
    with pytest.raises(AlreadyExists):
        await config_map(api, namespace, "a")
    with pytest.raises(Invalid) as caught:
        await config_map(api, namespace, "Not A Name")
    assert (caught.value.status, caught.value.reason) == (422, "Invalid")
    with pytest.raises(Conflict):
        await api.delete(CONFIG_MAP, "a", namespace=namespace, uid=str(uuid.uuid4()))
    with pytest.raises(Conflict):
        await api.delete(CONFIG_MAP, "a", namespace=namespace, resource_version="1")
    with pytest.raises(NotFound):
        await api.list(Resource("nobody.example", "v1", "things", "Thing"))
    await api.delete(CONFIG_MAP, "a", namespace=namespace, uid=made["metadata"]["uid"])
    with pytest.raises(NotFound):
        await api.get(CONFIG_MAP, "a", namespace=namespace)


async def test_watch__position_long_gone__raises_gone(api: ApiServer, young_kind: Resource) -> None:
    async def watch_from_long_ago() -> None:
        async with api.watch(young_kind, resource_version="1", timeout_seconds=5) as events:
            async for _ in events:
                pass

    with pytest.raises(Gone):
        await watch_from_long_ago()


async def test_errors__nobody_listens_or_nobody_answers__unavailable_or_timeout(
    hub_kubeconfig: Path, tmp_path: Path
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    path = _through(hub_kubeconfig, port, tmp_path)
    async with await ApiServer.connect(path, name="hub", timeout_seconds=0.3) as server:
        with pytest.raises(Timeout):
            await server.get(NAMESPACE, "default")
        silent.close()
        await silent.wait_closed()
        with pytest.raises(Unavailable):
            await server.get(NAMESPACE, "default")


# Credentials


async def test_token_file__renewed_on_disk__next_request_uses_the_new_one(
    api: ApiServer, namespace: str, hub_kubeconfig: Path, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("stale")
    config = _config(hub_kubeconfig)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"tokenFile": str(token_file)}}]
    async with await ApiServer.connect(_written(config, tmp_path), name="hub") as server:
        with pytest.raises(CredentialsRejected):
            await server.create(SELF, {"metadata": {}})
        token_file.write_text(await _token(api, namespace))
        me = await server.create(SELF, {"metadata": {}})
        assert me["status"]["userInfo"]["username"] == f"system:serviceaccount:{namespace}:robot"
        with pytest.raises(Forbidden):
            await server.list(CONFIG_MAP, namespace=namespace)


# Reflector


async def test_reflector__objects_come_change_and_go__view_follows(api: ApiServer, namespace: str) -> None:
    await config_map(api, namespace, "old", x="1")
    seen: list[tuple[str, str]] = []
    view = View(CONFIG_MAP, on_change=lambda change, obj: seen.append((change, obj["metadata"]["name"])))
    async with reflecting(Reflector(api, view, namespace=namespace, page_size=1)) as reflector:
        await view.synced.wait()
        assert view.get("old", namespace=namespace) is not None
        made = await config_map(api, namespace, "new")
        answer = await write(api, CONFIG_MAP, made, {"data": {"x": "1"}})
        view.apply(answer)  # the answer to a write enters at once …
        await api.delete(CONFIG_MAP, "old", namespace=namespace)
        await until(lambda: view.get("old", namespace=namespace) is None)
        assert view.get("new", namespace=namespace) == answer
        assert view.apply(made) is False  # … and what is older than it is dropped
        assert reflector.alive(within_seconds=10)
    assert seen.count(("MODIFIED", "new")) <= 1
    assert seen.count(("ADDED", "new")) == 1
    assert seen[-1] == ("DELETED", "old")


async def test_reflector__connection_cut_for_a_while__resumes_without_listing_again(
    api: ApiServer, namespace: str, hub_kubeconfig: Path, tmp_path: Path
) -> None:
    async with linked(hub_kubeconfig, tmp_path) as (link, server):
        view = View(CONFIG_MAP)
        async with reflecting(Reflector(server, view, namespace=namespace)) as reflector:
            await view.synced.wait()
            await until(lambda: reflector.alive(within_seconds=60))
            await link.cut()
            await until(lambda: not reflector.alive(within_seconds=60))
            await config_map(api, namespace, "meanwhile")
            link.mend()
            await until(lambda: view.get("meanwhile", namespace=namespace) is not None)
            assert reflector.lists == 1


async def test_reflector__away_for_too_long__lists_again_and_forgets_what_vanished(
    api: ApiServer, young_kind: Resource, hub_kubeconfig: Path, tmp_path: Path
) -> None:
    for name in ("stays", "vanishes"):
        await api.create(young_kind, {"metadata": {"name": name, "namespace": "default"}})
    gone: list[str] = []

    def note(change: str, obj: JSON) -> None:
        if change == "DELETED":
            gone.append(obj["metadata"]["name"])

    async with linked(hub_kubeconfig, tmp_path) as (link, server):
        view = View(young_kind, on_change=note)
        async with reflecting(Reflector(server, view, namespace="default")) as reflector:
            await view.synced.wait()
            await until(lambda: reflector.alive(within_seconds=60))
            await link.cut()
            await api.delete(young_kind, "vanishes", namespace="default")
            reflector._position = "1"  # as after hours away: that is too old
            link.mend()
            await until(lambda: reflector.lists == 2)
            assert gone == ["vanishes"]
            assert view.get("stays", namespace="default") is not None


async def test_reflector__object_beyond_a_read_buffer__arrives_whole(api: ApiServer, namespace: str) -> None:
    view = View(CONFIG_MAP)
    async with reflecting(Reflector(api, view, namespace=namespace)) as reflector:
        await view.synced.wait()
        await until(lambda: reflector.alive(within_seconds=60))
        await config_map(api, namespace, "big", x="ü" * 300_000)
        await until(lambda: view.get("big", namespace=namespace) is not None)
        assert reflector.lists == 1


# Leases


async def test_leadership__holder_gives_back__next_one_leads_with_a_higher_term(
    api: ApiServer, namespace: str
) -> None:
    first, second = (_leadership(api, namespace, name) for name in ("one", "two"))
    assert await first.acquire() == 1
    await second.step()
    assert not second.may_write()
    await first.release()
    assert not first.may_write()
    assert await second.acquire() == 2
    lease = await api.get(LEASE, "leader", namespace=namespace)
    assert lease["spec"]["leaseTransitions"] == 2
    assert lease["spec"]["holderIdentity"] == "two"


async def test_leadership__holder_stops_renewing__has_stopped_writing_before_the_next_begins(
    api: ApiServer, namespace: str
) -> None:
    first = _leadership(api, namespace, "one", seconds=2.0)
    second = _leadership(api, namespace, "two", seconds=2.0)
    await first.acquire()
    term = await second.acquire()
    assert term == 2
    assert not first.may_write()
    await first.step()  # woken up, it looks, and sees that another leads
    assert not first.may_write()
    assert second.may_write()


async def test_leadership__renewed_in_time__nobody_else_gets_it(api: ApiServer, namespace: str) -> None:
    first = _leadership(api, namespace, "one", seconds=2.0)
    second = _leadership(api, namespace, "two", seconds=2.0)
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(4.0):
            await second.acquire()
    assert first.may_write()
    assert first.term == 1
    keeping.cancel()


async def test_heartbeat__beats__the_lease_changes_each_time(api: ApiServer, namespace: str) -> None:
    heart = Heartbeat(api, namespace=namespace, name="agent", identity="a", duration_seconds=20)
    first = await heart.beat()
    second = await heart.beat(announce_seconds=300)
    assert first["metadata"]["resourceVersion"] != second["metadata"]["resourceVersion"]
    assert second["spec"]["leaseDurationSeconds"] == 300


# Kopf


@pytest.mark.usefixtures("signals_kept")
async def test_run_with_kopf__sigterm__program_finishes_first_and_saw_everything(
    api: ApiServer, namespace: str
) -> None:
    await config_map(api, namespace, "before")
    view = View(CONFIG_MAP)
    order: list[str] = []

    async def program(stop: asyncio.Event) -> None:
        assert view.synced.is_set()
        assert view.get("before", namespace=namespace) is not None
        made = await config_map(api, namespace, "after")
        await until(lambda: view.get("after", namespace=namespace) == made)
        await api.delete(CONFIG_MAP, "before", namespace=namespace)
        await until(lambda: view.get("before", namespace=namespace) is None)
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        # What a program does last (drain, release) still works: Kopf has cancelled nothing yet.
        await asyncio.create_task(api.get(NAMESPACE, namespace))
        order.append("finished")

    await asyncio.wait_for(run_with_kopf(api, [view], program), 20)
    assert order == ["finished"]


@pytest.mark.usefixtures("signals_kept")
async def test_run_with_kopf__program_fails__its_error_comes_out(api: ApiServer, namespace: str) -> None:
    async def program(stop: asyncio.Event) -> None:
        raise NotFound("on purpose")

    view = View(CONFIG_MAP)
    with pytest.raises(NotFound, match="on purpose"):
        await asyncio.wait_for(run_with_kopf(api, [view], program, namespaces=[namespace]), 20)


@pytest.mark.usefixtures("signals_kept")
async def test_run_with_kopf__an_agents_rights__suffice_for_its_own_namespace(rig: Rig) -> None:
    view = View(PLACEMENT)

    async def program(stop: asyncio.Event) -> None:
        assert view.synced.is_set()
        # Kopf's part runs too: it would end by itself where a right is missing that it insists on.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stop.wait(), 2)

    kubeconfig = rig.members["aurora"].agent_hub_kubeconfig
    async with await ApiServer.connect(kubeconfig, name="hub") as agent:
        await asyncio.wait_for(run_with_kopf(agent, [view], program, namespaces=["provider-aurora"]), 20)


# What the tests above stand on


class Link:
    """A TCP connection to the API server that can be cut and mended."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.port = 0
        self._target = target
        self._whole = True
        self._relays: set[asyncio.Task[None]] = set()

    async def open(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def mend(self) -> None:
        self._whole = True

    async def cut(self) -> None:
        """Break what is connected; what connects from now on is broken at once."""
        self._whole = False
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)
        self._relays.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._whole:
            self._relays.add(asyncio.create_task(self._relay(reader, writer)))
        else:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            there, back = await asyncio.open_connection(*self._target)
            writers.append(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            for each in writers:
                each.transport.abort()

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def linked(kubeconfig: Path, folder: Path) -> AsyncIterator[tuple[Link, ApiServer]]:
    host, _, port = _config(kubeconfig)["clusters"][0]["cluster"]["server"].rpartition(":")
    link = Link((host.removeprefix("https://"), int(port)))
    listener = await link.open()
    try:
        async with await ApiServer.connect(_through(kubeconfig, link.port, folder), name="hub") as server:
            yield link, server
    finally:
        listener.close()
        await link.cut()


@contextlib.asynccontextmanager
async def reflecting(reflector: Reflector) -> AsyncIterator[Reflector]:
    task = asyncio.create_task(reflector.run())
    try:
        yield reflector
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _leadership(api: ApiServer, namespace: str, identity: str, *, seconds: float = 15.0) -> Leadership:
    return Leadership(
        api,
        namespace=namespace,
        name="leader",
        identity=identity,
        duration_seconds=seconds,
        renew_seconds=min(3.0, seconds / 5),
    )


async def _token(api: ApiServer, namespace: str) -> str:
    await api.create(SERVICE_ACCOUNT, {"metadata": {"name": "robot", "namespace": namespace}})
    request = Resource("", "v1", "serviceaccounts/robot/token", "TokenRequest")
    body: dict[str, Any] = {
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"namespace": namespace},
        "spec": {"expirationSeconds": 600},
    }
    answer = await api.create(request, body)
    return str(answer["status"]["token"])


def _through(kubeconfig: Path, port: int, folder: Path) -> Path:
    config = _config(kubeconfig)
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    return _written(config, folder)


def _config(kubeconfig: Path) -> dict[str, Any]:
    """A kubeconfig whose paths do not depend on where it lies: ours moves."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    for entry in config["clusters"] + config["users"]:
        part = entry.get("cluster") or entry.get("user")
        for key in ("certificate-authority", "client-certificate", "client-key", "tokenFile"):
            if key in part:
                part[key] = str(kubeconfig.parent / part[key])
    return config


def _written(config: dict[str, Any], folder: Path) -> Path:
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
