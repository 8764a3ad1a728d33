# Sourced by the other scripts: goes to the repository's root, makes .venv, brings it up to date and enters it.
# PYTHON names the interpreter to make it with (3.11 to 3.13); without it the first that fits is taken.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "No Python 3.11, 3.12 or 3.13 among: ${PYTHON:-python3 python3.13 python3.12 python3.11}." \
        "Install one, or name it: PYTHON=/path/to/python3.12 bash $0" >&2
    return 1
}

install() {
    local stamp=.venv/installed wanted
    wanted=$(cat pyproject.toml constraints.txt | .venv/bin/python -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')
    if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
        rm -f "$stamp"
        .venv/bin/python -m pip install --constraint constraints.txt --editable '.[dev]'
        echo "$wanted" >"$stamp"
    fi
}

if [[ ! -x .venv/bin/python ]] || ! fits .venv/bin/python || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    python=$(find_python)
    "$python" -m venv --clear .venv
fi
install
source .venv/bin/activate
