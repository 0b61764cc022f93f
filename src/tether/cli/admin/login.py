"""`tether login`, `logout`, `whoami`: which server, and as whom.

Law: a token is checked with the server before it is saved, and is never an argument: arguments are
seen by every user of the machine.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tether import config
from tether.cli.api import Api
from tether.cli.output import clean, json_option, print_json
from tether.client.errors import Failure


@click.command()
@click.argument("url")
@click.option("--token-file", type=click.Path(path_type=Path), help="Read the token from a file.")
@click.option("--token", "token_source", metavar="-", help="`--token -` reads it from stdin.")
@click.option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Trust these certificate authorities besides the system's. [TETHER_CA_FILE]",
)
@click.option(
    "--insecure-http",
    is_flag=True,
    help="Reach a server on another machine without TLS. [TETHER_INSECURE_HTTP]",
)
def login(
    url: str,
    token_file: Path | None,
    token_source: str | None,
    ca_file: Path | None,
    insecure_http: bool,
) -> None:
    """Save which server to use, and a token.

    Asks for the token unless it is told where to read it. The token is checked before it is saved.

    \b
    Examples:
      tether login https://tether.example.com
      tether login http://127.0.0.1:7080 --token-file /var/lib/tether/admin-token
      pass show tether | tether login https://tether.example.com --token -
      tether login https://tether.corp.example --ca-file /etc/ssl/corp-ca.pem
    """
    if ca_file is not None:  # from now on, and for this call
        os.environ["TETHER_CA_FILE"] = str(ca_file.absolute())
    allowed = insecure_http or config.insecure_http_allowed(os.environ)
    base = config.server_url(url, insecure_http=allowed)
    given = config.ClientConfig(
        url=base,
        token=_read_token(token_file, token_source),
        insecure_http=allowed and config.is_clear_text(base),
        ca_file=config.ca_file(os.environ),
    )
    if given.insecure_http:
        config.warn_of_clear_text(base)
    me = Api(given).get("/whoami")
    files = config.client_files(os.environ)
    config.save(files, given)
    click.echo(f"Logged in to {given.url} as {clean(me['user'])} ({clean(me['role'])}).")
    if overriding := [key for key in ("TETHER_URL", "TETHER_TOKEN") if os.environ.get(key)]:
        click.echo(f"tether: note: {' and '.join(overriding)} still override this", err=True)


@click.command()
def logout() -> None:
    """Forget the saved token.

    The token itself stays valid: `tether token delete ID` ends it.

    \b
    Example:
      tether logout
    """
    forgotten = config.forget(config.client_files(os.environ))
    click.echo("Logged out." if forgotten else "There was nothing to forget.")


@click.command()
@json_option
def whoami(as_json: bool) -> None:
    """Show who the server takes you for.

    \b
    Examples:
      tether whoami
      tether whoami --json
    """
    used = config.load(os.environ)
    me = Api(used).get("/whoami")
    if as_json:
        print_json({**me, "url": used.url})
        return
    click.echo(
        f"{clean(me['user'])} ({clean(me['role'])}) at {used.url}, "
        f"server version {clean(me.get('server_version'))}"
    )


def _read_token(path: Path | None, source: str | None) -> str:
    if path is not None and source is not None:
        raise click.UsageError("--token-file and --token exclude each other.")
    if source not in (None, "-"):
        raise click.UsageError(
            "a token must not be an argument, where every user of this machine sees it: "
            "write `--token -` and give it on stdin, or use --token-file."
        )
    if path is not None:
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as wrong:
            why = wrong.strerror if isinstance(wrong, OSError) else "it is not text"
            raise Failure(f"the token file {path} cannot be read: {why}") from wrong
    elif source == "-":
        text = sys.stdin.read()
    else:
        text = click.prompt("Token", hide_input=True, err=True)
    token: str = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Failure("that is no token: it should be one word such as tether_user_…")
    return token
