#!/bin/sh
# Puts a Debian redis-server where the tests find it, when the machine has none and lets us; else says so.
# usage: servers.sh FOLDER
set -u
command -v redis-server >/dev/null 2>&1 && exit 0
[ -x "$1/usr/bin/redis-server" ] && exit 0
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    # No service is wanted, only the program: policy-rc.d is what Debian asks before it starts one.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server; } >/dev/null 2>&1 && exit 0
fi
echo "servers.sh: no redis-server here, and it cannot be installed: the tests of that leg will be SKIPPED" >&2
exit 0
