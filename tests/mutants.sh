#!/usr/bin/env bash
# Which changes of the code no test notices, in the crates whose tests have to notice any: kv and kv/strong.
# Usage: tests/mutants.sh               changes of lines that the last commit touched, at most 20 of them
#        tests/mutants.sh since COMMIT  changes of lines that were touched since a commit
#        tests/mutants.sh shard K/N     each N-th of all from the K-th on, K from 0: a sample; 1/60 takes about an hour on two cores
# Each takes a build and a run of the crate's tests. What survives is listed, and is an error: write the test, or, if
# the change makes no difference, exclude it in tests/mutants.toml with the reason.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/toolchain.sh
prepare_toolchain
last_commit_max=20

mutants() {
    cargo mutants --package starling-kv --package starling-strong --config tests/mutants.toml \
        --output "$CARGO_TARGET_DIR" "$@"
}

test_mutants() {
    mutants --profile release --cargo-arg=--locked --minimum-test-timeout 120 "$@" &&
        return
    # 3: a test took too long, which notices the change as well.
    [ $? = 3 ] || die "these changes are not noticed:
$(cat "$CARGO_TARGET_DIR/mutants.out/missed.txt")"
}

of_diff() {
    local diff=$CARGO_TARGET_DIR/mutants.diff count shards
    git rev-parse --verify --quiet "$1^{commit}" >/dev/null || { say "the commit $1 is not in this clone"; return; }
    git diff "$1" HEAD -- kv/src kv/strong/src >"$diff"
    [ -s "$diff" ] || { say "kv/src and kv/strong/src were not touched"; return; }
    install
    count=$(mutants --list --in-diff "$diff" | wc -l)
    [ "$count" -gt 0 ] || { say "no change of what was touched makes sense"; return; }
    shards=$(((count + $2 - 1) / $2))
    say "$count changes, of which every $shards-th is tried"
    test_mutants --in-diff "$diff" --shard "0/$shards" --sharding round-robin
}

install() {
    command -v cargo-mutants >/dev/null && return
    say "installing cargo-mutants"
    cargo install cargo-mutants --locked --quiet --target-dir "$CARGO_TARGET_DIR/tools"
}

case "${1:-}" in
    "") of_diff HEAD~1 "$last_commit_max" ;;
    since) of_diff "$2" 1000000 ;;
    shard) install && test_mutants --shard "$2" --sharding round-robin ;;
    *) die "$(sed -n '3,5s/^# *//p' "$0")" ;;
esac
