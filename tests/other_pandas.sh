#!/bin/sh
# Puts the other major version of pandas into a folder of its own: with that folder before all others on its path, the
# interpreter of the tests has that version, and shares every other package.
# usage: other_pandas.sh PYTHON FOLDER
set -u
[ -e "$2" ] && [ ! -e "$2/.ready" ] && [ ! -e "$2/pandas" ] && { echo "other_pandas.sh: $2 is not such a folder" >&2; exit 1; }
case $("$1" -c 'import importlib.metadata as m; print(m.version("pandas"))') in
    2.*) wanted='pandas>=3,<4' ;;
    *) wanted='pandas>=2.2,<3' ;;
esac
[ "$(cat "$2/.ready" 2>/dev/null)" = "$wanted" ] && exit 0
rm -rf "$2"
if "$1" -m pip install --quiet --no-deps --only-binary :all: --target "$2" "$wanted" >/dev/null 2>&1; then
    echo "$wanted" >"$2/.ready"
    exit 0
fi
rm -rf "$2"
echo "other_pandas.sh: $wanted cannot be installed for this Python: the tests of that leg will be SKIPPED" >&2
exit 0
