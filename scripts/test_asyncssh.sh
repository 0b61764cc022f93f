#!/usr/bin/env bash
# asyncssh's own tests, from its source distribution, with the short way for data switched on.
# Needs a package index. Arguments go to pytest: tests/test_process.py -k stdin
#
# Left out, as they do not touch a connection and want programs or devices that are not here:
#   test_pkcs11, test_sk, gssapi's cases  skip themselves without SoftHSM, fido2 and Kerberos
#   test_tuntap                           skips itself without the device
#   *_not_readable                        root, as whom this often runs, may read everything
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
version=$(.venv/bin/python -c 'import asyncssh; print(asyncssh.__version__)')
cryptography=$(.venv/bin/python -c 'import cryptography; print(cryptography.__version__)')
place=$(mktemp -d)
unreadable=()
trap 'rm -rf "$place"' EXIT
.venv/bin/python -m venv "$place/env"
"$place/env/bin/pip" install --quiet --disable-pip-version-check \
  "cryptography==$cryptography" typing_extensions aiofiles bcrypt pyOpenSSL ifaddr uvloop \
  pytest pytest-xdist pytest-timeout
"$place/env/bin/pip" download --quiet --disable-pip-version-check --no-deps --no-binary :all: --dest "$place" \
  "asyncssh==$version"
tar -xf "$place/asyncssh-$version.tar.gz" -C "$place"
[ "$(id -u)" != 0 ] || unreadable=(-k "not not_readable")
cd "$place/asyncssh-$version"
PYTHONPATH=$root/src:$root/tests/support/agent TMPDIR=$place "$place/env/bin/python" -m pytest -q \
  -p upstream_short_way -p no:cacheprovider --timeout 300 -n "${WORKERS:-2}" --dist loadfile "${unreadable[@]}" "${@:-tests}"
