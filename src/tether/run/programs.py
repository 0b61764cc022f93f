"""`tether up`, `tether server`, `tether agent`: from the command line to settings.

Law: options in, a settings value out; a program's own modules are imported only when it runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tether.cli.admin.tokens import Span

_FORMATS = click.Choice(["json", "text"])
_LEVELS = click.Choice(["debug", "info", "warning", "error"])
_SECONDS = click.FloatRange(0.0, min_open=True)
_PATH = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)


def _reaches_server(command: Any) -> Any:
    """The options of a program that dials its server."""
    ca_file = click.option(
        "--ca-file",
        type=_FILE,
        envvar="TETHER_CA_FILE",
        help="Trust these certificate authorities besides the system's. [TETHER_CA_FILE]",
    )
    insecure_http = click.option(
        "--insecure-http",
        is_flag=True,
        envvar="TETHER_INSECURE_HTTP",
        help="Reach a server on another machine without TLS. [TETHER_INSECURE_HTTP]",
    )
    return ca_file(insecure_http(command))


def _speaks_tls(command: Any) -> Any:
    """The options of a program that listens to others."""
    certificate = click.option(
        "--tls-cert", type=_FILE, help="Speak TLS: a PEM certificate with its chain; followed."
    )
    key = click.option("--tls-key", type=_FILE, help="Its key, PEM, without a passphrase.")
    return certificate(key(command))


class IdleSpan(click.ParamType[float | None]):
    """A length of time such as 30m, in seconds; None for `never`."""

    name = "span"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        return None if value == "never" else float(Span().convert(value, param, ctx))


@click.command()
@click.option("--listen", metavar="HOST:PORT", default="", help="Default: 127.0.0.1:7080 if free.")
@click.option("--data-dir", type=_PATH, help="Default: in your user data directory.")
@click.option("--log-format", type=_FORMATS, default="json", show_default=True)
@click.option("--verbose", is_flag=True, help="Show the logs of server and agent, too.")
def up(listen: str, data_dir: Path | None, log_format: str, verbose: bool) -> int:
    """Run everything on this machine: server, relay, agent.

    Creates the workspace `local`, which is this machine, and points your client to it.

    \b
    Examples:
      tether up
      tether up --listen 127.0.0.1:8080 --data-dir ./tether-data
    """
    from tether.run.up import UpSettings, main

    if data_dir is None:
        import platformdirs

        data_dir = Path(platformdirs.user_data_dir("tether", appauthor=False)) / "up"
    return main(
        UpSettings(
            listen=listen, data_dir=data_dir.absolute(), log_format=log_format, verbose=verbose
        )
    )


@click.command()
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:7080", show_default=True)
@click.option("--data-dir", required=True, type=_PATH, help="Database, keys and the admin token.")
@click.option("--external-url", metavar="URL", default="", help="Where others reach this server.")
@_speaks_tls
@click.option(
    "--database", metavar="URL", default="", help="Default: SQLite in the data directory."
)
@click.option("--log-format", type=_FORMATS, default="text", show_default=True)
@click.option("--log-level", type=_LEVELS, default="info", show_default=True)
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="NET",
    help="A proxy that is believed about its clients (X-Forwarded-For, Forwarded, PROXY); repeatable.",
)
@click.option(
    "--derp-map",
    type=_FILE,
    help="The DERP regions in use, JSON or TOML; read anew when it changes, and on SIGHUP.",
)
@click.option(
    "--no-embedded-relay",
    is_flag=True,
    help="Carry no tunnels here: there are `tether relay`s for that.",
)
@click.option("--ping-every", type=_SECONDS, default=15.0, show_default=True, metavar="S")
@click.option("--patience", type=_SECONDS, default=45.0, show_default=True, metavar="S")
@click.option(
    "--agent-grace",
    type=_SECONDS,
    default=15.0,
    show_default=True,
    metavar="S",
    help="How long an agent whose stream ended may take to come back.",
)
@click.option(
    "--resume-s",
    type=click.FloatRange(0.0),
    default=86400.0,
    show_default=True,
    metavar="S",
    help="How long a tunnel waits for a client that fell silent, a sleeping one for instance.",
)
@click.option(
    "--min-agent-version",
    default="",
    metavar="VERSION",
    help="Turn agents away that are older than this.",
)
def server(
    listen: str,
    data_dir: Path,
    ping_every: float,
    patience: float,
    agent_grace: float,
    no_embedded_relay: bool,
    **more: Any,
) -> int:
    """Run the server: control plane, relay and API.

    At its first start it writes the administrator's token to DIR/admin-token.

    \b
    Examples:
      tether server --data-dir /var/lib/tether
      tether server --listen 0.0.0.0:7080 --data-dir ./data --external-url https://t.example.com
    """
    from tether.net.transport.tcp import NoAddress, split_address
    from tether.server.settings import BadSetting, Graces, LinkTimes, ServerSettings

    try:
        host, port = split_address(listen)
        settings = ServerSettings(
            host=host,
            port=port,
            data_dir=data_dir.absolute(),
            embedded_relay=not no_embedded_relay,
            link_times=LinkTimes(ping_every_s=ping_every, patience_s=patience),
            graces=Graces(
                agent_s=agent_grace,
                report_s=agent_grace,
                restart_s=4 * agent_grace,
                silent_s=more["resume_s"],
            ),
            **more,
        )
    except (BadSetting, NoAddress) as wrong:
        raise click.UsageError(str(wrong)) from wrong
    from tether.run.server import main

    return main(settings)


@click.command()
@click.option("--listen", metavar="HOST:PORT", required=True)
@click.option("--server", "server_url", required=True, metavar="URL", help="The server's URL.")
@click.option(
    "--token-file",
    required=True,
    type=_FILE,
    help="Holds the token of `tether token create NAME --relay`.",
)
@click.option("--region", required=True, metavar="NAME", help="The DERP region; may be shared.")
@click.option(
    "--url", metavar="URL", default="", help="Where legs are dialled, wss://…/derp, behind a proxy."
)
@click.option("--data-dir", type=_PATH, help="Keeps who signs tickets: a restart needs no server.")
@_speaks_tls
@_reaches_server
@click.option("--max-tunnels", type=click.IntRange(0), default=0, metavar="N", help="0: no limit.")
@click.option(
    "--max-legs-per-ip",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Connections from one address. 0: no limit, as behind a proxy.",
)
@click.option(
    "--max-bytes-per-second",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Of one tunnel, both ways together; it is slowed down, nothing is lost. 0: no limit.",
)
@click.option("--log-format", type=_FORMATS, default="text", show_default=True)
@click.option("--log-level", type=_LEVELS, default="info", show_default=True)
def relay(
    listen: str,
    data_dir: Path | None,
    max_tunnels: int,
    max_legs_per_ip: int,
    max_bytes_per_second: int,
    **more: Any,
) -> int:
    """Run a DERP relay of its own.

    It carries tunnels that cannot go directly, while its server is away, too. Stopped in order, it
    first lets them move to another relay.

    \b
    Example:
      tether relay --listen 0.0.0.0:7081 --server https://tether.example.com \\
        --token-file relay-token --region fra --url wss://derp-fra.example.com/derp
    """
    from tether.net.derp.relay import RelayLimits
    from tether.net.transport.tcp import NoAddress, split_address
    from tether.run.relay import RelaySettings, main
    from tether.run.starting import CannotStart

    try:
        host, port = split_address(listen)
        settings = RelaySettings(
            host=host,
            port=port,
            data_dir=None if data_dir is None else data_dir.absolute(),
            limits=RelayLimits(
                max_carriers=max_tunnels,
                max_legs_per_ip=max_legs_per_ip,
                bytes_per_second=max_bytes_per_second,
            ),
            **more,
        )
    except (CannotStart, NoAddress) as wrong:
        raise click.UsageError(str(wrong)) from wrong
    return main(settings)


@click.command()
@click.option("--server", "server_url", required=True, metavar="URL", help="The server's URL.")
@click.option(
    "--token-file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Holds the agent_token of `tether workspace create`; only you should be able to read it.",
)
@click.option("--data-dir", required=True, type=_PATH, help="Host key and journal are kept here.")
@_reaches_server
@click.option("--log-format", type=_FORMATS, default="text", show_default=True)
@click.option("--log-level", type=_LEVELS, default="info", show_default=True)
@click.option(
    "--login-timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="S"
)
@click.option(
    "--directory",
    default="",
    metavar="DIR",
    help="Where sessions start; may hold ~ and variables. Default: the home directory.",
)
@click.option(
    "--motd-file", type=_FILE, default="/etc/motd", show_default=True, help="Greets login shells."
)
@click.option(
    "--announcement-file", type=_FILE, help="Greets them even where ~/.hushlogin asks for quiet."
)
@click.option(
    "--stop-script",
    type=_FILE,
    help="Run when the agent or its workspace stops, after the sessions ended; 2.5 s at most.",
)
@click.option(
    "--terminal-idle",
    type=IdleSpan(),
    default="1d",
    show_default=True,
    metavar="SPAN",
    help="End a `tether attach` terminal that nobody looked at for so long; or `never`.",
)
@click.option(
    "--metrics-listen",
    metavar="HOST:PORT",
    help="Tell /metrics and /debug/state there, a loopback address. Default: nowhere.",
)
@click.option(
    "--direct-listen",
    metavar="HOST:PORT|off",
    default="",
    help="Where clients may connect without a relay. Default: any free port, on all addresses;"
    " on this machine only, where the server is on it.",
)
@click.option(
    "--external-address",
    "external_addresses",
    multiple=True,
    metavar="HOST:PORT",
    help="Where a router forwards to that port; may be repeated.",
)
@click.option("--resume-vanished-s", type=_SECONDS, default=15.0, hidden=True)
@click.option("--block-file-transfer", is_flag=True, help="Refuse sftp, scp and rsync.")
@click.option("--block-local-forwarding", is_flag=True, help="Refuse ssh -L, -D and -W.")
@click.option("--block-remote-forwarding", is_flag=True, help="Refuse ssh -R.")
@click.option(
    "--gateway-ports", is_flag=True, help="Let ssh -R listen on other addresses than loopback."
)
def agent(
    login_timeout: float,
    terminal_idle: float | None,
    block_file_transfer: bool,
    block_local_forwarding: bool,
    block_remote_forwarding: bool,
    gateway_ports: bool,
    metrics_listen: str | None,
    direct_listen: str,
    external_addresses: tuple[str, ...],
    **more: Any,
) -> int:
    """Run the agent inside a workspace.

    \b
    Example:
      tether agent --server https://tether.example.com --token-file token --data-dir ~/.tether-agent
    """
    from tether.agent.commands.policy import TransferPolicy
    from tether.agent.debug_http import listen_address
    from tether.agent.terminal.pty import PtySettings
    from tether.agent.tunnels.direct_endpoint import DirectSettings
    from tether.net.transport.tcp import NoAddress
    from tether.run.agent import AgentSettings, main

    policy = TransferPolicy(
        block_file_transfer=block_file_transfer,
        block_local_forwarding=block_local_forwarding,
        block_remote_forwarding=block_remote_forwarding,
        gateway_ports=gateway_ports,
    )
    try:
        listen = listen_address(metrics_listen) if metrics_listen is not None else None
    except NoAddress as wrong:
        raise click.UsageError(str(wrong)) from wrong
    return main(
        AgentSettings(
            login_timeout_s=login_timeout,
            policy=policy,
            terminals=PtySettings(idle_s=terminal_idle),
            metrics_listen=listen,
            direct=DirectSettings(listen=direct_listen, external=external_addresses),
            **more,
        )
    )
