"""Whether this server is fit to serve, as gRPC's health service and a metric say it."""

import asyncio
import logging
from collections.abc import Collection
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from aggregator.service.telemetry.metrics import Metrics

_LOG = logging.getLogger(__name__)
_STATUS: Final = health_pb2.HealthCheckResponse


class Health:
    """Healthy from the start on, until storage is said to fail. Made on the event loop.

    Args:
        services: by name; "" is the server as a whole, which is always among them.
        silent: those of the services that are switched off, and never healthy.
        metrics: where it is shown besides.
    """

    def __init__(self, services: Collection[str], silent: Collection[str], metrics: Metrics) -> None:
        self._services = {"": True} | {name: name not in silent for name in services}
        self._metrics = metrics
        self._servicer = health.aio.HealthServicer()
        self._loop = asyncio.get_running_loop()
        self._failed: str | None = None

    async def serve(self, server: grpc.aio.Server) -> None:
        """Answer on this server, which has not started yet."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)
        await self._tell()

    def storage(self, failed: str | None) -> None:
        """Say that storage fails, or with None that it works (again); from any thread, as often as one likes.

        Args:
            failed: why, in a sentence for the log.
        """
        before, self._failed = self._failed, failed
        self._metrics.storage_healthy.set(failed is None)
        if failed is not None and before is None:
            _LOG.warning("storage fails, this server is unhealthy: %s", failed)
        if failed is None and before is not None:
            _LOG.info("storage works again, this server is healthy")
        if (failed is None) is not (before is None):
            asyncio.run_coroutine_threadsafe(self._tell(), self._loop)

    async def _tell(self) -> None:
        """Set every status to what holds when its turn comes: the last one told is the newest."""
        for name, offered in self._services.items():
            serving = offered and self._failed is None
            await self._servicer.set(name, _STATUS.SERVING if serving else _STATUS.NOT_SERVING)
