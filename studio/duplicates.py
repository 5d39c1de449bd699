"""Near-duplicates among pairs: difference hashes of their pictures, and groups of pairs that hardly differ. Torch-free.

A difference hash (dHash, after N. Krawetz, "Kind of Like That", 2013) says of a picture in grey, 9 x 8 pixels small,
where it becomes darker to the right: 64 bits, few of which change with size, brightness or compression. The embedded
checkpoint's world is so small that equal scenes in other colours count as near.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

BITS = 128  # of the two pictures of a pair
MOST_APART = 8  # of these; a few seconds for 100,000 pairs


def difference_hash(image: np.ndarray | Image.Image) -> int:
    """64 bits of a picture, uint8 [H, W, 3]: row by row, set where a pixel is darker than its left neighbour."""
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(grey[:, 1:] < grey[:, :-1])
    return int.from_bytes(bits.tobytes(), "big")


def looks(unsafe: np.ndarray | Image.Image, safe: np.ndarray | Image.Image) -> str:
    """What a pair keeps of its pictures: both hashes, 32 hexadecimal digits."""
    return f"{difference_hash(unsafe):016x}{difference_hash(safe):016x}"


def groups(hashes: Sequence[str], within: int) -> list[list[int]]:
    """Positions of pairs that are near-duplicates, the largest group first, each in the order given.

    Two belong together where at most `within` of their BITS differ, or where others link them.
    """
    if not hashes:
        return []
    words = np.array([[int(one[:16], 16), int(one[16:], 16)] for one in hashes], dtype=np.uint64)
    different, which = np.unique(words, axis=0, return_inverse=True)
    root = np.arange(len(different))
    for first, second in _near(different, within):
        a, b = _find(root, first), _find(root, second)
        root[max(a, b)] = min(a, b)
    members: dict[int, list[int]] = {}
    for position, one in enumerate(which.ravel()):
        members.setdefault(_find(root, int(one)), []).append(position)
    found = [group for group in members.values() if len(group) > 1]
    return sorted(found, key=lambda group: (-len(group), group[0]))


def _near(words: np.ndarray, within: int) -> Iterator[tuple[int, int]]:
    """Pairs of rows that differ in at most `within` bits; one may come more than once.

    Cut into within + 1 bands, two such rows are equal in one of them at least: only those are compared, each with the
    next ones in the order of that band, all rows at once.
    """
    bits = np.unpackbits(words.astype(">u8").view(np.uint8), axis=1)
    for band in np.array_split(np.arange(BITS), within + 1) if within else []:  # equal rows were joined before
        keys = bits[:, band] @ (np.uint64(1) << np.arange(len(band), dtype=np.uint64))
        order = np.argsort(keys, kind="stable")
        keys, here = keys[order], np.arange(len(order))
        for step in range(1, len(order)):
            here = here[here + step < len(order)]
            here = here[keys[here] == keys[here + step]]
            if not len(here):
                break
            first, second = order[here], order[here + step]
            near = np.bitwise_count(words[first] ^ words[second]).sum(-1) <= within
            yield from zip(first[near].tolist(), second[near].tolist(), strict=True)


def _find(root: np.ndarray, one: int) -> int:
    while root[one] != one:
        root[one] = root[root[one]]
        one = int(root[one])
    return one
