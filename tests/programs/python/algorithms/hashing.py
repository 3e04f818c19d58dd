"""Digests of inputs: a sum list, a Merkle tree with a proof, HMAC tokens, PBKDF2, CRC and Adler."""

import base64
import hashlib
import hmac
import json
import secrets
import zlib
from pathlib import Path

KEY = b"not a secret"


def merkle(leaves):
    """All levels, leaves first."""
    levels = [[hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]]
    while len(levels[-1]) > 1:
        level = levels[-1]
        if len(level) % 2:
            level = [*level, level[-1]]
        levels.append([hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=True)])
    return levels


def proof(levels, index):
    for level in levels[:-1]:
        sibling = index ^ 1
        yield index % 2, level[sibling] if sibling < len(level) else level[index]
        index //= 2


def verify(leaf, steps, root):
    digest = hashlib.sha256(b"\x00" + leaf).digest()
    for right, sibling in steps:
        digest = hashlib.sha256(b"\x01" + (sibling + digest if right else digest + sibling)).digest()
    return hmac.compare_digest(digest, root)


def token(claims):
    body = base64.urlsafe_b64encode(json.dumps(claims, sort_keys=True).encode()).rstrip(b"=")
    mac = hmac.new(KEY, body, "sha512").digest()[:16]
    return (body + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def main():
    paths = sorted(Path("inputs/files").iterdir())
    contents = [path.read_bytes() for path in paths]
    for path, data in zip(paths, contents, strict=True):
        names = ("md5", "sha1", "blake2b", "sha3_256")
        print(path.name, *(hashlib.new(name, data).hexdigest()[:16] for name in names), f"{zlib.crc32(data):08x}")
    levels = merkle(contents)
    root = levels[-1][0]
    print("root", root.hex(), [len(level) for level in levels])
    print("proofs", all(verify(data, proof(levels, n), root) for n, data in enumerate(contents)))
    print("forged", verify(b"other", proof(levels, 3), root))
    print("token", token({"sub": "ann", "admin": False}))
    print("pbkdf2", hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20_000).hex())
    print("random", len({secrets.token_hex(8) for _ in range(100)}))


main()
