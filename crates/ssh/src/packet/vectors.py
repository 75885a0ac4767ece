"""Writes vectors.txt: packets sealed by another implementation, OpenSSL through Python's `cryptography`.

Each line: cipher, mac or -, sequence number of the first packet, then the packets one after the other under one key.
"""

import hmac
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

PAYLOADS = [b"\x5eHello, tunnel", b"\x15", bytes(range(94, 194))]


def pattern(length, seed):
    return bytes((i * 7 + seed) & 255 for i in range(length))


def frame(payload, block, apart):
    padding = block - ((1 if apart else 5) + len(payload)) % block
    padding += block if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def show(cipher, mac, sequence, packets):
    print(cipher, mac, sequence, *(packet.hex() for packet in packets))


def gcm(bits):
    # The invocation counter carries from its last byte into the one before.
    key, iv = pattern(bits // 8, 1), pattern(11, 200) + b"\xff"
    fixed, counter = iv[:4], int.from_bytes(iv[4:], "big")
    packets = []
    for step, payload in enumerate(PAYLOADS):
        plain = frame(payload, 16, True)
        nonce = fixed + (counter + step).to_bytes(8, "big")
        packets.append(plain[:4] + AESGCM(key).encrypt(nonce, plain[4:], plain[:4]))
    show(f"aes{bits}-gcm@openssh.com", "-", 0, packets)


def chacha(sequence):
    def crypt(key, block, nonce, data):
        algorithm = algorithms.ChaCha20(key, struct.pack("<Q", block) + nonce)
        return Cipher(algorithm, None).encryptor().update(data)

    key = pattern(64, 1)
    main, header = key[:32], key[32:]
    packets = []
    for step, payload in enumerate(PAYLOADS):
        nonce = struct.pack(">Q", (sequence + step) & 0xFFFFFFFF)
        plain = frame(payload, 8, True)
        sealed = crypt(header, 0, nonce, plain[:4]) + crypt(main, 1, nonce, plain[4:])
        packets.append(sealed + Poly1305.generate_tag(crypt(main, 0, nonce, bytes(32)), sealed))
    show("chacha20-poly1305@openssh.com", "-", sequence, packets)


def ctr(bits, digest, length, etm):
    # The counter carries through all its bytes but the first.
    iv = b"\x01" + b"\xff" * 15
    stream = Cipher(algorithms.AES(pattern(bits // 8, 1)), modes.CTR(iv)).encryptor()
    mac_key = pattern(length, 77)
    sequence = 0xFFFFFFFF
    packets = []
    for step, payload in enumerate(PAYLOADS):
        number = struct.pack(">I", (sequence + step) & 0xFFFFFFFF)
        plain = frame(payload, 16, etm)
        if etm:
            sealed = plain[:4] + stream.update(plain[4:])
            packets.append(sealed + hmac.digest(mac_key, number + sealed, digest))
        else:
            packets.append(stream.update(plain) + hmac.digest(mac_key, number + plain, digest))
    name = f"hmac-sha2-{digest[3:]}" + ("-etm@openssh.com" if etm else "")
    show(f"aes{bits}-ctr", name, sequence, packets)


for bits in (128, 256):
    gcm(bits)
for sequence in (0, 7, 0xFFFFFFFF):
    chacha(sequence)
for bits in (128, 192, 256):
    for digest, length in (("sha256", 32), ("sha512", 64)):
        for etm in (True, False):
            ctr(bits, digest, length, etm)
