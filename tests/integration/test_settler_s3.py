"""The archive in a bucket of a real S3 server: written, read back, lost, refused, and fetched again."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import pytest
import urllib3
from minio import Minio

from devkit.rig.certificates import Authority
from devkit.rig.ports import Ports
from devkit.toolchain import ensure
from fallow.errors import InvalidSetting
from fallow.receipts.epochs import genesis_commitment
from fallow.receipts.words import to_hex
from fallow.settings import S3Settings
from fallow.settler.archive import Archive
from fallow.settler.archive_s3 import S3Store
from fallow.settler.faults import Faults
from fallow.settler.refusals import ArchiveDamaged, ArchiveUnavailable
from integration.command_line import fallow
from integration.settler_world import API, DEPOSIT, PRICE_OF_ONE, World
from unit.settler.epochs import DOMAIN, a_bundle, a_checked_claim

BUCKET, PREFIX = "fallow-archive", "hubs/one/"
ACCESS, SECRET = "archivist", "archivists-secret"


@dataclass
class Server:
    """A bucket served over TLS from a directory, which may stop and start again."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> Path:
        return self.directory / "credentials"

    @property
    def authority(self) -> Path:
        return self.directory / "ca.crt"

    @property
    def objects(self) -> Path:
        return self.directory / "objects" / BUCKET / PREFIX

    def settings(self, **changes: object) -> S3Settings:
        chosen = {
            "bucket": BUCKET, "prefix": PREFIX, "endpoint": self.endpoint, "ca_file": self.authority,
            "credentials_file": self.credentials, "timeout_seconds": 5,
        }  # fmt: skip
        return S3Settings.model_validate(chosen | changes)

    def give(self, secret: str) -> None:
        """Write the credentials' file."""
        self.credentials.write_text(
            f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {secret}\n"
        )

    def start(self) -> None:
        sidecar = self.directory / "attributes"
        sidecar.mkdir(exist_ok=True)
        (self.directory / "objects").mkdir(exist_ok=True)
        log = (self.directory / "server.log").open("ab")
        self.process = subprocess.Popen(
            [
                str(ensure("versitygw")["versitygw"]), "--port", f"127.0.0.1:{self.port}", "--quiet",
                "--cert", str(self.directory / "server.crt"), "--key", str(self.directory / "server.key"),
                "posix", "--sidecar", str(sidecar), str(self.directory / "objects"),
            ],
            env={"ROOT_ACCESS_KEY_ID": ACCESS, "ROOT_SECRET_ACCESS_KEY": SECRET},
            stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        pool = urllib3.PoolManager(ca_certs=str(self.authority), retries=False, timeout=2)
        client = Minio(
            f"127.0.0.1:{self.port}", ACCESS, SECRET, region="us-east-1", secure=True, http_client=pool
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                if not client.bucket_exists(BUCKET):
                    client.make_bucket(BUCKET)
                return
            except urllib3.exceptions.HTTPError:
                assert time.monotonic() < deadline, (self.directory / "server.log").read_text()[-2000:]
                time.sleep(0.05)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "s3"
    directory.mkdir()
    authority = Authority("s3")
    pair = authority.server()
    for name, data in {
        "ca.crt": authority.certificate, "server.crt": pair.certificate, "server.key": pair.key
    }.items():  # fmt: skip
        (directory / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    with Ports() as ports:
        port = ports.hold()
        found = Server(directory, port)
        found.give(SECRET)
        ports.release(port)
        found.start()
        try:
            yield found
        finally:
            found.stop()


async def test_bucket__a_bundle_put_there__is_read_back_found_by_another_process_and_stays(
    server: Server,
) -> None:
    archive = Archive(S3Store(server.settings(), faults=Faults()))
    first = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1), a_checked_claim(2)])
    kept = await archive.write(first)
    assert kept.data == first.data
    second = a_bundle(2, first.commitment, [a_checked_claim(3)])
    await archive.write(second)
    await archive.write(second)
    assert sorted(path.name for path in server.objects.iterdir()) == sorted(
        f"{to_hex(one.hash)}.json" for one in (first, second)
    )
    other = Archive(S3Store(server.settings(), faults=Faults()))
    assert (await other.find(second.commitment)).data == second.data
    assert [one.hash for one in await other.followers(first.commitment)] == [second.hash]
    elsewhere = Archive(S3Store(server.settings(prefix="hubs/two/"), faults=Faults()))
    with pytest.raises(ArchiveDamaged, match="not in the archive"):
        await elsewhere.find(second.commitment)


async def test_bucket__an_object_changed_or_gone__is_noticed(server: Server) -> None:
    bundle = a_bundle(1, genesis_commitment(DOMAIN), [a_checked_claim(1)])
    await Archive(S3Store(server.settings(), faults=Faults())).write(bundle)
    path = server.objects / f"{to_hex(bundle.hash)}.json"
    path.write_bytes(path.read_bytes().replace(b"1800000", b"9800000"))
    with pytest.raises(ArchiveDamaged, match="changed"):
        await Archive(S3Store(server.settings(), faults=Faults())).find(bundle.commitment)
    path.unlink()
    with pytest.raises(ArchiveDamaged, match="missing"):
        await Archive(S3Store(server.settings(), faults=Faults())).load(bundle.hash)


def test_bucket__refused_or_out_of_reach__is_waited_for_and_new_keys_are_read(server: Server) -> None:
    server.give("another-secret")
    store = S3Store(server.settings(), faults=Faults())
    with pytest.raises(ArchiveUnavailable, match="refuses"):
        store.names()
    server.give(SECRET)
    assert store.names() == []
    with pytest.raises(ArchiveUnavailable, match="refuses"):
        S3Store(server.settings(bucket="nobodys"), faults=Faults()).names()
    strange = S3Store(server.settings(ca_file=Path(certifi.where())), faults=Faults())
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        strange.names()
    server.stop()
    with pytest.raises(ArchiveUnavailable, match="cannot be reached"):
        store.names()
    server.credentials.write_text(f"aws_secret_access_key = {SECRET}\n")
    with pytest.raises(InvalidSetting, match="must hold a section") as caught:
        S3Store(server.settings(), faults=Faults())
    assert SECRET not in str(caught.value)


def test_settler__with_its_archive_in_a_bucket__settles_waits_for_it_and_replays_from_it(
    ledger_world: World, server: Server, tmp_path: Path
) -> None:
    world = ledger_world
    bucket: dict[str, Any] = {
        "archive_directory": None,
        "archive_s3__bucket": BUCKET,
        "archive_s3__prefix": PREFIX,
        "archive_s3__endpoint": server.endpoint,
        "archive_s3__ca_file": str(server.authority),
        "archive_s3__credentials_file": str(server.credentials),
        "archive_s3__timeout_seconds": "2",
    }
    first = world.claim()
    world.settler.start(**bucket)
    world.until_settled(first, seconds=120)

    # The store goes away: nothing is settled that could not be archived.
    server.stop()
    second = world.claim()
    world.until("it to say so", lambda: "bucket cannot be reached" in world.settler.said(), seconds=120)
    assert world.status(second).get("state", "Pending") == "Pending"
    server.start()
    world.until_settled(second, seconds=120)
    assert world.balances() == (DEPOSIT - 2 * PRICE_OF_ONE, 2 * PRICE_OF_ONE)
    world.settler.kill()

    # A restored hub without its Settlements has them again from the bucket.
    before = sorted(obj["spec"]["commitment"] for obj in world.settlements())
    for obj in world.settlements():
        world.rig.hub_client().delete(f"{API}/settlements/{obj['metadata']['name']}")
    world.settler.start(**bucket)
    third = world.claim()
    world.until_settled(third, seconds=120)
    assert SECRET not in world.settler.log.read_text()

    fetched = tmp_path / "fetched"
    ended = fallow(
        "archive", "fetch", str(fetched), "--bucket", BUCKET, "--prefix", PREFIX, "--endpoint",
        server.endpoint, "--ca-file", str(server.authority), "--credentials-file", str(server.credentials),
    )  # fmt: skip
    assert ended.returncode == 0, ended
    archive = Archive(S3Store(server.settings(), faults=Faults()))
    names = sorted(path.stem for path in fetched.iterdir())
    assert {asyncio.run(archive.load(bytes.fromhex(name[2:]))).hash for name in names}
    assert len(names) >= len(before)
