"""An archive in a bucket of Amazon S3 or of whatever speaks its protocol.

An upload is whole or it is not there, so a bundle goes up under its own name; it is read back before
anything names it. Reading goes by way of a temporary file: a bundle is read more than once, and one
of ten thousand claims has tens of megabytes.

Credentials come from a file, which may change while the settler runs, or from the identity that the
platform gives the pod; never from flags or variables, which too many can read.
"""

from __future__ import annotations

import configparser
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import IamAwsProvider, Provider
from minio.error import MinioException, S3Error

from fallow.errors import InvalidSetting
from fallow.settings import S3Settings
from fallow.settler import bundle_text
from fallow.settler.archive import SUFFIX
from fallow.settler.bundle import Bundle
from fallow.settler.faults import FaultPoint, Faults
from fallow.settler.refusals import ArchiveUnavailable

_AMAZON = "https://s3.amazonaws.com"
_MISSING = frozenset({"NoSuchKey", "NotFound"})
_NAME_LENGTH = len("0x") + 64 + len(SUFFIX)


class S3Store:
    """Bundles as objects of one bucket, below one prefix."""

    def __init__(self, settings: S3Settings, *, faults: Faults) -> None:
        self.scratch: Path | None = None
        self._bucket = settings.bucket
        self._prefix = settings.prefix
        self._faults = faults
        path = settings.credentials_file
        place = urlsplit(settings.endpoint or _AMAZON)
        self._client = Minio(
            place.netloc,
            secure=place.scheme == "https",
            region=settings.region,
            credentials=IamAwsProvider() if path is None else _KeyFile(path),
            http_client=urllib3.PoolManager(
                timeout=urllib3.Timeout(connect=settings.timeout_seconds, read=settings.timeout_seconds),
                retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
                cert_reqs="CERT_REQUIRED",
                ca_certs=str(settings.ca_file or certifi.where()),
            ),
        )

    def names(self) -> list[str]:
        """Return the names of all bundles."""
        with self._failures():
            listed = self._client.list_objects(self._bucket, prefix=self._prefix, recursive=True)
            found = [str(each.object_name).removeprefix(self._prefix) for each in listed]
        return sorted(each for each in found if len(each) == _NAME_LENGTH and each.endswith(SUFFIX))

    def put(self, name: str, file: BinaryIO) -> None:
        """Upload a bundle, unless it is there."""
        length = file.seek(0, 2)
        file.seek(0)
        with self._failures():
            if self._has(name):
                return
            self._faults.reach(FaultPoint.BUNDLE_HALF_WRITTEN)
            self._client.put_object(
                self._bucket, self._prefix + name, file, length, content_type="application/json"
            )

    def get(self, name: str) -> Bundle:
        """Download a bundle; FileNotFoundError when it is not there."""
        with tempfile.NamedTemporaryFile(dir=self.scratch, suffix=SUFFIX, delete=False) as copy:
            path = Path(copy.name)
            try:
                with self._failures():
                    answer = self._client.get_object(self._bucket, self._prefix + name)
                    try:
                        for chunk in bundle_text.chunks(answer):
                            copy.write(chunk)
                    finally:
                        answer.close()
                        answer.release_conn()
            except BaseException:
                path.unlink()
                raise
        bundle = Bundle(opened=lambda: path.open("rb"))
        weakref.finalize(bundle, path.unlink, missing_ok=True)
        return bundle

    def _has(self, name: str) -> bool:
        try:
            self._client.stat_object(self._bucket, self._prefix + name)
        except S3Error as error:
            if error.code in _MISSING:
                return False
            raise
        return True

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Turn what the client raises into what an archive raises."""
        try:
            yield
        except S3Error as error:
            if error.code in _MISSING:
                raise FileNotFoundError(str(error)) from error
            raise ArchiveUnavailable(
                f"the archive's bucket refuses: {error.code}, {error.message}"
            ) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ArchiveUnavailable(f"the archive's bucket cannot be reached: {error}") from error


class _KeyFile(Provider):
    """Keys from a file of the form that Amazon's own tools use; read for each request."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.retrieve()  # a mistake is said before anything is done

    def retrieve(self) -> Credentials:
        """Read the file. InvalidSetting, without any secret in it, when it is of another form."""
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(self._path.read_text())
            section = parser["default"]
            return Credentials(
                section["aws_access_key_id"],
                section["aws_secret_access_key"],
                section.get("aws_session_token"),
            )
        except (OSError, configparser.Error, KeyError):
            # NB: without the parser's own words, which would show the line, and the secret in it.
            raise InvalidSetting(
                f"{self._path} must hold a section [default] with aws_access_key_id and "
                "aws_secret_access_key."
            ) from None
