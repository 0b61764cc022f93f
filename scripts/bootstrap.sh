#!/usr/bin/env bash
# Makes .venv with exactly what the lock files say, and the `tether` command in it.
#
#   scripts/bootstrap.sh          what Tether needs to run
#   scripts/bootstrap.sh --dev    and what its tests and checks need
#
# Needs Python 3.11 or newer and a package index; uses uv where there is one, else venv and pip.
# Every package is checked against its hash. A second run finds its stamp and is done at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
venv=$root/.venv

mode=run lock=requirements.lock
if [[ ${1:-} == --dev ]]; then
  mode=dev lock=requirements-dev.lock
fi

say() { echo "bootstrap: $*" >&2; }
fail() { say "$*"; exit 1; }

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
unset PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER
if [[ -z ${HOME:-} ]]; then
  HOME=$(getent passwd "$(id -u)" 2>/dev/null | cut -d: -f6 || true)
  export HOME=${HOME:-$root}
fi

# -- packages of the system ---------------------------------------------------------------------------

programs=() packages=() reasons=()
want_program() { # program package why
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null && return
  programs+=("$1") packages+=("$2") reasons+=("$3")
}

install_programs() { # those that are wanted, all at once
  local i
  [[ ${#packages[@]} == 0 ]] && return
  scripts/apt_install.sh "${packages[@]}" || # one that this system does not have harms no other
    for i in "${!packages[@]}"; do scripts/apt_install.sh "${packages[i]}" || true; done
  for i in "${!programs[@]}"; do
    PATH=$PATH:/usr/sbin:/sbin command -v "${programs[i]}" >/dev/null ||
      say "${programs[i]} is MISSING: ${reasons[i]}. Install it, for example with: apt-get install ${packages[i]}"
  done
}

# -- the environment ----------------------------------------------------------------------------------

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3.14 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

have_uv() { uv --version >/dev/null 2>&1; }

make_venv() {
  local python=$1
  have_uv && uv venv --quiet --no-project --python "$python" "$venv" && return
  "$python" -m venv "$venv" >/dev/null 2>&1 && return
  rm -rf "$venv" # what a failed venv leaves is of no use
  if scripts/apt_install.sh python3-venv && "$python" -m venv "$venv" >/dev/null 2>&1; then return; fi
  rm -rf "$venv"
  "$python" -m virtualenv --version >/dev/null 2>&1 ||
    "$python" -m pip install --quiet --user virtualenv 2>/dev/null ||
    "$python" -m pip install --quiet --user --break-system-packages virtualenv ||
    fail "cannot make a virtual environment: install python3-venv, virtualenv or uv"
  "$python" -m virtualenv --quiet "$venv"
}

install_with_uv() {
  local uv=(uv pip install --quiet --python "$venv/bin/python")
  "${uv[@]}" --require-hashes --compile-bytecode -r "$lock" &&
    "${uv[@]}" --no-deps --no-build-isolation --reinstall-package tether -e .
}

install_with_pip() {
  local python=$venv/bin/python
  "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null 2>&1 ||
    { scripts/apt_install.sh python3-venv && "$python" -m ensurepip >/dev/null 2>&1; } ||
    fail "$venv has no pip: remove it and run this again"
  "$python" -m pip install --quiet --require-hashes --compile -r "$lock" &&
    "$python" -m pip install --quiet --no-deps --no-build-isolation -e .
}

install_packages() {
  if have_uv; then
    install_with_uv && return
    say "uv could not install them; trying pip"
  fi
  install_with_pip
}

fingerprint() { # of everything that what is installed depends on
  cat "$lock" pyproject.toml scripts/bootstrap.sh
  "$venv/bin/python" -c 'import sys; print(sys.version)'
}

stamp=$venv/.bootstrapped-$mode
if [[ ! -x $venv/bin/python ]]; then
  python=$(find_python) || fail "needs Python 3.11 or newer (or name one in PYTHON)"
  say "making .venv with $("$python" --version)"
  make_venv "$python"
fi
now=$(fingerprint | sha256sum)
if [[ ! -x $venv/bin/tether || ! -f $stamp || $(<"$stamp") != "$now" ]]; then
  started=$SECONDS
  install_packages
  echo "$now" >"$stamp"
  say "installed $lock into .venv in $((SECONDS - started)) s"
fi
# Python's own imports would compile src one file at a time, or never where that is switched off.
"$venv/bin/python" -m compileall -q "$root/src" || true

want_program ssh openssh-client "\`tether ssh\` runs it"
if [[ $mode == dev ]]; then
  want_program git git "a test clones through a tunnel"
  want_program rsync rsync "a test copies through a tunnel"
  want_program tmux tmux "a test attaches through a tunnel"
  want_program vim vim "tests edit with it on a terminal"
  want_program htop htop "a test watches it draw"
  want_program nft nftables "tests break networks with it"
  want_program conntrack conntrack "tests let routers forget with it"
  want_program ip iproute2 "tests build networks with it"
  want_program dbclient dropbear-bin "a test logs in with it, as it knows no certificates"
  want_program sshfs sshfs "a test mounts a workspace"
  want_program sshd openssh-server "tests compare us with it"
  want_program chromium chromium "tests look at the web interface with it"
fi
install_programs

# -- the command on PATH ------------------------------------------------------------------------------

put_on_path() {
  local dir link
  for dir in "$HOME/.local/bin" /usr/local/bin; do
    link=$dir/tether
    [[ :$PATH: == *:$dir:* ]] || continue
    mkdir -p "$dir" 2>/dev/null && [[ -w $dir ]] || continue
    if [[ -L $link && $(readlink "$link") == "$venv/bin/tether" ]]; then return; fi
    if [[ -L $link && ! -e $link && $(readlink "$link") == */.venv/bin/tether ]]; then
      rm -f "$link" # of a clone that is gone
    fi
    if [[ -e $link || -L $link ]]; then
      say "there is another $link: this one is $venv/bin/tether"
      return
    fi
    ln -s "$venv/bin/tether" "$link"
    say "tether is on your PATH now: $link"
    return
  done
  say "put it on your PATH yourself: $venv/bin/tether"
}

if [[ $mode == run && -z ${TETHER_NO_LINK:-} ]]; then
  put_on_path
fi
