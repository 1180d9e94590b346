"""The packages of the cloud services, as plain clients, against the servers of the tests on this machine."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from plain_clients import of_the_tests

__all__ = ["GCS", "Azure", "Boto", "azure_container", "gcs_place", "s3_server"]


@functools.cache
def s3_server() -> Any:
    """SeaweedFS, whose keys are in the environment from now on."""
    return of_the_tests("s3").server()


@functools.cache
def gcs_place() -> dict[str, Any]:
    """The options of a store in a new bucket of the emulator."""
    server = of_the_tests("gcs").server()
    return {"bucket": server.bucket(), "endpoint": server.endpoint}


@functools.cache
def azure_container() -> dict[str, Any]:
    """The options of a store in the container of the emulator, whose key is in the environment from now on."""
    azure = of_the_tests("azure")
    return {"account_name": azure.ACCOUNT, "container": azure.CONTAINER, "endpoint": azure.server().endpoint()}


class Boto:
    """The S3 client of boto3, which threads share."""

    def __init__(self, place: Path, endpoint: str = "") -> None:
        import boto3
        from botocore.config import Config

        config = Config(max_pool_connections=64, s3={"addressing_style": "path"})
        self.client: Any = boto3.client("s3", endpoint_url=endpoint or s3_server().endpoint, config=config)

    def get(self, key: str) -> bytes:
        return self.client.get_object(Bucket="arrays", Key=f"plain/{key}")["Body"].read()

    def set(self, key: str, value: bytes) -> None:
        self.client.put_object(Bucket="arrays", Key=f"plain/{key}", Body=value)

    def close(self) -> None:
        self.client.close()


class GCS:
    """The bucket of google-cloud-storage, which threads share."""

    def __init__(self, place: Path, endpoint: str = "") -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage
        from requests.adapters import HTTPAdapter

        options = gcs_place()
        endpoint = endpoint or options["endpoint"]
        self.client: Any = storage.Client(
            "plain", credentials=AnonymousCredentials(), client_options={"api_endpoint": endpoint}
        )
        self.client._http.mount("http://", HTTPAdapter(pool_connections=64, pool_maxsize=64))
        self.bucket = self.client.bucket(options["bucket"])

    def get(self, key: str) -> bytes:
        return self.bucket.blob(f"plain/{key}").download_as_bytes()

    def set(self, key: str, value: bytes) -> None:
        self.bucket.blob(f"plain/{key}").upload_from_string(value)

    def close(self) -> None:
        self.client.close()


class Azure:
    """The container client of azure-storage-blob, which threads share."""

    def __init__(self, place: Path, endpoint: str = "") -> None:
        from azure.storage.blob import BlobServiceClient

        azure = of_the_tests("azure")
        credential = {"account_name": azure.ACCOUNT, "account_key": azure.KEY}
        self.client: Any = BlobServiceClient(endpoint or azure_container()["endpoint"], credential=credential)
        self.container = self.client.get_container_client(azure_container()["container"])

    def get(self, key: str) -> bytes:
        return self.container.download_blob(f"plain/{key}").readall()

    def set(self, key: str, value: bytes) -> None:
        self.container.upload_blob(f"plain/{key}", value, overwrite=True)

    def close(self) -> None:
        self.client.close()
