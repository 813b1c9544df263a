# shellcheck shell=sh
# Sourced by the other scripts: finds Python, makes the environment, installs the checkout into it.
# The environment is .venv of the checkout, or the folder that CASCADE_VENV names. A script may set CONSTRAINTS, a file
# of versions to keep to, and PYTHON, the version that is to be used: before it calls `need`.

ROOT=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
VENV=${CASCADE_VENV:-$ROOT/.venv}
CONSTRAINTS=
PYTHON=

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    if [ -n "$PYTHON" ]; then
        command -v "python$PYTHON" >/dev/null && "python$PYTHON" -c 'import sys; print(sys.executable)' && return
        die "Python $PYTHON is needed for this, and there is no python$PYTHON.
    uv brings its own: https://docs.astral.sh/uv/"
    fi
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null && is_new_enough "$name"; then
            # The program itself, not a version manager's shim, whose choice depends on the folder.
            "$name" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    die "Python 3.11 or later is needed, and none of python3, python3.11 to python3.14 is one.
    Debian, Ubuntu: sudo apt-get install python3 python3-venv    macOS: brew install python
    or install uv, which brings its own: https://docs.astral.sh/uv/"
}

make_environment() {
    if command -v uv >/dev/null; then
        say "making $VENV with uv"
        uv venv --quiet --allow-existing --python "${PYTHON:->=3.11}" "$VENV"
    else
        python=$(find_python) || exit 1
        say "making $VENV with $python"
        "$python" -m venv "$VENV" ||
            die "could not make the environment; Debian and Ubuntu: sudo apt-get install python3-venv"
    fi
    touch "$VENV/.made-by-scripts"
}

install_checkout() { # the extras, with commas
    set -- --editable ".[$1]" ${CONSTRAINTS:+--constraint "$CONSTRAINTS"}
    say "installing celery-cascade${2#.} into $VENV (some minutes the first time)"
    if command -v uv >/dev/null; then
        (cd "$ROOT" && uv pip install --quiet --python "$VENV/bin/python" "$@")
    else
        "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip >/dev/null
        (cd "$ROOT" && "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@")
    fi
}

# Usage: need EXTRAS. Afterwards $VENV/bin has the checkout with these extras, installed in place.
need() {
    # What the environment was made from. The path counts too: a moved checkout needs another one.
    made_from=$({ cat "$ROOT/pyproject.toml" ${CONSTRAINTS:+"$CONSTRAINTS"}; printf '%s' "$ROOT"; } | cksum)
    stamp="$VENV/.installed-$1"
    [ "$(cat "$stamp" 2>/dev/null)" = "$made_from" ] && "$VENV/bin/python" -c '' 2>/dev/null && return

    # One script at a time: the kernel drops this lock with the file descriptor, whatever happens.
    exec 9<"$ROOT/pyproject.toml"
    if command -v python3 >/dev/null; then python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; fi

    if [ "$(cat "$stamp" 2>/dev/null)" != "$made_from" ] || ! "$VENV/bin/python" -c '' 2>/dev/null; then
        if [ -e "$VENV/.made-by-scripts" ] && [ "$(cat "$VENV/.made-from" 2>/dev/null)" != "$made_from" ]; then
            say "pyproject.toml has changed: the environment is made anew"
            rm -rf "$VENV"
        fi
        # An environment that somebody else made is used as it is, and never deleted.
        is_new_enough "$VENV/bin/python" || make_environment || exit 1
        install_checkout "$1" || die "could not install celery-cascade[$1]; what was missing stands above"
        printf '%s\n' "$made_from" | tee "$VENV/.made-from" >"$stamp"
    fi
    exec 9<&-
}

# Usage: help_if_asked "$@". Prints the comment at the head of the script.
help_if_asked() {
    case "${1:-}" in
    -h | --help)
        sed -n '2,/^[^#]/{s/^# \{0,1\}//p;}' "$0"
        exit 0
        ;;
    esac
}
