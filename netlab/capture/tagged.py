"""Filters that see a VLAN tag wherever the kernel keeps it. Pure.

The kernel takes the outermost tag out of a received frame and keeps it in metadata; in a sent frame, the tag is where
IEEE 802.1Q has it. This module rewrites a program for frames on the wire for frames of the other form.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netlab.net.bpf import Instruction, Program

# Classic BPF (linux/bpf_common.h).
_LOAD, _LOAD_X, _JUMPS, _RETURN = 0x00, 0x01, 0x05, 0x06
_WORD, _HALF, _BYTE = 0x00, 0x08, 0x10
_ABSOLUTE, _INDIRECT, _MEMORY, _LENGTH, _HEADER = 0x20, 0x40, 0x60, 0x80, 0xA0
_ADD, _OR_X, _LEFT, _RIGHT, _AND = 0x04, 0x4C, 0x64, 0x74, 0x54
_STORE, _STORE_X, _LOAD_MEMORY, _LOAD_X_MEMORY, _TO_X = 0x02, 0x03, 0x60, 0x61, 0x07
_ALWAYS, _IF_EQUAL = 0x05, 0x15
_SIZES = {_WORD: 4, _HALF: 2, _BYTE: 1}

_BESIDE = 0xFFFF_F000
"""SKF_AD_OFF (linux/filter.h): from here on, loads read the kernel's metadata of a packet."""
_TAG, _PRESENT, _PROTOCOL = _BESIDE + 44, _BESIDE + 48, _BESIDE + 60

_BEGIN, _END = 12, 16
"""The tag's place on the wire."""
_PROTOCOLS = (0x8100, 0x88A8)
"""The kernel takes tags with these protocols out of a frame (eth_type_vlan)."""
_VALUE, _SAVED = 14, 15
"""Scratch memory cells that no compiler uses: compilers start from cell 0."""
_FARTHEST = 255


def wherever(plain: Program, wire: Program) -> Program:
    """A program that runs `plain`, or, for a frame whose tag is in metadata, `wire` as if the tag were in the frame."""
    return (
        Instruction(_LOAD | _WORD | _ABSOLUTE, 0, 0, _PRESENT),
        Instruction(_IF_EQUAL, 0, 1, 0),
        Instruction(_ALWAYS, 0, 0, 1),
        Instruction(_ALWAYS, 0, 0, len(plain)),
        *plain,
        *beside(wire),
    )


def beside(program: Sequence[Instruction]) -> Program:
    """The program for a frame on the wire, rewritten for one whose tag is in metadata."""
    reached = _reached(program)
    pieces = {index: _rewritten(program[index]) for index in sorted(reached)}
    far: set[int] = set()
    while True:
        places, length = {}, 0
        for index, piece in pieces.items():
            places[index] = length
            length += len(piece) + 2 * (index in far)
        too_far = {
            index
            for index in pieces
            if index not in far and any(way > _FARTHEST for way in _ways(program, index, reached, places, pieces))
        }
        if not too_far:
            break
        far |= too_far
    found: list[Instruction] = []
    for index, piece in pieces.items():
        if program[index].code & 0x07 != _JUMPS:
            found += piece
            continue
        here = places[index]
        targets = [places[each] - here - 1 for each in _next(program, index, reached[index])]
        if len(targets) == 1:
            found.append(Instruction(_ALWAYS, 0, 0, targets[0]))
        elif index in far:
            jump = program[index]._replace(jt=0, jf=1)
            found += [jump, *(Instruction(_ALWAYS, 0, 0, way - 1 - n) for n, way in enumerate(targets))]
        else:
            found.append(program[index]._replace(jt=targets[0], jf=targets[1]))
    return tuple(found)


def _reached(program: Sequence[Instruction]) -> dict[int, bool]:
    """The instructions that run for a tagged frame, and whether a jump there always tests the tag's protocol.

    Code only for untagged frames, which is most of a filter, is left out: it would double the program.
    """
    certain: dict[int, set[bool]] = {}
    waiting = [(0, False)]
    while waiting:
        index, knows = waiting.pop()
        if knows in certain.setdefault(index, set()):
            continue
        certain[index].add(knows)
        each = program[index]
        if each.code == _LOAD | _HALF | _ABSOLUTE and each.k == _BEGIN:
            after = True
        else:
            after = knows and each.code & 0x07 in (_JUMPS, _LOAD_X)
        waiting += [(target, after) for target in _next(program, index, knows)]
    return {index: knows == {True} for index, knows in certain.items()}


def _next(program: Sequence[Instruction], index: int, knows: bool) -> list[int]:
    """The possible next instructions; `knows`: the accumulator holds the tag's protocol."""
    each = program[index]
    if each.code & 0x07 == _RETURN:
        return []
    if each.code & 0x07 != _JUMPS:
        return [index + 1]
    if each.code == _ALWAYS:
        return [index + 1 + each.k]
    if knows and each.code == _IF_EQUAL and each.k not in _PROTOCOLS:
        return [index + 1 + each.jf]
    return [index + 1 + each.jt, index + 1 + each.jf]


def _ways(
    program: Sequence[Instruction],
    index: int,
    reached: dict[int, bool],
    places: dict[int, int],
    pieces: dict[int, list[Instruction]],
) -> Iterable[int]:
    """The distances of a conditional jump."""
    targets = _next(program, index, reached[index])
    if program[index].code & 0x07 != _JUMPS or len(targets) < 2:
        return []
    return [places[each] - places[index] - len(pieces[index]) for each in targets]


def _rewritten(each: Instruction) -> list[Instruction]:
    kind, size, mode = each.code & 0x07, each.code & 0x18, each.code & 0xE0
    if kind == _LOAD and mode == _LENGTH:
        return [each, Instruction(_ADD, 0, 0, 4)]
    if (kind, mode) in ((_LOAD_X, _HEADER), (_LOAD, _INDIRECT)):
        return [each._replace(k=(each.k - 4) & 0xFFFF_FFFF)]  # in IP or above, after the tag
    if (kind, mode) != (_LOAD, _ABSOLUTE) or each.k >= _BESIDE or each.k + _SIZES[size] <= _BEGIN:
        return [each]
    if each.k >= _END:
        return [each._replace(k=each.k - 4)]
    if size == _HALF and each.k in (_BEGIN, _BEGIN + 2):
        return [Instruction(_LOAD | _WORD | _ABSOLUTE, 0, 0, _PROTOCOL if each.k == _BEGIN else _TAG)]
    return _pieced(each.k, _SIZES[size])


def _pieced(offset: int, size: int) -> list[Instruction]:
    """A load that covers part of the tag, byte by byte; X keeps its value."""
    if size == 1:
        return _byte(offset)
    found = [Instruction(_STORE_X, 0, 0, _SAVED), *_byte(offset), Instruction(_STORE, 0, 0, _VALUE)]
    for each in range(offset + 1, offset + size):
        found += [
            Instruction(_LOAD_MEMORY, 0, 0, _VALUE),
            Instruction(_LEFT, 0, 0, 8),
            Instruction(_TO_X, 0, 0, 0),
            *_byte(each),
            Instruction(_OR_X, 0, 0, 0),
            Instruction(_STORE, 0, 0, _VALUE),
        ]
    return [*found, Instruction(_LOAD_X_MEMORY, 0, 0, _SAVED)]


def _byte(offset: int) -> list[Instruction]:
    if not _BEGIN <= offset < _END:
        return [Instruction(_LOAD | _BYTE | _ABSOLUTE, 0, 0, offset if offset < _BEGIN else offset - 4)]
    load = Instruction(_LOAD | _WORD | _ABSOLUTE, 0, 0, _PROTOCOL if offset < _BEGIN + 2 else _TAG)
    return [load, Instruction(_AND, 0, 0, 0xFF) if offset % 2 else Instruction(_RIGHT, 0, 0, 8)]
