#!/bin/bash
# Real traffic between two namespaces of a private machine, captured by tcpdump: traffic.sh FOLDER
#
# Runs as the first process of PID, mount and network namespaces of its own, so that everything it starts and makes is
# gone when it ends. FOLDER/web.pcap is what web's link saw, FOLDER/lossy.pcap a transfer over a link that loses.
set -euo pipefail
folder=$1
export LC_ALL=C
mount -t tmpfs none /run
mkdir -p /run/netns
cd "$folder"

ip netns add web
ip netns add api
ip link add eth0 netns web address 02:00:00:00:00:01 type veth peer name eth0 netns api address 02:00:00:00:00:02
web="ip netns exec web"
api="ip netns exec api"
for side in web api; do
    # Addresses are to be usable at once, and nothing is to be said by itself at a time that cannot be foreseen.
    ip netns exec $side sysctl -q -w net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 \
        net.ipv6.conf.eth0.accept_dad=0
    ip -n $side link set lo up
    ip -n $side link set eth0 up
done
ip -n web addr add 10.9.0.1/24 dev eth0
ip -n api addr add 10.9.0.2/24 dev eth0
ip -n web addr add fd09::1/64 dev eth0 nodad
ip -n api addr add fd09::2/64 dev eth0 nodad

# Starts a command in the background, and waits until it has written a line that matches.
ready() {
    local pattern=$1 log
    shift
    log=$(mktemp -p "$folder" log.XXXXXX)
    "$@" >"$log" 2>&1 &
    started=$!
    # tail ends as soon as grep has gone, at its next line or with the process.
    if ! timeout 20 grep -q -m 1 -E "$pattern" <(exec tail -n +1 -F -s 0.05 --pid=$started "$log" 2>/dev/null); then
        cat "$log" >&2
        return 1
    fi
}

ready 'listening on' $web tcpdump -U --immediate-mode -i eth0 -w web.pcap -s 0
capture=$started

$web ping -q -c 2 -i 0.2 10.9.0.2
$web ping -q -c 2 -i 0.2 -s 4000 10.9.0.2
$web ping -q -c 2 -i 0.2 fd09::2
$web ping -q -c 2 -i 0.2 -s 4000 fd09::2

ready 'ready' $api python3 "$(dirname "$0")/answer.py"
for words in 'web.test A' 'web.test AAAA' 'long.test TXT' 'mail.test MX' '_http._tcp.test SRV' 'none.test A'; do
    $web dig +tries=1 +time=5 @10.9.0.2 $words >/dev/null
done
$web dig +tries=1 +time=5 +tcp @10.9.0.2 web.test A >/dev/null
$web dig +tries=1 +time=5 +noedns +norecurse @fd09::2 web.test AAAA >/dev/null

$web curl -s --max-time 10 http://10.9.0.2:8000/pay?id=1 -o /dev/null
$web curl -s --max-time 10 -g 'http://[fd09::2]:8000/missing' -o /dev/null
$web curl -s --max-time 10 http://10.9.0.2:8000/big -o /dev/null

openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=shop.test 2>/dev/null
ready 'ACCEPT' $api openssl s_server -port 4433 -key key.pem -cert cert.pem -www
$web curl -s -k --max-time 10 --resolve shop.test:4433:10.9.0.2 https://shop.test:4433/ -o /dev/null
$web curl -s -k --max-time 10 --tls-max 1.2 --resolve pay.test:4433:10.9.0.2 https://pay.test:4433/ -o /dev/null

# Nobody listens: a reset, and a port that is unreachable.
$web curl -s --max-time 5 http://10.9.0.2:81/ || true
$web bash -c 'echo hello >/dev/udp/10.9.0.2/5300'
$web bash -c 'echo hello >/dev/udp/fd09::2/5300'

# A group is joined and left.
$web python3 -c '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("239.1.2.3") + socket.inet_aton("10.9.0.1"))
s.close()
'

# An overlay.
for n in 1 2; do
    side=$([[ $n == 1 ]] && echo web || echo api)
    ip -n $side link add vx0 type vxlan id 42 local 10.9.0.$n remote 10.9.0.$((3 - n)) dstport 4789
    ip -n $side addr add 10.9.42.$n/24 dev vx0
    ip -n $side link set vx0 up
done
$web ping -q -c 1 10.9.42.2
$web curl -s --max-time 10 http://10.9.42.2:8000/overlay -o /dev/null

kill -INT $capture
wait $capture

# From here on packets are as long as on a real wire.
for side in web api; do
    ip netns exec $side ethtool -K eth0 tso off gso off gro off >/dev/null
done

# A transfer of which the receiver throws one segment in twenty away, behind the place where it is captured.
$api iptables -A INPUT -i eth0 -p tcp --dport 8000 -m statistic --mode nth --every 20 --packet 0 -j DROP
ready 'listening on' $web tcpdump -U --immediate-mode -B 32768 -i eth0 -w lossy.pcap -s 200 tcp
capture=$started
head -c 3000000 /dev/zero >body
$web curl -s --max-time 60 -H 'Expect:' --data-binary @body http://10.9.0.2:8000/take -o /dev/null
$web curl -s --max-time 60 http://10.9.0.2:8000/big -o /dev/null
kill -INT $capture
wait $capture
