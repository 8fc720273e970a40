// SPDX-License-Identifier: BSD-2-Clause

//! The rows of `make bench` with libbpf-rs; the C peer says what each one is.
//!
//!     rust OBJECT globals|maps|iter100k|iter1m|array|ring|start

use std::cell::Cell;
use std::hint::black_box;
use std::mem::{size_of, MaybeUninit};
use std::{env, fs, io, process, ptr, slice};

use libbpf_rs::{
    AsRawLibbpf, MapCore, MapFlags, MapHandle, Object, ObjectBuilder, ProgramInput,
    RingBufferBuilder,
};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const BATCH: usize = 4096;
const EVENTS: u64 = 100_000;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Limit {
    rate: u32,
    burst: u32,
}

/// The section .data.knobs.
#[repr(C)]
struct Knobs {
    x: u64,
    limits: [Limit; 8],
    seen_x: u64,
    seen_rate: u64,
    n: u64,
    failed: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Flow {
    packets: u64,
    bytes: u64,
    last_ns: u64,
    rate: u32,
    flags: u32,
}

#[repr(C)]
struct Event {
    time_ns: u64,
    pid: u32,
    cpu: u32,
    cookie: u64,
    len: u32,
    port: u16,
    proto: u16,
    bytes: u64,
    unused: u64,
    comm: [u8; 16],
}

fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: only used for types without padding.
    unsafe { slice::from_raw_parts(ptr::from_ref(value).cast(), size_of::<T>()) }
}

fn clock_ns(id: libc::clockid_t) -> f64 {
    let mut t = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime fills it.
    let t = unsafe {
        libc::clock_gettime(id, t.as_mut_ptr());
        t.assume_init()
    };
    t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
}

/// The best of all repetitions of one loop.
struct Timer(f64);

impl Timer {
    fn new() -> Self {
        Self(f64::INFINITY)
    }

    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID);
        let result = work();
        self.0 = self.0.min(clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID) - start);
        result
    }

    fn report(&self, row: &str, operations: u64) {
        println!(
            "{{\"row\": \"{row}\", \"ns\": {:.4}}}",
            self.0 / operations as f64
        );
    }
}

struct Bench {
    object: Object,
    knobs: *mut Knobs,
}

impl Bench {
    fn load(path: &str, flows: u32, samples: u32, ring: u32) -> Result<Self> {
        let mut open = ObjectBuilder::default().open_file(path)?;
        for mut map in open.maps_mut() {
            match map.name().to_str() {
                Some("flows") => map.set_max_entries(flows)?,
                Some("samples") => map.set_max_entries(samples)?,
                Some("events") => map.set_max_entries(ring)?,
                _ => (),
            }
        }
        let object = open.load()?;
        let map = object
            .maps()
            .find(|m| m.name() == ".data.knobs")
            .ok_or("no .data.knobs")?;
        let mut size = 0;
        // SAFETY: what a skeleton does: after load this is the mapped section.
        let knobs = unsafe {
            libbpf_sys::bpf_map__initial_value(map.as_libbpf_object().as_ptr(), &mut size)
        };
        assert_eq!(size as usize, size_of::<Knobs>());
        Ok(Self {
            object,
            knobs: knobs.cast(),
        })
    }

    fn map(&self, name: &str) -> Result<MapHandle> {
        let map = self
            .object
            .maps()
            .find(|m| m.name() == name)
            .ok_or("no such map")?;
        Ok(MapHandle::try_from(&map)?)
    }

    fn run(&self, name: &str) -> Result<()> {
        let program = self
            .object
            .progs_mut()
            .find(|p| p.name() == name)
            .ok_or("no such program")?;
        program.test_run(ProgramInput::default())?;
        Ok(())
    }

    fn fill(&self, program: &str, n: u64) -> Result<()> {
        // SAFETY: the mapping lives as long as the object.
        unsafe {
            ptr::addr_of_mut!((*self.knobs).n).write_volatile(n);
            self.run(program)?;
            assert_eq!(
                ptr::addr_of!((*self.knobs).failed).read_volatile(),
                0,
                "fill"
            );
        }
        Ok(())
    }
}

fn globals(path: &str) -> Result<()> {
    let bench = Bench::load(path, 1, 1, 4096)?;
    let (mut read, mut write, mut nested) = (Timer::new(), Timer::new(), Timer::new());
    let n = 10_000_000;
    let mut sum = 0u64;
    // SAFETY: as in fill.
    unsafe {
        let x = ptr::addr_of_mut!((*bench.knobs).x);
        let rate = ptr::addr_of_mut!((*bench.knobs).limits[3].rate);
        for _ in 0..5 {
            read.time(|| (0..n).for_each(|_| sum = sum.wrapping_add(x.read_volatile())));
            write.time(|| (0..n).for_each(|i| x.write_volatile(i)));
            rate.write_volatile(7);
            nested.time(|| (0..n).for_each(|_| sum += u64::from(rate.read_volatile())));
        }
        black_box(sum);
        bench.run("mirror")?;
        assert_eq!(ptr::addr_of!((*bench.knobs).seen_x).read_volatile(), n - 1);
        assert_eq!(ptr::addr_of!((*bench.knobs).seen_rate).read_volatile(), 7);
    }
    read.report("globals.read", n);
    write.report("globals.write", n);
    nested.report("globals.nested", n);
    Ok(())
}

fn maps(path: &str) -> Result<()> {
    let n = 100_000;
    let bench = Bench::load(path, n as u32, 1, 4096)?;
    let map = bench.map("flows")?;
    let (mut get, mut set, mut delete) = (Timer::new(), Timer::new(), Timer::new());
    let mut flow = Flow::default();
    let mut sum = 0;

    for _ in 0..3 {
        bench.fill("fill", n)?;
        get.time(|| -> Result<()> {
            let mut value = [0; size_of::<Flow>()];
            for i in 0..n {
                assert!(map.lookup_into(bytes_of(&(i & 1023)), &mut value, MapFlags::ANY)?);
                // SAFETY: the value is a struct flow.
                sum += unsafe { value.as_ptr().cast::<Flow>().read_unaligned() }.bytes;
            }
            Ok(())
        })?;
        set.time(|| -> Result<()> {
            for i in 0..n {
                flow.bytes = i;
                map.update(bytes_of(&(i & 1023)), bytes_of(&flow), MapFlags::ANY)?;
            }
            Ok(())
        })?;
        delete.time(|| -> Result<()> {
            for i in 0..n {
                map.delete(bytes_of(&i))?;
            }
            Ok(())
        })?;
    }
    assert!(sum > 0);
    get.report("maps.get", n);
    set.report("maps.set", n);
    delete.report("maps.delete", n);
    Ok(())
}

/// libbpf-rs's own lookup_batch takes a short batch for the last one and misses entries of hash
/// maps: this is the call below it.
fn walk(map: &MapHandle, keys: &mut [u64], values: &mut [Flow]) -> Result<(u64, u64)> {
    use std::os::fd::{AsFd, AsRawFd};
    let fd = map.as_fd().as_raw_fd();
    let (mut sum, mut count) = (0, 0);
    let mut at = 0u32;
    let mut cursor = ptr::null_mut();

    loop {
        let mut got = keys.len() as u32;
        // SAFETY: keys and values have room for as many entries.
        let rc = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                fd,
                cursor,
                ptr::addr_of_mut!(at).cast(),
                keys.as_mut_ptr().cast(),
                values.as_mut_ptr().cast(),
                &mut got,
                ptr::null(),
            )
        };
        if rc != 0 && rc != -libc::ENOENT {
            return Err(io::Error::from_raw_os_error(-rc).into());
        }
        sum += values[..got as usize]
            .iter()
            .map(|flow| flow.bytes)
            .sum::<u64>();
        count += u64::from(got);
        if rc != 0 {
            return Ok((sum, count));
        }
        cursor = ptr::addr_of_mut!(at).cast();
    }
}

fn iterate(path: &str, row: &str, n: u64, reps: u32) -> Result<()> {
    let bench = Bench::load(path, n as u32, 1, 4096)?;
    let map = bench.map("flows")?;
    let (mut keys, mut values) = (vec![0; BATCH], vec![Flow::default(); BATCH]);
    let mut timer = Timer::new();

    bench.fill("fill", n)?;
    for _ in 0..reps {
        let (sum, count) = timer.time(|| walk(&map, &mut keys, &mut values))?;
        assert!(count == n && sum == n * (n - 1), "count");
    }
    timer.report(row, n);
    Ok(())
}

fn array(path: &str) -> Result<()> {
    use std::os::fd::{AsFd, AsRawFd};
    let n = 1u64 << 20;
    let bench = Bench::load(path, 1, n as u32, 4096)?;
    let map = bench.map("samples")?;
    let len = n as usize * 8;
    // SAFETY: a new mapping, unmapped by the process's end.
    let samples: &[u64] = unsafe {
        let fd = map.as_fd().as_raw_fd();
        let at = libc::mmap(
            ptr::null_mut(),
            len,
            libc::PROT_READ,
            libc::MAP_SHARED,
            fd,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        slice::from_raw_parts(at.cast(), n as usize)
    };
    let mut timer = Timer::new();

    bench.fill("fill_samples", n)?;
    for _ in 0..20 {
        let sum: u64 = timer.time(|| black_box(samples).iter().sum());
        assert_eq!(sum, n * (n - 1) / 2);
    }
    timer.report("array.sum", n);
    Ok(())
}

fn drain(bench: &Bench, row: &str, take: impl Fn(&Event) -> u64) -> Result<()> {
    let map = bench.map("events")?;
    let (count, sum) = (Cell::new(0), Cell::new(0u64));
    let mut builder = RingBufferBuilder::new();
    builder.add(&map, |data: &[u8]| {
        assert!(data.len() >= size_of::<Event>());
        count.set(count.get() + 1);
        // SAFETY: long enough, and records are aligned to 8 bytes.
        sum.set(sum.get() + take(unsafe { &*data.as_ptr().cast::<Event>() }));
        0
    })?;
    let ring = builder.build()?;
    let mut timer = Timer::new();

    for _ in 0..7 {
        count.set(0);
        bench.fill("emit", EVENTS)?;
        timer.time(|| ring.consume())?;
        assert!(count.get() == EVENTS && sum.get() > 0, "count");
    }
    timer.report(row, EVENTS);
    Ok(())
}

fn ring(path: &str) -> Result<()> {
    let bench = Bench::load(path, 1, 1, 8 << 20)?;
    drain(&bench, "ring.fields1", |e| u64::from(e.len))?;
    drain(&bench, "ring.fields5", |e| {
        u64::from(e.len) + u64::from(e.pid) + e.time_ns + u64::from(e.port) + e.bytes
    })
}

fn start(path: &str) -> Result<()> {
    let mut open = ObjectBuilder::default().open_file(path)?;
    for mut program in open.progs_mut() {
        let wanted = program.name() == "on_switch";
        program.set_autoload(wanted);
    }
    let object = open.load()?;
    let program = object
        .progs_mut()
        .find(|p| p.name() == "on_switch")
        .ok_or("no on_switch")?;
    let _link = program.attach()?;
    println!(
        "{{\"row\": \"start.attached\", \"at_ns\": {:.0}}}",
        clock_ns(libc::CLOCK_MONOTONIC)
    );
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:"))
        .ok_or("no VmHWM")?;
    let kb = peak.trim().trim_end_matches(" kB");
    println!("{{\"row\": \"start.rss\", \"kb\": {kb}}}");
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = env::args().collect();
    let (path, group) = match args.as_slice() {
        [_, path, group] => (path.as_str(), group.as_str()),
        _ => ("", ""),
    };
    match group {
        "globals" => globals(path),
        "maps" => maps(path),
        "iter100k" => iterate(path, "iter.100k.batch", 100_000, 5),
        "iter1m" => iterate(path, "iter.1m.batch", 1_000_000, 2),
        "array" => array(path),
        "ring" => ring(path),
        "start" => start(path),
        _ => {
            eprintln!("usage: rust OBJECT globals|maps|iter100k|iter1m|array|ring|start");
            process::exit(2)
        }
    }
}
