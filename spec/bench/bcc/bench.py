#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""The rows of `make bench` with Python bcc; the C peer says what each one is.

    bench.py OBJECT globals|maps|iter100k|iter1m|array|ring|start

bcc does not load objects: the same maps are declared in its dialect, filled by its batch calls, and
the ring by a raw tracepoint program. It has no mapped sections or arrays: globals are an array map.
"""

import ctypes
import glob
import os
import shutil
import sys
import time


def find_headers(build_dir):
    """bcc compiles on the machine. Where the running kernel's headers are missing any other Debian
    ones do, once their two halves are one tree."""
    halves = [sorted(glob.glob("/lib/modules/*/" + half)) for half in ("source", "build")]
    if os.path.isdir("/lib/modules/%s/build" % os.uname().release) or not all(halves):
        return
    tree = os.path.abspath(os.path.join(build_dir, "headers"))
    if not os.path.exists(os.path.join(tree, "complete")):
        for half in halves:
            for part in ("include", "arch/x86/include"):
                shutil.copytree(os.path.realpath(os.path.join(half[-1], part)),
                                os.path.join(tree, part), copy_function=os.symlink,
                                dirs_exist_ok=True)
        open(os.path.join(tree, "complete"), "w").close()
    os.environ.setdefault("BCC_KERNEL_SOURCE", tree)


if len(sys.argv) == 3:
    find_headers(os.path.dirname(sys.argv[1]))

from bcc import BPF, libbcc  # noqa: E402 (after the environment)

TYPES = """
struct limit { u32 rate, burst; };
struct flow { u64 packets, bytes, last_ns; u32 rate, flags; };
struct event {
    u64 time_ns; u32 pid, cpu; u64 cookie; u32 len; u16 port, proto; u64 bytes, unused; char comm[16];
};
"""

EMIT = """
BPF_RINGBUF_OUTPUT(events, 2048);
int emit(void *ctx)
{
    for (int i = 0; i < 1000; i++) {
        struct event *e = events.ringbuf_reserve(sizeof(*e));
        if (!e)
            return 1;
        e->time_ns = e->pid = e->cookie = e->port = e->bytes = i;
        e->cpu = i & 1;
        e->len = i % 1500;
        e->proto = 6;
        e->unused = 0;
        events.ringbuf_submit(e, BPF_RB_NO_WAKEUP);
    }
    return 0;
}
"""

BATCH = 4096
EVENTS = 100000


class Timer:
    """Keeps the best of all repetitions of one loop."""

    def __init__(self):
        self.best = None

    def __enter__(self):
        self.start = time.process_time_ns()

    def __exit__(self, *_):
        took = time.process_time_ns() - self.start
        self.best = took if self.best is None else min(self.best, took)

    def report(self, row, operations):
        print('{"row": "%s", "ns": %.4f}' % (row, self.best / operations))


def test_run(fd):
    """BPF_PROG_TEST_RUN, which bcc has not."""
    attr = (ctypes.c_uint32 * 20)(fd)
    bpf = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    if ctypes.CDLL(None, use_errno=True).syscall(bpf, 10, attr, ctypes.sizeof(attr)) != 0:
        raise OSError(ctypes.get_errno(), "test run")
    assert attr[1] == 0, "the ring is full"


def globals_():
    b = BPF(text=TYPES + """
        struct knobs { u64 x; struct limit limits[8]; };
        BPF_ARRAY(x, u64, 1); BPF_ARRAY(limits, struct limit, 8);""")
    x, limits = b["x"], b["limits"]
    read, write, nested = Timer(), Timer(), Timer()
    n, total = 20000, 0
    for _ in range(3):
        key, value = x.Key(0), x.Leaf(0)
        with read:
            for _ in range(n):
                total += x[key].value
        with write:
            for i in range(n):
                value.value = i
                x[key] = value
        key = limits.Key(3)
        with nested:
            for _ in range(n):
                total += limits[key].rate
    assert x[0].value == n - 1
    read.report("globals.read", n)
    write.report("globals.write", n)
    nested.report("globals.nested", n)


def load_flows(n):
    return BPF(text=TYPES + "BPF_HASH(flows, u64, struct flow, %d);" % n)["flows"]


def fill(flows, n):
    keys, values = (flows.Key * n)(), (flows.Leaf * n)()
    for i in range(n):
        keys[i] = i
        values[i].packets, values[i].bytes = i, 2 * i
    flows.items_update_batch(keys, values)


def maps():
    n = 100000
    flows = load_flows(n)
    get, set_, delete = Timer(), Timer(), Timer()
    total = 0
    key, value = flows.Key(0), flows.Leaf()
    for _ in range(2):
        fill(flows, n)
        with get:
            for i in range(n):
                key.value = i & 1023
                total += flows[key].bytes
        with set_:
            for i in range(n):
                key.value = i & 1023
                value.bytes = i
                flows[key] = value
        with delete:
            for i in range(n):
                key.value = i
                del flows[key]
    assert total > 0
    get.report("maps.get", n)
    set_.report("maps.set", n)
    delete.report("maps.delete", n)


def walk(flows):
    """items_lookup_batch() hands out pairs of ctypes: this is the call below it, as fast as can be."""
    keys, values = (flows.Key * BATCH)(), (flows.Leaf * BATCH)()
    at, got = ctypes.c_uint32(0), ctypes.c_uint32(0)
    total, count, cursor = 0, 0, None
    while True:
        got.value = BATCH
        rc = libbcc.lib.bpf_lookup_batch(flows.map_fd, cursor, ctypes.byref(at),
                                         ctypes.byref(keys), ctypes.byref(values),
                                         ctypes.byref(got))
        errno = ctypes.get_errno()
        if rc != 0 and errno != 2:
            raise OSError(errno, "lookup batch")
        for i in range(got.value):
            total += values[i].bytes
        count += got.value
        if rc != 0:
            return total, count
        cursor = ctypes.byref(at)


def iterate(row, n, reps):
    flows = load_flows(n)
    fill(flows, n)
    timer = Timer()
    for _ in range(reps):
        with timer:
            total, count = walk(flows)
        assert count == n and total == n * (n - 1), "count"
    timer.report(row, n)


def array():
    n = 50000
    samples = BPF(text="BPF_ARRAY(samples, u64, %d);" % n)["samples"]
    keys, values = (samples.Key * n)(*range(n)), (samples.Leaf * n)(*range(n))
    samples.items_update_batch(keys, values)
    timer = Timer()
    for _ in range(2):
        total, key = 0, samples.Key(0)
        with timer:
            for i in range(n):
                key.value = i
                total += samples[key].value
        assert total == n * (n - 1) // 2
    timer.report("array.sum", n)


def drain(row, make_handler):
    b = BPF(text=TYPES + EMIT)
    emit = b.load_func("emit", BPF.RAW_TRACEPOINT)
    totals = [0, 0]
    b["events"].open_ring_buffer(make_handler(b["events"].event, totals))
    timer = Timer()
    for _ in range(2):
        totals[:] = 0, 0
        for _ in range(EVENTS // 1000):
            test_run(emit.fd)
        with timer:
            b.ring_buffer_consume()
        assert totals[0] == EVENTS and totals[1] > 0, "count"
    timer.report(row, EVENTS)


def one_field(event, totals):
    def handler(_, data, size):
        totals[0] += 1
        totals[1] += event(data).len
    return handler


def five_fields(event, totals):
    def handler(_, data, size):
        e = event(data)
        totals[0] += 1
        totals[1] += e.len + e.pid + e.time_ns + e.port + e.bytes
    return handler


def ring():
    drain("ring.fields1", one_field)
    drain("ring.fields5", five_fields)


def start():
    b = BPF(text="""
        BPF_ARRAY(switches, u64, 1);
        RAW_TRACEPOINT_PROBE(sched_switch)
        {
            switches.atomic_increment(0);
            return 0;
        }""")
    assert b is not None
    print('{"row": "start.attached", "at_ns": %d}' % time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM:"))
    print('{"row": "start.rss", "kb": %d}' % int(peak.split()[1]))


GROUPS = {
    "globals": globals_,
    "maps": maps,
    "iter100k": lambda: iterate("iter.100k.batch", 100000, 2),
    "iter1m": lambda: iterate("iter.1m.batch", 1000000, 1),
    "array": array,
    "ring": ring,
    "start": start,
}

if len(sys.argv) != 3 or sys.argv[2] not in GROUPS:
    sys.exit("usage: bench.py OBJECT " + "|".join(GROUPS))
GROUPS[sys.argv[2]]()
