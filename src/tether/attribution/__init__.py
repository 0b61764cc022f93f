"""The core: why connections end. Standard library only; no I/O, no asyncio, no clock, no logging."""
