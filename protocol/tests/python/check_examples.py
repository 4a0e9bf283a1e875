#!/usr/bin/env python3
"""Reads the version 2 examples of pipoProtocol.txt with the decoder of pipo2_client.py and checks them:
framing, CBOR that encodes to the same octets, and the proofs of the login computed anew.

usage: check_examples.py pipoProtocol.txt
"""
import sys

from pipo2_client import HEADER, LAST, dump, load, prove

REQUEST, REPLY, EVENT = 1, 2, 3


def examples(text):
    """Name and octets of each example."""
    for block in text.split("   example: v2 ")[1:]:
        head, *lines = block.split("\n\n")[0].splitlines()
        yield head, bytes.fromhex(" ".join(line.split(";")[0] for line in lines))


def main():
    with open(sys.argv[1], encoding="ascii") as file:
        found = dict(examples(file.read()))
    bodies = {}
    for name, octets in found.items():
        version, kind, length, command, status, flags, request, channel = HEADER.unpack(octets[:16])
        assert (version, length) == (2, len(octets)) and length <= 4096, name
        assert (kind == REQUEST) == name.endswith("C->S"), name
        assert kind in (REQUEST, REPLY, EVENT) and flags in (0, LAST), name
        assert (command == 0) == (request == 0) == name.startswith("notice"), name
        body, end = load(octets, 16)
        assert end == len(octets), f"{name}: something follows the map"
        assert dump(body) == octets[16:], f"{name}: other octets for {body}"
        assert status == 0 or kind == EVENT or body[1].endswith("."), name
        bodies[name] = body
    challenge = bodies["login-challenge S->C"]
    assert challenge[1] == b"\xa1" * 16 + b"\xb2" * 16 and challenge[3] == 4096
    four = ["hello-request C->S", "hello-reply S->C", "login-start C->S", "login-challenge S->C"]
    proof, signature = prove(b"pencil", challenge, b"".join(found[name] for name in four))
    assert bodies["login-proof C->S"] == {1: challenge[1], 2: proof}
    assert bodies["login-done S->C"][1] == signature
    print(len(found), "examples")


if __name__ == "__main__":
    main()
