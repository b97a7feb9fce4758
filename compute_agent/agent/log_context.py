"""Lets each log line say which request and which instance it belongs to."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="-")
instance_uuid: ContextVar[str] = ContextVar("instance_uuid", default="-")


@contextmanager
def logging_about(request: str, instance: str) -> Iterator[None]:
    """Mark every line that this thread logs inside the block."""
    tokens = request_id.set(request), instance_uuid.set(instance)
    try:
        yield
    finally:
        request_id.reset(tokens[0])
        instance_uuid.reset(tokens[1])


class ContextFilter(logging.Filter):
    """Adds `request_id` and `instance_uuid` to a record; belongs on a handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        record.instance_uuid = instance_uuid.get()
        return True
