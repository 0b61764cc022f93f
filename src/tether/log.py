"""Structured logging: one JSON object a line on stderr, or text for people.

Law: an event is a constant name with typed fields. `disconnected` is the only emitter of the
disconnect fields; each end of a connection is logged by it exactly once per program.
Levels: ERROR our bug or a promise broken; WARNING an unexpected disconnect; INFO the rest of a
connection's life; DEBUG messages. No secrets: tokens, tickets and keys never reach a log line.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from tether.attribution.disconnect import Disconnect

Logger = structlog.typing.FilteringBoundLogger


NOISY = ("asyncssh", "websockets", "uvicorn.access", "asyncio")
"""Libraries that tell more than an operator wants to read."""


def configure(
    log_format: str = "text",
    level: str = "info",
    program: str = "",
    *,
    noisy: Sequence[str] = NOISY,
) -> None:
    """Set up logging for this process.

    Args:
        log_format: "json" (one object a line) or "text".
        level: "debug", "info", "warning" or "error".
        program: bound to every line: "server", "agent", "relay" or "client".
        noisy: whose lines are kept from warnings on only.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if log_format == "json":
        processors = [*shared, structlog.processors.JSONRenderer(serializer=_to_json)]
        factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        processors = [*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        factory = structlog.PrintLoggerFactory(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(**({"program": program} if program else {}))
    root = logging.getLogger()
    root.handlers = [_Forward()]
    root.setLevel(max(number, logging.WARNING) if number > logging.DEBUG else logging.DEBUG)
    logging.getLogger("tether").setLevel(number)
    for name in noisy:
        logging.getLogger(name).setLevel(logging.WARNING)


def get_logger(name: str, **bound: Any) -> Logger:
    """A logger whose lines carry `component=name` and the bound fields."""
    logger: Logger = structlog.get_logger(component=name, **bound)
    return logger


def disconnected(logger: Logger, event: str, disconnect: Disconnect, **fields: Any) -> None:
    """Log the end of one connection: INFO if expected, WARNING if not."""
    emit = logger.info if disconnect.expected else logger.warning
    emit(event, **disconnect.fields(), **fields)


def _to_json(event: Any, **_: Any) -> bytes:
    return msgspec.json.encode(event, enc_hook=str)


class _Forward(logging.Handler):
    """Libraries' lines, in our form."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger(component=record.name)
        fields: dict[str, Any] = {"exc_info": record.exc_info} if record.exc_info else {}
        logger.log(record.levelno, record.getMessage(), **fields)
