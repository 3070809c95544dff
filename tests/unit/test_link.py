"""The slow link of the lab."""

import random
from pathlib import Path

from lab.link import QUEUE_S, Conditions, Lane, arguments

OPEN = Conditions(bits_per_s=8000, delay_s=0.5, loss=0)


def test_a_frame_takes_its_turn_and_is_late() -> None:
    lane = Lane(OPEN, random.Random(1))
    assert lane.arrives_at(100, now=10.0) == 10.0 + 0.1 + 0.5
    assert lane.arrives_at(100, now=10.0) == 10.0 + 0.2 + 0.5
    assert lane.arrives_at(100, now=20.0) == 20.0 + 0.1 + 0.5
    assert (lane.carried_bytes, lane.lost) == (300, 0)


def test_a_full_buffer_loses_what_comes() -> None:
    lane = Lane(OPEN, random.Random(1))
    arrivals = [lane.arrives_at(100, now=0.0) for _ in range(20)]
    assert arrivals.count(None) == lane.lost == 9
    assert max(at for at in arrivals if at is not None) <= QUEUE_S + 0.1 + 0.5 + 0.001
    assert lane.carried_bytes == 1100


def test_as_many_frames_are_lost_as_the_conditions_say() -> None:
    lane = Lane(Conditions(bits_per_s=1e9, delay_s=0, loss=0.25), random.Random(1))
    lost = sum(lane.arrives_at(100, now=float(second)) is None for second in range(4000))
    assert 900 < lost < 1100


def test_both_directions_of_qemu_go_through_it() -> None:
    words = arguments(Path("/run/x"))
    assert words.count("-object") == 2
    assert "filter-redirector,id=tx,netdev=net,queue=tx,outdev=tx-out,indev=tx-in" in words
    assert "socket,id=rx-in,path=/run/x/rx-in.sock,server=on,wait=off" in words
