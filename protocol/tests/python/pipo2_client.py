#!/usr/bin/env python3
"""A client for version 2 of the pipo protocol, standard library only, written from pipoProtocol.txt.

usage: pipo2_client.py ENDPOINT USER COMMAND [KEY=VALUE ...]

ENDPOINT is HOST:PORT (kernel SCTP) or - (records on standard input and output); the password is in PIPO_PASSWORD.
COMMAND is a number (0x0101); KEY a field's key, VALUE a number or a text. Key 0 is credit and opens channel 1.
Prints one line of JSON for each record of the answer (with - on standard error). 0x0301 0=65536 lists the users.
"""
import hashlib, hmac, json, os, socket, struct, sys

HEADER = struct.Struct(">BBHHBBII")  # version, type, length, command, status, flags, request, channel
REQUEST, LAST = 1, 1
HELLO, LOGIN_START, LOGIN_PROOF, GOODBYE, CREDIT = 1, 2, 3, 4, 7


def head(major, n):
    """The head of a CBOR item: the shortest one that holds n."""
    if n < 24:
        return bytes([major << 5 | n])
    size = next(size for size in range(4) if n < 1 << (8 << size))
    return bytes([major << 5 | 24 + size]) + n.to_bytes(1 << size, "big")


def dump(value):
    """CBOR for what bodies consist of."""
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, dict):
        return head(5, len(value)) + b"".join(dump(k) + dump(v) for k, v in sorted(value.items()))
    return head(4, len(value)) + b"".join(map(dump, value))


def load(octets, at=0):
    """One CBOR item: the value, and where the next one begins."""
    major, n = octets[at] >> 5, octets[at] & 31
    at += 1
    if major == 7:
        return {20: False, 21: True}[n], at
    if n > 23:
        size = 1 << n - 24
        n, at = int.from_bytes(octets[at:at + size], "big"), at + size
    if major < 2:
        return (n, -1 - n)[major], at
    if major < 4:
        item = bytes(octets[at:at + n])
        return (item if major == 2 else item.decode()), at + n
    items = []
    for _ in range(n * (2 if major == 5 else 1)):
        item, at = load(octets, at)
        items.append(item)
    return (dict(zip(items[::2], items[1::2])) if major == 5 else items), at


def digest(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()


def prove(password, challenge, transcript):
    """ClientProof, and the ServerSignature to expect (RFC 5802 section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password, challenge[2], challenge[3])
    client_key, message = digest(salted, b"Client Key"), transcript + challenge[1]
    signature = digest(hashlib.sha256(client_key).digest(), message)
    proof = bytes(a ^ b for a, b in zip(client_key, signature))
    return proof, digest(digest(salted, b"Server Key"), message)


class Client:
    def __init__(self, read, write):
        self.read, self.write, self.request, self.seen = read, write, 0, b""

    def send(self, command, body, channel=0):
        self.request += 1
        octets = dump(body)
        record = HEADER.pack(2, REQUEST, 16 + len(octets), command, 0, LAST, self.request, channel) + octets
        self.seen += record  # the first four records are what the login proves
        self.write(record)

    def receive(self):
        header = self.read(16)
        if header[:1] != b"\x02" or len(header) < 16:
            sys.exit("this server speaks version 1 only" if header[:1] == b"\x01" else "the server closed")
        fields = HEADER.unpack(header)
        body = self.read(fields[2] - 16)
        self.seen += header + body
        return fields, load(body)[0]

    def answers(self, command, body):
        """The records that answer, on channel 1 with credit returned as they are taken, or one on channel 0."""
        channel = 1 if 0 in body else 0
        self.send(command, body, channel)
        request = self.request
        while True:
            (_, _, length, _, status, flags, number, on), answer = self.receive()
            if number != request:
                continue  # a notice, or what is left of something else
            yield status, answer
            if flags & LAST and (status or on == channel):
                return
            if on:
                self.send(CREDIT, {1: on, 2: length})

    def call(self, command, body):
        status, answer = list(self.answers(command, body))[-1]
        return answer if status == 0 else sys.exit(f"refused with status {status}: {answer.get(1)}")

    def login(self, user, password):
        self.call(HELLO, {1: "pipo2_client.py"})
        nonce = os.urandom(24)
        challenge = self.call(LOGIN_START, {1: user, 2: nonce})
        if not challenge[1].startswith(nonce) or len(challenge[1]) < 40 or not 4096 <= challenge[3] <= 1000000:
            sys.exit("the challenge is not acceptable")
        proof, expected = prove(password, challenge, self.seen)
        done = self.call(LOGIN_PROOF, {1: challenge[1], 2: proof})
        if not hmac.compare_digest(done[1], expected):
            sys.exit("the server could not prove that it knows this user")


def main():
    endpoint, user, command = sys.argv[1:4]
    if endpoint == "-":
        read, write, show = sys.stdin.buffer.read, lambda octets: os.write(1, octets), sys.stderr
    else:
        host, port = endpoint.rsplit(":", 1)
        association = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, 132)
        association.setsockopt(132, 3, 1)  # SCTP_NODELAY
        association.connect((host.strip("[]"), int(port)))
        read, write, show = association.makefile("rb").read, association.send, sys.stdout
    client = Client(read, write)
    client.login(os.fsencode(user), os.environb[b"PIPO_PASSWORD"])
    body = {int(k): int(v, 0) if v[:1].isdigit() else v for k, v in (a.split("=", 1) for a in sys.argv[4:])}
    for status, answer in client.answers(int(command, 0), body):
        print(json.dumps({"status": status, "body": answer}, default=bytes.hex), file=show, flush=True)
    client.call(GOODBYE, {})


if __name__ == "__main__":
    main()
