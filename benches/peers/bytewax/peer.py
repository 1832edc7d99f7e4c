"""B2 on Bytewax: tumbling windows of 1 s, count and sum of 100,000 keys.

peer.py EVENTS WARM
"""

import sys
import time
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
import bytewax.operators.windowing as win
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import cluster_main

KEYS = 100_000
MASK = (1 << 64) - 1
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
AT_ONCE = 65_536


def splitmix64(index):
    z = (index + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class Check:
    results = 0
    sum = 0
    started = 0.0
    ended = 0.0


class Events(StatelessSourcePartition):
    def __init__(self, events):
        self.events, self.next = events, 0
        Check.started = time.perf_counter()

    def next_batch(self):
        if self.next >= self.events:
            raise StopIteration
        first, self.next = self.next, min(self.next + AT_ONCE, self.events)
        batch = []
        for index in range(first, self.next):
            random = splitmix64(index)
            # Keys are texts here. Times are in whole ms, as for other engines.
            at = EPOCH + timedelta(milliseconds=index // 1_000)
            batch.append((str((random >> 32) % KEYS), (at, random & 0xFFFF)))
        return batch


class Source(DynamicSource):
    def __init__(self, events):
        self.events = events

    def build(self, step_id, worker_index, worker_count):
        return Events(self.events)


class Adder(StatelessSinkPartition):
    def write_batch(self, items):
        for key, (window, (count, value)) in items:
            start = window * 1_000_000
            turned = ((start << 32) | (start >> 32)) & MASK
            mixed = splitmix64(int(key) ^ turned) * count & MASK
            Check.results += 1
            Check.sum = (Check.sum + (mixed ^ ((value << 17 | value >> 47) & MASK))) & MASK
        Check.ended = time.perf_counter()


class Sink(DynamicSink):
    def build(self, step_id, worker_index, worker_count):
        return Adder()


def run(events):
    Check.results = Check.sum = 0
    flow = Dataflow("count")
    stream = op.input("events", flow, Source(events))
    # Else its watermark would go on with the clock of the machine, and nearly all events be late:
    # they come slower than their times say.
    clock = win.EventClock(
        lambda event: event[0],
        timedelta(milliseconds=100),
        now_getter=lambda: EPOCH,
        # No time of an event is one of the machine, so no key waits for one.
        to_system_utc=lambda _: None,
    )
    windower = win.TumblingWindower(length=timedelta(seconds=1), align_to=EPOCH)
    sums = win.fold_window(
        "sums",
        stream,
        clock,
        windower,
        lambda: (0, 0),
        lambda sums, event: (sums[0] + 1, sums[1] + event[1]),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        ordered=False,
    )
    op.output("out", sums.down, Sink())
    cluster_main(flow, [], 0)


def main():
    events, warm = int(sys.argv[1]), int(sys.argv[2])
    if warm:
        run(warm)
    run(events)
    seconds = Check.ended - Check.started
    print(f"events={events} seconds={seconds:.6f} results={Check.results} sum={Check.sum} late=0")


main()
