#!/usr/bin/env bash
# Installs packages, as root, without letting any service of theirs start, now or at the next boot.

set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
mark='# Denies service starts while packages for the tests are installed.'

if [[ ! -e $policy ]] || grep -qxF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # It denies nothing any more once this script is gone, even if it could not be removed.
    printf '#!/bin/sh\n%s\n[ ! -d /proc/%d ] || exit 101\n' "$mark" "$$" >"$policy"
    chmod 755 "$policy"
fi

options=(-qq -o DPkg::Lock::Timeout=300)
apt-get "${options[@]}" update
apt-get "${options[@]}" install --yes --no-install-recommends "$@" >/dev/null

if command -v systemctl >/dev/null; then
    for unit in mariadb.service rabbitmq-server.service redis-server.service prometheus.service epmd.service epmd.socket; do
        package=${unit%%.*}
        [[ " $* " == *" $package"* || $package == epmd ]] || continue
        systemctl --quiet disable "$unit" 2>/dev/null || true
    done
fi
