"""`tether web`: sign a browser in to the web interface.

Law: the link signs in whoever opens it first, so it is shown to nobody but the one who asked: it goes to
stdout or to this user's browser, never into a log.
"""

from __future__ import annotations

import os
import webbrowser

import click

from tether import config
from tether.cli.api import Api
from tether.cli.output import clean, json_option, print_json


@click.command()
@click.option("--print", "only_print", is_flag=True, help="Print the link, and open nothing.")
@json_option
def web(only_print: bool, as_json: bool) -> None:
    """Open the web interface, signed in.

    The link works once, within ten minutes.

    \b
    Examples:
      tether web
      tether web --print
    """
    link = Api(config.load(os.environ)).post("/sign-in-links")
    if as_json:
        print_json(link)
        return
    url = clean(link["url"])
    if only_print or not _opened(url):
        click.echo(url)


def _opened(url: str) -> bool:
    """Whether a browser took it."""
    try:
        return webbrowser.open(url)
    except (webbrowser.Error, OSError):
        return False
