# Sourced by `tests/run` and `.ci/run`: phases with a headline and a time each, of which an interruption leaves
# nothing behind.

set -euo pipefail
# Each job is a process group of its own, so that a signal reaches all of it.
set -m

job=
times=()

# phase NAME COMMAND ARGS…: runs the command; where it fails, says so and ends.
phase() {
    local name=$1 started=$SECONDS code=0
    shift
    printf '\n==> %s\n' "$name" >&2
    "$@" </dev/null &
    job=$!
    wait "$job" || code=$?
    job=
    if ((code != 0)); then
        printf '\n==> FAILED: %s (exit code %d, after %d s)\n' "$name" "$code" "$((SECONDS - started))" >&2
        exit "$code"
    fi
    times+=("$(printf '%6d s  %s' "$((SECONDS - started))" "$name")")
}

# Prints how long each phase took.
print_times() {
    printf '\n==> passed\n' >&2
    printf '%s\n' "${times[@]}" "$(printf '%6d s  in all' "$SECONDS")" >&2
}

interrupted() {
    trap '' HUP INT TERM
    if [[ -n $job ]]; then
        kill -s "$1" -- "-$job" 2>/dev/null || true
        wait "$job" 2>/dev/null || true
    fi
    exit "$((128 + $2))"
}
trap 'interrupted HUP 1' HUP
trap 'interrupted INT 2' INT
trap 'interrupted TERM 15' TERM

# Whether a program is there, also where an ordinary user's PATH lacks the administrator's folders.
have() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null
}

# The folder that cargo builds into.
target_folder() {
    cargo metadata --no-deps --offline --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}
