# Sourced by ./tests/run, ./testnet/run and tests/fuzz/run. Checks, before cargo starts, what the build
# will need, installs it where it may (root and apt), and otherwise names the exact command. Sets
# CARGO_TARGET_DIR to one directory outside the clone, so that every clone on this machine shares one
# compiled RocksDB.

# RocksDB's own requirement (its INSTALL.md: C++20).
GCC_MIN=11
CLANG_MIN=10
# Prefix of the default library folders; only tests/toolchain_test.sh sets it.
TOOLCHAIN_ROOT=${TOOLCHAIN_ROOT:-}
WORKSPACE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# ---- libclang, as the build script of RocksDB's bindings looks for it (clang-sys 1.9, loaded at run time)

# An ELF file of this machine's word size. clang-sys skips everything else.
is_shared_library() {
    local class=01
    [ "$(getconf LONG_BIT)" = 64 ] && class=02
    [ -f "$1" ] && [ "$(od -An -tx1 -N5 "$1" | tr -d ' \n')" = "7f454c46$class" ]
}

# Prints the usable libraries in these folders, each after its version. `libclang-cpp.so.14` is another
# library, although its name matches.
libclang_in() {
    local folder file name version
    for folder in "$@"; do
        [ -d "$folder" ] || continue
        for file in "$folder"/libclang.so "$folder"/libclang-*.so "$folder"/libclang.so.* "$folder"/libclang-*.so.*; do
            name=${file##*/}
            case "$name" in
            *-cpp.*) continue ;;
            libclang.so.*) version=${name#libclang.so.} ;;
            libclang-*) version=${name#libclang-} version=${version%%.so*} ;;
            *) version=0 ;;
            esac
            is_shared_library "$file" && printf '%s %s\n' "$version" "$file"
        done
    done
    return 0
}

# Prints the library that the build will load, or nothing. LIBCLANG_PATH, a file or a folder, excludes
# every other place; otherwise the newest version in all places is used.
find_libclang() {
    if [ -n "${LIBCLANG_PATH+set}" ]; then
        if [ -f "$LIBCLANG_PATH" ]; then
            libclang_in "$(dirname "$LIBCLANG_PATH")" | cut -d' ' -f2- | grep -x -F "$LIBCLANG_PATH" || true
        else
            libclang_in "$LIBCLANG_PATH" | newest
        fi
        return 0
    fi
    local prefix folders=() listed
    if prefix=$("${LLVM_CONFIG_PATH:-llvm-config}" --prefix 2>/dev/null); then
        folders+=("$prefix/bin" "$prefix/lib" "$prefix/lib64")
    fi
    IFS=: read -ra listed <<<"${LD_LIBRARY_PATH:-}:${LIBRARY_PATH:-}"
    folders+=("${listed[@]}")
    local root=$TOOLCHAIN_ROOT
    folders+=("$root"/usr/local/llvm*/lib* "$root"/usr/local/lib*/*/* "$root"/usr/local/lib*/*
        "$root"/usr/local/lib* "$root"/usr/lib*/*/* "$root"/usr/lib*/* "$root"/usr/lib*)
    libclang_in "${folders[@]}" | newest
}

# The first of the highest versions.
newest() { sort -s -t. -k1,1nr -k2,2nr -k3,3nr | head -n 1 | cut -d' ' -f2-; }

# libclang brings no C headers of its own (stddef.h): they are a package beside it, or a clang compiler's.
has_clang_headers() {
    local folder header
    command -v "${CLANG_PATH:-clang}" >/dev/null && return 0
    for folder in "$(dirname "$1")" "$(dirname "$(readlink -f "$1")")"; do
        for header in "$folder"/clang/*/include/stddef.h "$folder"/../lib*/clang/*/include/stddef.h \
            "$folder"/../clang/*/include/stddef.h; do
            [ -f "$header" ] && return 0
        done
    done
    return 1
}

has_libclang() {
    [ "$(uname -s)" = Linux ] || return 0
    local library
    library=$(find_libclang)
    if [ -n "$library" ]; then
        has_clang_headers "$library"
    elif [ -n "${LIBCLANG_PATH+set}" ]; then
        die "LIBCLANG_PATH is '$LIBCLANG_PATH', and no libclang.so is there: correct it, or unset it"
    else
        return 1
    fi
}

# ---- compilers

# Whether VERSION is at least MINIMUM, both with up to three numbers.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$2" ]; }

require_rust() {
    command -v cargo >/dev/null && command -v rustc >/dev/null ||
        die "no Rust toolchain: install one from https://rustup.rs, then run this again"
    local minimum version
    minimum=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$WORKSPACE/Cargo.toml")
    version=$(rustc --version | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
    at_least "$version" "$minimum" ||
        die "rustc is $version, and Starling needs $minimum or later: run  rustup update stable  and then this again"
}

# A C compiler that finds the C library's headers. Rust links with it.
has_cc() { ${CC:-cc} -fsyntax-only -x c - <<<'#include <stdlib.h>' 2>/dev/null; }

# Fails where there is no usable C++ compiler. Ends the script where there is one that is too old, because
# the package manager would install the same one again.
has_cxx() {
    local cxx=(${CXX:-c++}) macros gcc clang
    macros=$("${cxx[@]}" -dM -E -x c++ /dev/null 2>/dev/null) || return 1
    gcc=$(sed -n 's/^#define __GNUC__ //p' <<<"$macros")
    clang=$(sed -n 's/^#define __clang_major__ //p' <<<"$macros")
    if [ -n "$clang" ]; then
        [ "$clang" -ge "$CLANG_MIN" ] || too_old "clang $clang"
    elif [ -n "$gcc" ]; then
        [ "$gcc" -ge "$GCC_MIN" ] || too_old "g++ $gcc"
    fi
    # A compiler without its standard library is not enough.
    "${cxx[@]}" -std=c++20 -fsyntax-only -x c++ - <<<'#include <concepts>' 2>/dev/null
}

too_old() {
    die "the C++ compiler '${CXX:-c++}' is $1, and RocksDB needs g++ $GCC_MIN or clang $CLANG_MIN or later:
       install a newer one (for example  apt-get install g++-12) and name it:  export CC=gcc-12 CXX=g++-12"
}

# ---- all of it

# The package that provides a need, by package manager.
package() {
    case "$1 $2" in
    "apt-get cc") echo gcc libc6-dev ;;
    "apt-get c++") echo g++ ;;
    "apt-get libclang") echo libclang-dev ;;
    "apt-get protoc") echo protobuf-compiler ;;
    "apt-get etcdctl") echo etcd-client ;;
    "dnf c++") echo gcc-c++ ;;
    "dnf libclang") echo clang-devel ;;
    "dnf protoc") echo protobuf-compiler ;;
    "dnf etcdctl" | "pacman etcdctl" | "brew etcdctl") echo etcd ;;
    "pacman c++" | *" cc") echo gcc ;;
    "pacman libclang") echo clang ;;
    "brew c++") echo gcc ;;
    "brew libclang") echo llvm ;;
    *" protoc") echo protobuf ;;
    *) echo "$2" ;;
    esac
}

# Prints the command that installs these needs.
install_command() {
    local manager need packages=()
    for manager in apt-get dnf pacman brew; do
        command -v "$manager" >/dev/null && break
        [ "$manager" != brew ] || manager=apt-get
    done
    for need in "$@"; do packages+=("$(package "$manager" "$need")"); done
    case "$manager" in
    apt-get) echo "apt-get update && apt-get install -y ${packages[*]}" ;;
    dnf) echo "dnf install -y ${packages[*]}" ;;
    pacman) echo "pacman -S --needed ${packages[*]}" ;;
    brew) echo "brew install ${packages[*]}" ;;
    esac
}

# Prints which of these needs are missing.
missing() {
    local need found
    for need in "$@"; do
        case "$need" in
        cc) has_cc && found=1 || found=0 ;;
        c++) has_cxx && found=1 || found=0 ;;
        libclang) has_libclang && found=1 || found=0 ;;
        *) command -v "$need" >/dev/null && found=1 || found=0 ;;
        esac
        [ "$found" = 1 ] || echo "$need"
    done
}

# Provides what is needed or ends the script.
provide() {
    local absent install
    # A script that ends inside of the substitution has said why.
    absent=$(missing "$@") || exit 1
    [ -n "$absent" ] || return 0
    install=$(install_command $absent)
    if [[ "$install" = apt-get* ]] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        say "installing what the build needs: $install"
        (export DEBIAN_FRONTEND=noninteractive; eval "${install//apt-get /apt-get -qq }") >/dev/null ||
            die "the installation failed: run  $install  and then this again"
        absent=$(missing "$@") || exit 1
        [ -z "$absent" ] || die "still missing after the installation: $absent"
    else
        die "the build needs $(echo $absent): run  sudo sh -c '$install'  and then this again"
    fi
}

# Whether every core can compile RocksDB in groups of files (tests/cxx/c++): the largest group takes 1.2 GB,
# measured with g++ 12.
has_memory_for_groups() {
    local free
    free=$(sed -n 's/^MemAvailable: *\([0-9]*\) kB/\1/p' /proc/meminfo 2>/dev/null) || return 1
    [ "${free:-0}" -ge $(($(getconf _NPROCESSORS_ONLN) * 1250000)) ]
}

# Cargo knows a workspace's crates by their paths within it and by the times of their files: what another clone, or this
# one at another place, has built from older or newer sources would count as built from these.
touch_sources() {
    local owner="$CARGO_TARGET_DIR/workspace"
    [ "$(cat "$owner" 2>/dev/null)" != "$WORKSPACE" ] || return 0
    find "$WORKSPACE" -name target -prune -o -name '*.rs' -exec touch {} +
    printf '%s\n' "$WORKSPACE" >"$owner"
}

choose_target_dir() {
    require_rust
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/starling/target}"
    mkdir -p "$CARGO_TARGET_DIR"
    touch_sources
    # Compilers come through the search path: another CC or CXX would make cargo compile RocksDB again for a
    # command that was started without this script.
    [ -z "${CC:-}${CXX:-}" ] || return 0
    local folder
    for folder in /usr/lib/ccache /usr/lib64/ccache; do
        [ ! -d "$folder" ] || PATH="$folder:$PATH"
    done
    ! has_memory_for_groups || PATH="$WORKSPACE/tests/cxx:$PATH"
    export PATH
}

# Provides what crates without RocksDB need: Rust and its linker.
prepare_pure() {
    choose_target_dir
    provide cc
}

# Provides what the whole workspace needs, and what the caller needs besides (protoc, etcdctl).
prepare_toolchain() {
    choose_target_dir
    provide cc c++ make libclang "$@"
}
