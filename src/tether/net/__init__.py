"""Thin asyncio: sockets, HTTP upgrade, the real clock, TCP_INFO. Nothing here decides."""
