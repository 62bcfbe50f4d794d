"""The names and arguments of the bus's queues: one a target, one a node, one for dead frames (R22)."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    # Never -1: RabbitMQ 3.10 drops at the first redelivery; never left out: 4.x drops at the twentieth.
    "x-delivery-limit": 1_000_000,
    "x-overflow": "reject-publish",
    "x-dead-letter-strategy": "at-least-once",
    "x-dead-letter-exchange": "",
}


class Topology(Struct, frozen=True):
    """The queues of one group: nodes that run the same table under the same `[bus] name`."""

    group: str

    def target(self, name: str) -> str:
        """Where deliveries for a target wait."""
        return f"{self.group}.target.{name}"

    def node(self, node: str) -> str:
        """Where receipts for a node wait."""
        return f"{self.group}.node.{node}"

    @property
    def dead_frames(self) -> str:
        """Where the broker puts what it gives up."""
        return f"{self.group}.dead-frames"

    def arguments(self, queue: str) -> dict[str, Any]:
        """Exactly what a queue is declared with, allowed on RabbitMQ 3.10 and 4."""
        if queue == self.dead_frames:
            return {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000}
        return {**ARGUMENTS, "x-dead-letter-routing-key": self.dead_frames}
