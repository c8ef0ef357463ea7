# Sourced after phases.sh by `tests/run` and `tests/bench`: the Debian packages that they need.

# needs NAME: says which packages are missing for it.
needs() {
    case $1 in
    mariadb) { have mariadbd && have mariadb-install-db; } || echo mariadb-server ;;
    rabbitmq) [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || have rabbitmq-server || echo rabbitmq-server ;;
    redis) have redis-server || echo redis-server ;;
    node) { have node && have npm; } || echo nodejs npm ;;
    python) have python3 && python3 -c 'import venv, ensurepip' || echo python3-venv ;;
    compiler) have cc || echo gcc libc6-dev ;;
    esac
}

# install_missing NAME…: installs what is missing for them, where that is allowed, and otherwise says what to do.
install_missing() {
    local name missing=() elevate=()
    for name in "$@"; do
        # Several words are several packages.
        # shellcheck disable=SC2207
        missing+=($(needs "$name" 2>/dev/null))
    done
    ((${#missing[@]} > 0)) || return 0
    ((EUID == 0)) || elevate=(sudo -n)
    if ! have apt-get || ! "${elevate[@]}" true 2>/dev/null; then
        printf 'Packages are missing that may not be installed from here. Run\n\n    sudo apt-get install %s\n\n' \
            "${missing[*]}" >&2
        return 1
    fi
    phase "install ${missing[*]}" "${elevate[@]}" tests/support/install-packages.sh "${missing[@]}"
}
