// SPDX-License-Identifier: BSD-2-Clause

// The rows of `make bench` with cilium/ebpf; the C peer says what each one is.
//
//	go OBJECT globals|maps|iter100k|iter1m|array|ring|start
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

const (
	batch  = 4096
	events = 100000
)

type limit struct{ Rate, Burst uint32 }

type flow struct {
	Packets, Bytes, LastNs uint64
	Rate, Flags            uint32
}

type event struct {
	TimeNs       uint64
	Pid, Cpu     uint32
	Cookie       uint64
	Len          uint32
	Port, Proto  uint16
	Bytes, Extra uint64
	Comm         [16]byte
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: go:", err)
		os.Exit(1)
	}
}

func expect(ok bool, what string) {
	if !ok {
		check(errors.New(what))
	}
}

func clockNs(id int32) int64 {
	var t unix.Timespec
	check(unix.ClockGettime(id, &t))
	return t.Nano()
}

// timer keeps the best of all repetitions of one loop.
type timer struct{ start, best time.Duration }

func (t *timer) begin() { t.start = time.Duration(clockNs(unix.CLOCK_PROCESS_CPUTIME_ID)) }

func (t *timer) end() {
	took := time.Duration(clockNs(unix.CLOCK_PROCESS_CPUTIME_ID)) - t.start
	if t.best == 0 || took < t.best {
		t.best = took
	}
}

func (t *timer) report(row string, operations int) {
	fmt.Printf("{\"row\": %q, \"ns\": %.4f}\n", row, float64(t.best)/float64(operations))
}

type bench struct{ *ebpf.Collection }

func load(object string, flows, samples, ring uint32) bench {
	spec, err := ebpf.LoadCollectionSpec(object)
	check(err)
	spec.Maps["flows"].MaxEntries = flows
	spec.Maps["samples"].MaxEntries = samples
	spec.Maps["events"].MaxEntries = ring
	coll, err := ebpf.NewCollection(spec)
	check(err)
	return bench{coll}
}

func (b bench) run(program string) {
	_, err := b.Programs[program].Run(&ebpf.RunOptions{})
	check(err)
}

func (b bench) fill(program string, n uint64) {
	check(b.Variables["n"].Set(n))
	b.run(program)
	var failed uint64
	check(b.Variables["failed"].Get(&failed))
	expect(failed == 0, "fill")
}

func globals(object string) {
	b := load(object, 1, 1, 4096)
	defer b.Close()
	x, limits := b.Variables["x"], b.Variables["limits"]
	var read, write, nested timer
	var value, sum uint64
	var all [8]limit
	const n = 500000

	for range 5 {
		read.begin()
		for range n {
			check(x.Get(&value))
			sum += value
		}
		read.end()
		write.begin()
		for i := range uint64(n) {
			value = i
			check(x.Set(&value))
		}
		write.end()
		all[3].Rate = 7
		check(limits.Set(&all))
		nested.begin()
		for range n {
			check(limits.Get(&all)) // the whole array: there is nothing narrower
			sum += uint64(all[3].Rate)
		}
		nested.end()
	}
	expect(sum > 0, "sum")
	b.run("mirror")
	var seenX, seenRate uint64
	check(b.Variables["seen_x"].Get(&seenX))
	check(b.Variables["seen_rate"].Get(&seenRate))
	expect(seenX == n-1 && seenRate == 7, "mirror")
	read.report("globals.read", n)
	write.report("globals.write", n)
	nested.report("globals.nested", n)
}

func maps(object string) {
	const n = 100000
	b := load(object, n, 1, 4096)
	defer b.Close()
	flows := b.Maps["flows"]
	var get, set, setValue, del timer
	var value flow
	var sum, key uint64

	for range 3 {
		b.fill("fill", n)
		get.begin()
		for i := range uint64(n) {
			key = i & 1023
			check(flows.Lookup(&key, &value))
			sum += value.Bytes
		}
		get.end()
		set.begin()
		for i := range uint64(n) {
			key = i & 1023
			value.Bytes = i
			check(flows.Update(&key, &value, ebpf.UpdateAny))
		}
		set.end()
		setValue.begin() // as in cilium's examples; pointers are faster
		for i := range uint64(n) {
			value.Bytes = i
			check(flows.Update(i&1023, value, ebpf.UpdateAny))
		}
		setValue.end()
		del.begin()
		for i := range uint64(n) {
			key = i
			check(flows.Delete(&key))
		}
		del.end()
	}
	expect(sum > 0, "sum")
	get.report("maps.get", n)
	set.report("maps.set", n)
	setValue.report("maps.set.value", n)
	del.report("maps.delete", n)
}

func iterate(object, row string, n uint64, reps int) {
	b := load(object, uint32(n), 1, 4096)
	defer b.Close()
	keys, values := make([]uint64, batch), make([]flow, batch)
	var t timer

	b.fill("fill", n)
	for range reps {
		var cursor ebpf.MapBatchCursor
		var sum, count uint64
		t.begin()
		for {
			got, err := b.Maps["flows"].BatchLookup(&cursor, keys, values, nil)
			for i := range values[:got] {
				sum += values[i].Bytes
			}
			count += uint64(got)
			if errors.Is(err, ebpf.ErrKeyNotExist) {
				break
			}
			check(err)
		}
		t.end()
		expect(count == n && sum == n*(n-1), "count")
	}
	t.report(row, int(n))
}

func array(object string) {
	const n = 1 << 20
	b := load(object, 1, n, 4096)
	defer b.Close()
	b.fill("fill_samples", n)
	// cilium's Memory has no typed view; what it maps is read as a slice.
	mem, err := unix.Mmap(b.Maps["samples"].FD(), 0, n*8, unix.PROT_READ, unix.MAP_SHARED)
	check(err)
	samples := unsafe.Slice((*uint64)(unsafe.Pointer(&mem[0])), n)
	var t timer

	for range 20 {
		var sum uint64
		t.begin()
		for _, value := range samples {
			sum += value
		}
		t.end()
		expect(sum == uint64(n)*(n-1)/2, "sum")
	}
	t.report("array.sum", n)
	check(unix.Munmap(mem))
}

// drain times a loop that reads all events and returns the sum of what it has read.
func drain(b bench, reader *ringbuf.Reader, row string, loop func() uint64) {
	var t timer

	for range 7 {
		b.fill("emit", events)
		t.begin()
		sum := loop()
		t.end()
		expect(sum > 0 && reader.AvailableBytes() == 0, "count")
	}
	t.report(row, events)
}

func ring(object string) {
	b := load(object, 1, 1, 8<<20)
	defer b.Close()
	reader, err := ringbuf.NewReader(b.Maps["events"])
	check(err)
	defer reader.Close()
	reader.SetDeadline(time.Now().Add(-time.Second)) // do not wait: the events are there
	var record ringbuf.Record
	var e event

	drain(b, reader, "ring.fields1", func() (sum uint64) {
		for range events {
			check(reader.ReadInto(&record))
			sum += uint64((*event)(unsafe.Pointer(&record.RawSample[0])).Len)
		}
		return sum
	})
	drain(b, reader, "ring.fields5", func() (sum uint64) {
		for range events {
			check(reader.ReadInto(&record))
			e := (*event)(unsafe.Pointer(&record.RawSample[0]))
			sum += uint64(e.Len) + uint64(e.Pid) + e.TimeNs + uint64(e.Port) + e.Bytes
		}
		return sum
	})
	drain(b, reader, "ring.decode", func() (sum uint64) {
		for range events {
			check(reader.ReadInto(&record))
			_, err := binary.Decode(record.RawSample, binary.NativeEndian, &e)
			check(err)
			sum += uint64(e.Len)
		}
		return sum
	})
}

func peakKb() int {
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kb int
	_, err = fmt.Sscan(string(rest[:min(32, len(rest))]), &kb)
	check(err)
	return kb
}

func start(object string) {
	spec, err := ebpf.LoadCollectionSpec(object)
	check(err)
	var objs struct {
		OnSwitch *ebpf.Program `ebpf:"on_switch"`
	}
	check(spec.LoadAndAssign(&objs, nil))
	l, err := link.AttachTracing(link.TracingOptions{Program: objs.OnSwitch})
	check(err)
	fmt.Printf("{\"row\": \"start.attached\", \"at_ns\": %d}\n", clockNs(unix.CLOCK_MONOTONIC))
	fmt.Printf("{\"row\": \"start.rss\", \"kb\": %d}\n", peakKb())
	check(l.Close())
}

func main() {
	rows := map[string]func(string){
		"globals":  globals,
		"maps":     maps,
		"iter100k": func(o string) { iterate(o, "iter.100k.batch", 100000, 5) },
		"iter1m":   func(o string) { iterate(o, "iter.1m.batch", 1000000, 2) },
		"array":    array,
		"ring":     ring,
		"start":    start,
	}
	if len(os.Args) == 3 && rows[os.Args[2]] != nil {
		rows[os.Args[2]](os.Args[1])
		return
	}
	fmt.Fprintln(os.Stderr, "usage: go OBJECT globals|maps|iter100k|iter1m|array|ring|start")
	os.Exit(2)
}
