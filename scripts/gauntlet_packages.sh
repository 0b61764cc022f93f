#!/usr/bin/env bash
# Installs the programs that the gauntlet puts between the parties, or compares us with.
#
# Only with apt-get and as root. What is missing afterwards is said loudly; the gauntlet skips the
# scenarios that need it, and says so of each. No daemon is started: the laboratory starts its own.
set -euo pipefail

declare -A package=(
  [sshd]=openssh-server [nginx]=nginx-light [haproxy]=haproxy [squid]=squid
  [stunnel]=stunnel4 [socat]=socat [plink]=putty-tools
)

missing() { # the programs that are not there
  local program
  for program in "${!package[@]}"; do
    PATH=$PATH:/usr/sbin command -v "$program" >/dev/null || echo "$program"
  done
}

mapfile -t lacking < <(missing)
[[ ${#lacking[@]} == 0 ]] && exit 0
names=()
for program in "${lacking[@]}"; do names+=("${package[$program]}"); done
"$(dirname "${BASH_SOURCE[0]}")/apt_install.sh" "${names[@]}" || true
for program in $(missing); do
  echo "gauntlet: $program is MISSING (package ${package[$program]}): what needs it is skipped" >&2
done
