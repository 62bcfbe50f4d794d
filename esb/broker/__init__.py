"""The broker between nodes. Embedded means none: rows go straight from the outbox to lanes (esb.relay)."""
