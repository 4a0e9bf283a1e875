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

say "programs of others: TCP made SCTP by withsctp, and sctp_test"
start -p 0
# Each reply is a message of its own, and a request may come in pieces.
answered=0100-00090a-000702-00000209616e6f6e796d6f75730004726f6f7401
for server in 127.0.0.1 ::1; do
    octets=$(/usr/bin/withsctp ./bash -c '
        exec 3<>"/dev/tcp/$0/8080"
        printf "\001\004root\006secret\000\011\000" >&3
        sleep 0.2
        printf "\007\000\000" >&3
        head -c 28 <&3' $server | xxd -p)
    [ "$octets" = "$(echo $answered | tr -d -)" ] || { echo "failed: withsctp bash got $octets"; exit 1; }
done
# It sends what is no log-in, on no stream's order and with a payload protocol identifier.
./sctp_test -H 127.0.0.1 -P 9001 -h 127.0.0.1 -p 8080 -s -x 3 >/tmp/tested 2>&1 \
    || { echo "failed: sctp_test"; cat /tmp/tested; exit 1; }
says 'sendmsg(sk=3' cat /tmp/tested
says anonymous ctl --protocol 1 user list
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

say "a person at a terminal over the kernel"
start -p 0
if ! python3 at_a_terminal.py ./pipoctl --transport kernel --server 127.0.0.1 >/tmp/said 2>&1 <<'SCRIPT'
shows User:
enters root
shows Password of root at
hides
enters wrong
shows login failed
shows User:
enters root
shows Password of root at
hides
enters secret
shows Connected to socks5d
shows admin>
types us\trem\tanon\t
shows user remove anonymous
types \x03
shows admin>
enters events
shows events: followed until Ctrl-C
shows admin>
types setting get idle
shows setting get idle
runs PIPO_USER=root PIPO_PASSWORD=secret ./pipoctl --transport kernel setting set idle-timeout 91s
shows setting set
shows setting get idle
enters -timeout --json
shows "value":"91 s"
shows admin>
types \x03
shows events: interrupted
shows admin>
types \x04
ends 0
SCRIPT
then
    cat /tmp/said /tmp/daemon
    exit 1
fi
stop

say "a follower that is stopped, and one whose output waits, over the kernel"
changes=2000
start -p 0 --log-level error
as_of=$(ctl server info --field as_of)
follow="./pipoctl --transport kernel events --kind changed --json-lines --from $as_of"
mkfifo /tmp/late
PIPO_USER=root PIPO_PASSWORD=secret $follow >/tmp/stopped 2>/tmp/stopped-said &
stopped=$!
PIPO_USER=root PIPO_PASSWORD=secret $follow --count $changes >/tmp/late 2>&1 &
late=$!
exec 5</tmp/late
says . ctl setting set idle-timeout 61s
soon grep -q sequence /tmp/stopped
kill -STOP $stopped
before=$(now)
seq 2 $changes | while read -r number; do echo "setting set idle-timeout $((60 + number % 2))s"; done >/tmp/script
says . ctl -f /tmp/script
took=$(($(now) - before))
echo "$changes changes in $took hundredths of a second beside two followers that take nothing"
[ $took -lt 6000 ] || { echo "failed: too long"; exit 1; }
# What the daemon has handed over for one that takes nothing: section 8.2 of pipoProtocol.txt allows 32 KiB.
queued=$(awk 'NR > 1 && $8 > most { most = $8 } END { print most + 0 }' /proc/net/sctp/assocs)
echo "$queued octets wait in the kernel for the one that is stopped"
[ $queued -gt 0 ] && [ $queued -le 32768 ] || { echo "failed: none, or too many"; exit 1; }
cat <&5 >/tmp/late-events &
reader=$!
exec 5<&-
wait $late || { echo "failed: the late follower ended with $?"; exit 1; }
wait $reader
python3 nothing_lost.py /tmp/late-events $as_of $changes
# The kernel acknowledges for who is stopped, until its buffer is full: 30 s later the daemon gives up.
until ctl metrics admin_stalled | grep -q 'admin_stalled.*	1	'; do
    [ $(($(now) - before)) -lt 9000 ] || { echo "failed: the stopped follower is not aborted"; exit 1; }
done
took=$(($(now) - before))
echo "aborted $took hundredths of a second after the first change that it did not take"
[ $took -ge 2900 ] || { echo "failed: too soon"; exit 1; }
kill -CONT $stopped
wait $stopped && status=0 || status=$?
[ $status -eq 9 ] || { echo "failed: a lost connection ends with $status"; exit 1; }
says 'the connection was lost' cat /tmp/stopped-said
# What the kernel had taken for it is shown, in sequence.
python3 nothing_lost.py /tmp/stopped $as_of
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
