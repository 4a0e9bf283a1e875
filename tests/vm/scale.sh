#!/bin/busybox sh
# Many idle sessions, in a machine that tests/vm/run --scale boots: the number, then options of `compare scale`.
set -eu
sessions=$1
shift
# Client, daemon and origin are processes with descriptors of their own; the daemon has two a session.
descriptors=$((sessions * 2 + 20000))
echo $descriptors >/proc/sys/fs/nr_open
ulimit -Hn $descriptors
ulimit -Sn $descriptors
# A connect looks through half of the range for a free port before it takes one of the other half.
echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range
(while sleep 2; do sed -n 's/^MemAvailable: *//p' /proc/meminfo; done) >/tmp/available &
watcher=$!
head -1 /proc/meminfo
# What stands beside each line is counted until then: at the end all sockets are closed at once, which is more than
# loopback can hold.
dropped() { echo $((0x$(cut -d' ' -f2 /proc/net/softnet_stat))); }
# An emulated machine may take longer to open them than a session may be idle. And probes of so many sockets, which
# the kernel's coarse timers send in bursts, are more than it can carry: it drops them, all are sent again, and sessions
# end as if their peers were dead.
{
    /tests/compare scale --daemon /tests/socks5d --daemon-arg=--idle-timeout --daemon-arg=off \
        --daemon-arg=--tcp-keepalive --daemon-arg=1h --sessions "$sessions" "$@" && status=0 || status=$?
    echo $status >/tmp/status
} | while read -r line; do
    echo "$line (packets dropped by loopback so far: $(dropped))"
done
kill "$watcher"
echo "available of it all the while: $(sort -n /tmp/available | head -1)"
exit "$(cat /tmp/status)"
