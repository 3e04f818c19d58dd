"""Contents of executions: blobs, artifacts, output files, standard input."""

from __future__ import annotations

from orchestrator.settings import Settings
from orchestrator.store.content.blobs import Blobs
from orchestrator.store.content.directory import DirectoryBlobs


def open_blobs(settings: Settings) -> Blobs:
    """The contents where the settings place them. Raises ``ValueError`` for wrong settings, ``OSError`` without key."""
    url = settings.blobs_url
    if not url:
        return DirectoryBlobs(settings.blobs_path, settings.disk_free_bytes)
    if url.startswith("s3://"):
        from orchestrator.store.content.bucket import BucketBlobs  # an optional package

        return BucketBlobs(url)
    from orchestrator.store.content.remote import ApiBlobs  # of a worker alone

    return ApiBlobs(url, settings.worker_token(), settings.blobs_ca_file, settings.input_bytes)
