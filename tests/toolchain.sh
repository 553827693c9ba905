# Sourced by ./tests/run and ./testnet/run: finds what the build needs, installs it where it may,
# and otherwise names the exact command. Sets CARGO_TARGET_DIR to one directory outside the clone,
# so that RocksDB is compiled once for every clone on this machine.

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p 2>/dev/null | grep -q 'libclang[-.]' ||
        ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1
}

# All that crates without RocksDB need.
choose_target_dir() {
    command -v cargo >/dev/null || die "no Rust toolchain: install one from https://rustup.rs, then run this again"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/starling/target}"
    mkdir -p "$CARGO_TARGET_DIR"
}

# Debian packages that the caller misses besides are given as arguments.
prepare_toolchain() {
    choose_target_dir
    local missing=("$@")
    command -v c++ >/dev/null || missing+=(g++)
    command -v make >/dev/null || missing+=(make)
    has_libclang || missing+=(libclang-dev)
    if [ ${#missing[@]} -gt 0 ]; then
        local install="apt-get update && apt-get install -y ${missing[*]}"
        if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
            say "installing what the build needs: ${missing[*]}"
            { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"; } >&2 ||
                die "could not install ${missing[*]}: run  $install"
        else
            die "the build needs ${missing[*]}: run  sudo sh -c '$install'  and then this again"
        fi
    fi
    # Chosen once per build directory: a compiler that comes and goes would rebuild RocksDB each time.
    local choice="$CARGO_TARGET_DIR/.compiler"
    [ -f "$choice" ] || { command -v ccache >/dev/null && echo ccache || echo plain; } >"$choice"
    if [ "$(cat "$choice")" = ccache ] && command -v ccache >/dev/null; then
        export CC="ccache cc" CXX="ccache c++"
    fi
}
