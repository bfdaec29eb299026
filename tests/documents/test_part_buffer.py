"""The memory of an upload: a fixed number of blocks, which are reused."""

from __future__ import annotations

import threading

from airflow_provider_amzbiz.documents.part_buffer import PartBuffer


def fill(buffer, content):
    buffer.truncate(0)
    for start in range(0, len(content), 3):
        buffer.write(memoryview(content)[start : start + 3])
    return buffer.content()


def test_a_block_has_exactly_what_was_written():
    buffer = PartBuffer(10, 2)
    assert fill(buffer, b"abcdefgh") == b"abcdefgh"
    assert buffer.tell() == 8


def test_each_sender_has_a_block_and_one_more_is_filled():
    buffer = PartBuffer(4, 2)
    blocks = []
    for content in (b"aaaa", b"bbbb", b"cccc"):
        blocks.append(fill(buffer, content))
        if len(blocks) < 3:
            buffer.next_block()
    assert blocks == [b"aaaa", b"bbbb", b"cccc"]
    assert len({id(block) for block in blocks}) == 3


def test_a_released_block_is_used_again():
    buffer = PartBuffer(4, 1)
    first = fill(buffer, b"aaaa")
    buffer.next_block()
    fill(buffer, b"bbbb")
    threading.Timer(0.05, buffer.release, [first]).start()
    buffer.next_block()
    assert fill(buffer, b"cccc") is first
