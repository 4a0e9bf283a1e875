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

# pipoctl as root, over the kernel's SCTP unless the arguments say otherwise.
ctl() {
    PIPO_USER=root PIPO_PASSWORD=secret ./pipoctl --transport kernel "$@"
}

# Runs a command that has to succeed and to say something that the pattern finds.
says() {
    pattern=$1
    shift
    if ! "$@" >/tmp/said 2>&1 || ! grep -q -e "$pattern" /tmp/said; then
        echo "failed: $* did not say $pattern, but:"
        cat /tmp/said /tmp/daemon
        exit 1
    fi
}

# Waits until a command succeeds, no longer than 10 s.
soon() {
    tries=200
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ $tries -eq 0 ]; then
            echo "failed: not within 10 s: $*"
            cat /tmp/daemon
            exit 1
        fi
        sleep 0.05
    done
}

# Hundredths of a second since the start of the machine.
now() {
    tr -d . </proc/uptime | cut -d' ' -f1
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

say "pipoctl over the kernel, both versions, IPv4 and IPv6"
start -p 0 --admin-transport both
for server in 127.0.0.1 '[::1]'; do
    says '"admin_transport":"kernel"' ctl --server $server server info --json
    says anonymous ctl --server $server --protocol 1 user list
    # Both at once: the kernel's is tried first, and is there.
    says '"admin_transport":"kernel"' ctl --server $server --transport auto server info --json
    says '"admin_transport":"udp"' ctl --server $server --transport udp server info --json
    PIPO_USER=root PIPO_PASSWORD=wrong ./pipoctl --server $server --transport kernel user list && status=0 || status=$?
    [ $status -eq 4 ] || { echo "failed: a wrong password ends with $status"; exit 1; }
done
stop
ctl server info >/tmp/refused 2>&1 && status=0 || status=$?
[ $status -eq 3 ] || { echo "failed: nobody listening ends with $status"; exit 1; }
says 'kernel SCTP to 127.0.0.1:8080: nobody listens there' cat /tmp/refused

say "a client of others, in Python, over the kernel"
start -p 0
says 'kernel' env PIPO_PASSWORD=secret python3 pipo2_client.py 127.0.0.1:8080 root 0x0101
stop

say "SCTP over UDP in userspace against the kernel's"
# The kernel takes SCTP over UDP at one port and sends it to another, which the client has to have.
sysctl -q -w net.sctp.udp_port=9899 net.sctp.encap_port=9900 net.ipv4.ip_local_port_range='9900 9900'
start -p 0
says '"admin_transport":"kernel"' ctl --transport udp --udp-port 9899 server info --json
says anonymous ctl --transport udp --udp-port 9899 --protocol 1 user list
stop
sysctl -q -w net.sctp.udp_port=0 net.sctp.encap_port=0 net.ipv4.ip_local_port_range='32768 60999'

say "an administrator's day over the kernel"
nc -ll -p 9000 -e cat &
origin=$!
start -p 1080 --auth optional --idle-timeout 60s
# SOCKS: no method but none, then a connection to the origin, then bytes now and then.
(printf '\005\001\000\005\001\000\001\177\000\000\001\043\050'; while sleep 0.2; do echo traffic; done) \
    | nc 127.0.0.1 1080 >/tmp/traffic &
soon grep -q traffic /tmp/traffic
says '"stage":"relay"' ctl session list --json
says . ctl setting set buffer-size 8192
says '"value":"8 KiB"' ctl setting get buffer-size --json
says . ctl setting set idle-timeout 90s
lines=$(grep -c traffic /tmp/traffic)
soon sh -c "[ \$(grep -c traffic /tmp/traffic) -gt $lines ]"
echo evening | says . ctl user add eve --password-stdin
# Name and password (RFC 1929), and the same connection.
(printf '\005\001\002\001\003eve\007evening\005\001\000\001\177\000\000\001\043\050here'; sleep 100) \
    | nc 127.0.0.1 1080 >/tmp/eve &
eve=$!
soon grep -q here /tmp/eve
says '"sessions_closed_count":1' ctl user remove eve --json
before=$(now)
while kill -0 $eve 2>/dev/null; do
    [ $(($(now) - before)) -le 10 ] || { echo "failed: a removed user's session goes on"; exit 1; }
done
ctl log follow --kind audit --count 1 >/tmp/followed 2>&1 &
follower=$!
# Until it follows; then other commands run beside it, and one of them is in the log.
sleep 2
says . ctl server info
says . ctl setting set idle-timeout 95s
soon sh -c '! kill -0 '$follower
says idle-timeout cat /tmp/followed
says . ctl config commit confirmed 2 idle-timeout=44s
says '44 *s' ctl setting get idle-timeout
soon sh -c 'PIPO_USER=root PIPO_PASSWORD=secret ./pipoctl setting get idle-timeout | grep -q "95 s"'
stop
kill $origin

say "two addresses of one endpoint, and one of them taken away"
ip link set dummy0 up
ip address add 192.0.2.1/32 dev dummy0
ip address add 198.51.100.1/32 dev dummy0
start -p 0 -L 192.0.2.1 -L 198.51.100.1
check 192.0.2.1:8080
check 198.51.100.1:8080
check 192.0.2.1:8080 'ip address del 192.0.2.1/32 dev dummy0'
stop

say "the same under pipoctl"
ip address add 192.0.2.1/32 dev dummy0
start -p 0 -L 192.0.2.1 -L 198.51.100.1
mkfifo /tmp/commands
PIPO_USER=root PIPO_PASSWORD=secret ./pipoctl --transport kernel --server 192.0.2.1 -f - </tmp/commands >/tmp/answers 2>&1 &
exec 3>/tmp/commands
echo 'server info --json' >&3
soon grep -q '"admin_transport":"kernel"' /tmp/answers
ip address del 192.0.2.1/32 dev dummy0
before=$(now)
echo 'statistics --json' >&3
soon grep -q '"sessions_total_count"' /tmp/answers
took=$(($(now) - before))
exec 3>&-
echo "pipoctl: answered after $took hundredths of a second over the other path"
[ $took -lt 200 ] || { echo "failed: too long"; exit 1; }
stop
echo "kernel SCTP: passed"
