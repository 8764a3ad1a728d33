# Sourced by the other scripts: goes to the repository's root, makes .venv, brings it up to date and enters it.
# PYTHON names the interpreter to make it with; without it the first that fits is taken.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidates=(python3 python3.13 python3.12 python3.11) candidate
    if [[ -n ${PYTHON:-} ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if is_supported "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "None of ${candidates[*]} is a Python from 3.11 to 3.13. Install one, or name it:" \
        "PYTHON=/path/to/python3.12 bash $0" >&2
    return 1
}

# A .venv that was moved with its checkout still names the old place, and one that was interrupted has no pip.
is_usable() {
    is_supported .venv/bin/python && grep -qsF "$PWD/.venv" .venv/bin/activate && .venv/bin/python -m pip --version
}

install_if_changed() {
    local stamp=.venv/installed wanted
    wanted=$(cat pyproject.toml constraints.txt)
    if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
        rm -f "$stamp"
        python -m pip install --constraint constraints.txt --editable '.[dev]'
        echo "$wanted" >"$stamp"
    fi
}

if ! is_usable >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -m venv --clear .venv
fi
source .venv/bin/activate
install_if_changed
