"""Writes web/src/api/schema.d.ts: the types of the REST API, out of its own OpenAPI document.

    python scripts/web_types.py [--check]

Needs the packages of web/ (`npm ci`). `--check` fails where the file would change.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tether.net.clock import SystemClock
from tether.server.api.app import create_api
from tether.server.auth.accounts import Accounts
from tether.server.db.store import Store
from tether.server.metrics import Metrics

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "web"
TYPES = WEB / "src" / "api" / "schema.d.ts"


async def document() -> str:
    """The OpenAPI document, in an order that does not change."""
    with tempfile.TemporaryDirectory() as directory:
        store, clock = await Store.open(Path(directory, "server.db")), SystemClock()
        try:
            nobody: object = None
            app = create_api(
                store=store,
                accounts=Accounts(store, clock),
                workspaces=nobody,  # type: ignore[arg-type]  # only described, never called
                connections=nobody,  # type: ignore[arg-type]
                hub=nobody,  # type: ignore[arg-type]
                derp_maps=nobody,  # type: ignore[arg-type]
                metrics=Metrics(),
                clock=clock,
                version="0",
            )
            return json.dumps(app.openapi(), sort_keys=True)
        finally:
            await store.close()


def main() -> int:
    """Write, or compare."""
    with tempfile.TemporaryDirectory() as directory:
        described, made = Path(directory, "openapi.json"), Path(directory, "schema.d.ts")
        described.write_text(asyncio.run(document()))
        tool = WEB / "node_modules" / ".bin" / "openapi-typescript"
        subprocess.run([tool, described, "-o", made], check=True, stdout=subprocess.DEVNULL)
        fresh = made.read_text()
    if "--check" in sys.argv[1:]:
        if not TYPES.exists() or TYPES.read_text() != fresh:
            print(f"{TYPES.relative_to(ROOT)} is old: run scripts/web_types.py", file=sys.stderr)
            return 1
        return 0
    TYPES.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main())
