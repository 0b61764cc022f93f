#!/usr/bin/env bash
# Installs packages with apt-get, and starts no daemon of theirs: tests start their own.
#
#   scripts/apt_install.sh PACKAGE…    exit status 1 where there is no apt-get, or we are not root
set -euo pipefail

command -v apt-get >/dev/null && [[ $(id -u) == 0 ]] || exit 1
echo "installing with apt-get: $*" >&2
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
denial=/usr/sbin/policy-rc.d
if [[ ! -e $denial ]]; then # what Debian asks before it starts a daemon that it has installed
  trap 'rm -f "$denial"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$denial" && chmod +x "$denial"
fi
apt-get update -qq >&2 || true
apt-get install -y -qq --no-install-recommends "$@" >/dev/null
