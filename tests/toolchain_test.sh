#!/usr/bin/env bash
# Tests what tests/toolchain.sh finds, on faked machines: a folder with libraries and a search path with
# nothing but a few tools and fakes of the compilers. Run by `./tests/run toolchain`.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# A new machine that lacks nothing but libclang.
machine() {
    rm -rf "$work/root" "$work/bin"
    mkdir -p "$work/root/usr/lib/x86_64-linux-gnu" "$work/bin"
    local tool
    for tool in bash basename cat cut dirname getconf grep head mkdir od readlink sed sort tr uname; do
        ln -s "$(command -v "$tool")" "$work/bin/$tool"
    done
    fake cargo
    fake cc
    fake make
    fake find
    fake rustc 'echo "rustc 1.95.0 (59807616e 2026-04-14)"'
    compiler '__GNUC__ 12'
    fake id 'echo 1000'
}

# Puts a command on the machine.
fake() {
    printf '#!%s\n%s\n' "$BASH" "${2:-exit 0}" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

# Puts a C++ compiler on the machine that defines these macros; the second argument is the exit code of a
# compilation.
compiler() {
    fake c++ "case \"\$*\" in *-dM*) echo '#define ${1//;/$'\n'#define }' ;; *) exit ${2:-0} ;; esac"
}

# Puts a shared library of a word size (1: 32 bits, 2: 64 bits) on the machine.
library() {
    mkdir -p "$work/root/$(dirname "$1")"
    printf "\177ELF\\00${2:-2}" >"$work/root/$1"
}

headers() { mkdir -p "$work/root/$1" && : >"$work/root/$1/stddef.h"; }

# Runs a function of toolchain.sh on the machine; further arguments are VARIABLE=VALUE.
on_machine() {
    env -i PATH="$work/bin" HOME="$work" CARGO_TARGET_DIR="$work/target" TOOLCHAIN_ROOT="$work/root" "${@:2}" \
        "$BASH" -euo pipefail -c "source ./toolchain.sh; $1" 2>&1
}

# expect NAME CODE TEXT FUNCTION [VARIABLE=VALUE ...]: the exit code, and a text in the output.
expect() {
    local name=$1 code=$2 text=$3 output got=0
    output=$(on_machine "${@:4}") || got=$?
    if [ "$got" = "$code" ] && grep -q -F -e "$text" <<<"$output"; then
        printf 'ok      %s\n' "$name"
    else
        printf 'FAILED  %s: expected exit code %s and "%s", got %s and:\n%s\n' "$name" "$code" "$text" "$got" "$output"
        failed=1
    fi
}

lib=usr/lib/x86_64-linux-gnu
include=usr/lib/llvm-14/lib/clang/14.0.6/include

machine
expect "a machine without libclang" 1 "the build needs libclang: run  sudo sh -c 'apt-get update && apt-get install -y libclang-dev'" prepare_toolchain

library $lib/libclang-cpp.so.14
library usr/lib/llvm-14/lib/libclang-cpp.so.14
headers $include
expect "LLVM 14 with libclang-cpp only" 1 "the build needs libclang" prepare_toolchain

library usr/lib/llvm-14/lib/libclang.so.1 1
expect "a libclang of 32 bits only" 1 "the build needs libclang" prepare_toolchain

library usr/lib/llvm-14/lib/libclang.so.1
expect "libclang.so.1 in LLVM's folder" 0 "usr/lib/llvm-14/lib/libclang.so.1" "prepare_toolchain; find_libclang"

library $lib/libclang-15.so.15
expect "the newest of two" 0 "$lib/libclang-15.so.15" find_libclang
expect "the newest has no headers" 1 "the build needs libclang" prepare_toolchain
fake clang
expect "a clang compiler has the headers" 0 "" prepare_toolchain

library opt/old/libclang-9.so
expect "LIBCLANG_PATH names a folder" 0 "opt/old/libclang-9.so" find_libclang LIBCLANG_PATH="$work/root/opt/old"
expect "LIBCLANG_PATH names a file" 0 "opt/old/libclang-9.so" find_libclang LIBCLANG_PATH="$work/root/opt/old/libclang-9.so"
expect "LIBCLANG_PATH excludes every other place" 1 "no libclang.so is there: correct it, or unset it" prepare_toolchain LIBCLANG_PATH="$work/root/opt"
library opt/cpp/libclang-cpp.so.14
expect "LIBCLANG_PATH names libclang-cpp" 1 "no libclang.so is there" prepare_toolchain LIBCLANG_PATH="$work/root/opt/cpp/libclang-cpp.so.14"

machine
library opt/llvm/lib/libclang.so
headers opt/llvm/lib/clang/18/include
expect "LD_LIBRARY_PATH" 0 "opt/llvm/lib/libclang.so" "prepare_toolchain; find_libclang" LD_LIBRARY_PATH="/nowhere:$work/root/opt/llvm/lib"
fake llvm-config "echo $work/root/opt/llvm"
expect "llvm-config" 0 "opt/llvm/lib/libclang.so" "prepare_toolchain; find_libclang"
fake other-config "echo $work/root/nowhere"
expect "LLVM_CONFIG_PATH" 1 "the build needs libclang" prepare_toolchain LLVM_CONFIG_PATH="$work/bin/other-config"

compiler '__GNUC__ 10'
expect "g++ 10" 1 "'c++' is g++ 10, and RocksDB needs g++ 11" prepare_toolchain
fake g++-12 "$(tail -n +2 "$work/bin/c++" | sed 's/__GNUC__ 10/__GNUC__ 12/')"
expect "g++ 10, and CXX names a newer one" 0 "" prepare_toolchain CXX=g++-12
compiler '__GNUC__ 4;__clang_major__ 9'
expect "clang 9" 1 "'c++' is clang 9" prepare_toolchain
compiler '__GNUC__ 4;__clang_major__ 14'
expect "clang 14" 0 "" prepare_toolchain
compiler '__GNUC__ 12' 1
expect "a C++ compiler without its library" 1 "the build needs c++" prepare_toolchain
rm "$work/bin/c++"
expect "no C++ compiler" 1 "apt-get install -y g++'" prepare_toolchain

machine
fake dnf
rm "$work/bin/make"
expect "Fedora" 1 "dnf install -y make clang-devel" prepare_toolchain
rm "$work/bin/dnf"
fake pacman
expect "Arch" 1 "pacman -S --needed make clang" prepare_toolchain

machine
fake cc 'exit 1'
expect "no C compiler, for the simulator" 1 "the build needs cc" prepare_pure
fake cc
expect "the simulator needs neither C++ nor libclang" 0 "" prepare_pure
rm "$work/target/workspace"
fake find 'echo "touched: $*"'
expect "sources are newer than what another clone has built" 0 "touched: $(cd .. && pwd)" prepare_pure
fake find 'exit 3'
expect "and are not touched again" 0 "" prepare_pure
fake rustc 'echo "rustc 1.70.0 (90c541806 2023-05-31)"'
expect "rustc 1.70" 1 "rustc is 1.70.0, and Starling needs 1.88 or later: run  rustup update stable" prepare_pure
fake rustc 'echo "rustc 1.100.0-nightly"'
expect "rustc 1.100" 0 "" prepare_pure
rm "$work/bin/rustc"
expect "no Rust toolchain" 1 "install one from https://rustup.rs" prepare_pure

machine
fake id 'echo 0'
ln -s "$(command -v cp)" "$work/bin/cp"
fake apt-get "case \"\$*\" in *install*) cp -r '$work/package/.' '$work/root' ;; esac"
library ../package/$lib/libclang.so
headers ../package/$lib/clang/14/include
expect "root and apt" 0 "installing what the build needs: apt-get update && apt-get install -y libclang-dev" prepare_toolchain
machine
fake id 'echo 0'
fake apt-get
expect "an installation that brings nothing" 1 "still missing after the installation: libclang" prepare_toolchain
fake apt-get 'exit 100'
expect "an installation that fails" 1 "the installation failed: run  apt-get update" prepare_toolchain

exit $failed
