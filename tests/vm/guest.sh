#!/bin/busybox sh
# What is tested on kernel SCTP. Runs inside the machine that tests/vm/run boots; the first failure ends it.
set -eu
cd /tests

say() {
    echo "== $*"
}

# Starts a daemon with the given options and waits until it says where it listens.
start() {
    : >/tmp/daemon
    ./socks5d -a root:secret --access-log off --dns system --state-dir /tmp/state "$@" 2>/tmp/daemon &
    daemon=$!
    tries=200
    until grep -q 'listening on' /tmp/daemon; do
        tries=$((tries - 1))
        if [ $tries -eq 0 ]; then
            echo "the daemon did not start"
            cat /tmp/daemon
            exit 1
        fi
        sleep 0.05
    done
    grep 'listening on' /tmp/daemon
}

stop() {
    kill "$daemon"
    wait "$daemon"
    if grep -q 'panicked at' /tmp/daemon; then
        cat /tmp/daemon
        exit 1
    fi
}

check() {
    if ! ./sctp_admin "$@"; then
        echo "failed: sctp_admin $*"
        cat /tmp/daemon
        exit 1
    fi
}

say "unit tests of sockets"
./unit_tests sys::sctp admin::

say "version 1 over IPv4 and IPv6, the kernel's SCTP taken by itself"
start -p 0
grep -q '127.0.0.1:8080 (sctp), \[::1\]:8080 (sctp)' /tmp/daemon
check 127.0.0.1:8080
check '[::1]:8080'

say "a second daemon on the same port"
if ./socks5d -a root:secret -p 0 2>/tmp/second; then
    echo "it started"
    exit 1
fi
grep 'cannot listen for the admin channel on 127.0.0.1:8080 (sctp)' /tmp/second
stop

say "ports that the kernel chooses, both transports"
start -p 0 -P 0 --admin-udp-port 0 --admin-transport both
address=$(sed -n 's/.*; admin \([^ ]*\) (sctp).*/\1/p' /tmp/daemon)
grep -q '(udp' /tmp/daemon
check "$address"
stop

say "two addresses of one endpoint, and one of them taken away"
ip link set dummy0 up
ip address add 192.0.2.1/32 dev dummy0
ip address add 198.51.100.1/32 dev dummy0
start -p 0 -L 192.0.2.1 -L 198.51.100.1
check 192.0.2.1:8080
check 198.51.100.1:8080
check 192.0.2.1:8080 'ip address del 192.0.2.1/32 dev dummy0'
stop
echo "kernel SCTP: passed"
