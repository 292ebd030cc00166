#!/bin/sh
# Make, mend or update a virtual environment: sh setup/install.sh VENV EXTRA [LOCK]. `make` calls it before everything.
# What is up to date is left alone without a look at the network; what was broken off on the way is made anew.
# From the environment: PYTHON; UV, a uv to install with in pip's place; TORCH_INDEX, where torch alone is taken from.
set -eu
venv=$1 extra=$2 lock=${3:-setup/lock.txt}
say() { echo "set-up: $*" >&2; }
fail() { say "$*"; exit 1; }

now=$(cat pyproject.toml "$lock" | cksum | tr ' ' -)
if "$venv/bin/python" -c '' 2>/dev/null; then
    grep -qs "^$now.* $extra " "$venv/.installed" && exit
elif [ -e "$venv/pyvenv.cfg" ]; then
    say "the Python of $venv is gone; making it anew"
    rm -rf "$venv"
fi

[ -n "${PYTHON:-}" ] || fail "no Python 3.11, 3.12 or 3.13 found; name one: make PYTHON=/path/to/python3.11"
version=$("$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || fail "$PYTHON: doesn't run"
case $version in
    3.11.* | 3.12.* | 3.13.*) ;;
    *) fail "$PYTHON is Python $version; needed is 3.11, 3.12 or 3.13: make PYTHON=/path/to/python3.11" ;;
esac
"$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$PYTHON has no module venv or ensurepip; Debian and Ubuntu have them in python${version%.*}-venv"

if [ -e "$venv/.incomplete" ]; then
    say "the last set-up was broken off; making $venv anew"
    rm -rf "$venv"
fi
if [ "$extra" = test ]; then disk=7.1 more=10.5; else disk=6.8 more=10; fi
say "$venv with Python $version takes $disk GB of disk ($more while it is made, 3.3 of them downloads);" \
    "6 are PyTorch, its CUDA libraries and spconv"
mkdir -p "$venv/tmp"
touch "$venv/.incomplete"
rm -f "$venv/.installed"
# In the environment's own folder /tmp needn't hold what is downloaded, and its growth tells how far it is.
TMPDIR=$(cd "$venv/tmp" && pwd)
export TMPDIR

begun=$(date +%s)
used() { du -sm "$venv" 2>/dev/null | cut -f1; }
passed() { seconds=$(($(date +%s) - begun)); printf '%d:%02d' $((seconds / 60)) $((seconds % 60)); }
(while sleep 15 >/dev/null 2>&1; do say "$(used) MB in $venv after $(passed)"; done) &
clock=$!
trap 'kill $clock 2>/dev/null' EXIT
trap 'exit 130' INT TERM

install() {
    if [ -n "${UV:-}" ]; then
        "$UV" pip install --quiet --python "$venv/bin/python" --constraint "$lock" "$@"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile --constraint "$lock" "$@"
    fi
}
{
    { [ -e "$venv/bin/python" ] || "$PYTHON" -m venv "$venv"; } &&
        install setuptools && # of that version, for the next step but one: pip would fetch the newest for a build
        { [ -z "${TORCH_INDEX:-}" ] || install --no-deps --index-url "$TORCH_INDEX" torch torchvision; } &&
        install --no-build-isolation --editable ".[$extra]"
} || fail "failed after $(passed): needed are a package index that answers (else pip speaks of a conflict) and $more GB"
# What the first commands would wait for. Byte code: where none may be written later ($PYTHONDONTWRITEBYTECODE, a read-only
# image) every command would parse PyTorch anew, half of what `hicl predict` takes; some packages have files for other
# versions of Python. Beside it numba's kernels, for this processor; on another they are compiled when they are needed.
"$venv/bin/python" setup/kernels.py >/dev/null 2>&1 || : &
kernels=$!
env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -m compileall -q -j 0 -x '/tests?/' \
    "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" hicl cache pipeline train >/dev/null || :
wait $kernels
rm -rf "$venv/tmp" "$venv/.incomplete"
[ "$extra" != test ] || extra="viz test" # which has all of the other
echo "$now $extra " >"$venv/.installed"
say "done in $(passed), $(used) MB in $venv"
