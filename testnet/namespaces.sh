#!/usr/bin/env bash
# Machines made of network namespaces, to try  churn --hosts  where there is only one. Needs root and iproute2.
#   testnet/namespaces.sh up NAME COUNT COMMAND...   makes NAME-0, for the program that measures, and NAME-1 to
#                                                    NAME-COUNT, joined by a bridge, and prints the file of hosts.
#                                                    COMMAND starts an agent; it is run in each of the others
#   testnet/namespaces.sh down NAME COUNT            removes them
# Exits with 77 where namespaces are not permitted.
set -euo pipefail

usage() { sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
[ $# -ge 3 ] || usage
action=$1 name=$2 count=$3
shift 3

# Addresses are of the bridge alone, which is in NAME-0: nothing else on this machine sees them.
address() { echo "10.99.0.$(($1 + 1))"; }

up() {
    local host command
    if ! ip netns add "$name-0"; then
        echo "network namespaces are not permitted here: run as root, with iproute2 installed" >&2
        exit 77
    fi
    ip -n "$name-0" link set lo up
    ip -n "$name-0" link add bridge type bridge
    ip -n "$name-0" address add "$(address 0)/24" dev bridge
    ip -n "$name-0" link set bridge up
    command=$(printf ', "%s"' "$@")
    echo "relay = \"$(address 0)\""
    for host in $(seq "$count"); do
        ip netns add "$name-$host"
        ip -n "$name-0" link add "host$host" type veth peer name eth0 netns "$name-$host"
        ip -n "$name-0" link set "host$host" master bridge up
        ip -n "$name-$host" link set lo up
        ip -n "$name-$host" address add "$(address "$host")/24" dev eth0
        ip -n "$name-$host" link set eth0 up
        printf '\n[[host]]\naddress = "%s"\nagent = ["ip", "netns", "exec", "%s"%s]\n' \
            "$(address "$host")" "$name-$host" "$command"
    done
}

case $action in
up) up "$@" ;;
down) for host in $(seq 0 "$count"); do ip netns delete "$name-$host"; done ;;
*) usage ;;
esac
