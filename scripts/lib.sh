# Sourced by ./run and ./check, from the root of the tree.
# shellcheck shell=bash

logs=build/logs
mkdir -p "$logs"

say() { printf '%s\n' "$@"; }
die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# step TITLE COMMAND...: runs the command with its output in a log file; on a terminal its newest line is shown
# meanwhile. When it fails, the end of the log is shown. Returns the command's status.
step() {
  local title=$1 log start=$SECONDS status=0
  shift
  log=$logs/$(printf '%s' "$title" | tr -cs 'A-Za-z0-9\n' '-').log
  printf '%s ...\n' "$title"
  if [ -t 1 ]; then
    "$@" 2>&1 < /dev/null | tee "$log" | while IFS= read -r line; do
      printf '\r\033[K  %s' "${line:0:$((${COLUMNS:-80} - 4))}"
    done || status=$?
    printf '\r\033[K'
  else
    "$@" > "$log" 2>&1 < /dev/null || status=$?
  fi
  if [ "$status" -ne 0 ]; then
    tail -n 40 "$log"
    say "$title: failed after $((SECONDS - start)) s; all of its output is in $log"
  fi
  return "$status"
}

# exist PACKAGE...: whether Debian has all of these packages for this computer.
exist() {
  local package
  for package in "$@"; do
    [ -n "$(apt-cache show --no-all-versions "$package" 2> /dev/null)" ] || return 1
  done
}

# need PURPOSE PACKAGE...: installs those of Debian's packages that are not there yet.
need() {
  local purpose=$1 package missing=() as_root=()
  shift
  if ! command -v apt-get > /dev/null || ! command -v dpkg-query > /dev/null; then
    die "This script gets its tools from Debian's packages and finds no apt-get here. Install what these packages hold: $*;" \
      "then build with: cmake --preset release -DTHIMBLE_TESTS=OFF && cmake --build build"
  fi
  for package in "$@"; do
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2> /dev/null | grep -qx installed || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo > /dev/null ||
      die "Packages are missing $purpose, and only root may install them. As root: apt-get install ${missing[*]}"
    as_root=(sudo)
    sudo true || die "sudo refused. As root: apt-get install ${missing[*]}"
  fi
  as_root+=(env DEBIAN_FRONTEND=noninteractive apt-get -q)
  local install=("${as_root[@]}" -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}")
  # The list of packages is fetched only where it is missing or too old to install from.
  "${install[@]}" --simulate > /dev/null 2>&1 || step "Fetching Debian's list of packages" "${as_root[@]}" update || exit 1
  step "Installing $purpose: ${missing[*]}" "${install[@]}" ||
    { step "Fetching Debian's list of packages" "${as_root[@]}" update && step "Installing $purpose, again" "${install[@]}"; } ||
    exit 1
}
