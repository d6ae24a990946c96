"""Small changes of bytes, of the kinds that disks, transfers and people make."""

import re

NUMBERS = [
    b"nan", b"inf", b"-inf", b"1e999", b"-1", b"0", b"1_000", b"0x10", b"1e-400",
    b"99999999999999999999", b"2147483648", b"-2147483649", b"", b"1,5", b"+",
]  # fmt: skip
PIECES = [
    b"\x00", b"\xff", b"\r", b"\n", b"\r\n", b"\t", b'"', b"'", b",", b"\\", b"{", b"}",
    b"[]", b"null", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"#", b"\x1a",
    b"$$$$", b"=1+1", b"../", b"/etc/passwd", b"%s", b"A" * 5000,
]  # fmt: skip
INTEGERS = [0, 1, -1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62]


def mutate(rng, content, most):
    """Return `content` with one to four changes, at most `most` bytes long."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        CHANGES[rng.integers(len(CHANGES))](rng, content)
    return bytes(content[:most])


def _place(rng, content):
    # Formats say most in their first bytes.
    end = len(content) if rng.random() < 0.6 else min(len(content), 512)
    return int(rng.integers(end + 1)) if end else 0


def flip_bit(rng, content):
    """Flip a bit."""
    if content:
        content[_place(rng, content) % len(content)] ^= 1 << rng.integers(8)


def set_byte(rng, content):
    """Set a byte to any value."""
    if content:
        content[_place(rng, content) % len(content)] = rng.integers(256)


def zero_block(rng, content):
    """Zero a block, as of a lost sector."""
    at, n = _place(rng, content), int(2 ** rng.uniform(0, 12))
    content[at : at + n] = bytes(len(content[at : at + n]))


def delete_block(rng, content):
    """Take a block out."""
    at, n = _place(rng, content), int(2 ** rng.uniform(0, 10))
    del content[at : at + n]


def repeat_block(rng, content):
    """Write a block twice."""
    at, n = _place(rng, content), int(2 ** rng.uniform(0, 10))
    content[at:at] = content[at : at + n]


def move_block(rng, content):
    """Write a block over another."""
    at, to, n = _place(rng, content), _place(rng, content), int(2 ** rng.uniform(0, 8))
    block = content[at : at + n]
    content[to : to + len(block)] = block


def cut(rng, content):
    """End early."""
    del content[_place(rng, content) :]


def append(rng, content):
    """Add bytes at the end."""
    content += rng.bytes(int(2 ** rng.uniform(0, 8)))


def set_integer(rng, content):
    """Write an integer of one to eight bytes that is easily forgotten."""
    n = int(2 ** rng.integers(4))
    value = INTEGERS[rng.integers(len(INTEGERS))] & ((1 << 8 * n) - 1)
    at = _place(rng, content)
    if at + n <= len(content):
        content[at : at + n] = value.to_bytes(n, "little")


def insert_piece(rng, content):
    """Put in what texts have trouble with."""
    at = _place(rng, content)
    content[at:at] = PIECES[rng.integers(len(PIECES))]


def replace_number(rng, content):
    """Write another number, or none, where a text has one."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?", content))
    if found:
        start, end = found[rng.integers(len(found))].span()
        content[start:end] = NUMBERS[rng.integers(len(NUMBERS))]


CHANGES = [
    flip_bit, flip_bit, set_byte, zero_block, delete_block, repeat_block, move_block,
    cut, append, set_integer, insert_piece, replace_number,
]  # fmt: skip
