//! Stands between third-party crates and the kernel: they draw time and entropy through libc, and
//! a simulation has to own both.
//!
//! Defining `getrandom` and `clock_gettime` here makes the linker take these instead of libc's for
//! this whole binary, which is why the simulation is a target of its own. On a thread that
//! simulates they answer from its seed and its virtual time; on any other they ask the kernel, by
//! system calls that do not go through libc.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::time::Duration;

use env::SplitMix;
use rustix::time::ClockId;

/// Where virtual time starts, seconds since the Unix epoch: 2026-01-01T00:00:00Z.
pub(crate) const START_SECONDS: i64 = 1_767_225_600;

thread_local! {
    /// The generator; none while this thread does not simulate.
    static RANDOM: Cell<Option<SplitMix>> = const { Cell::new(None) };
    /// Virtual nanoseconds since the start.
    static ELAPSED: Cell<u64> = const { Cell::new(0) };
}

/// From here on this thread's time and entropy are the simulation's.
pub(crate) fn enter(seed: u64) {
    // Another stream than those that are drawn from the seed itself.
    RANDOM.set(Some(SplitMix::new(!seed)));
    ELAPSED.set(0);
}

/// Moves this thread's virtual time; never back.
pub(crate) fn set_elapsed(elapsed: Duration) {
    let nanos = u64::try_from(elapsed.as_nanos()).expect("a simulation ends within 584 years");
    ELAPSED.set(ELAPSED.get().max(nanos));
}

fn simulated() -> bool {
    RANDOM.get().is_some()
}

/// libc's `getrandom`.
///
/// # Safety
/// `buffer` holds `length` bytes, as libc's contract says.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    length: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    // SAFETY: the caller gives `length` writable bytes at `buffer`.
    let out = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    if let Some(mut random) = RANDOM.get() {
        random.fill(out);
        RANDOM.set(Some(random));
        return length as libc::ssize_t;
    }
    let flags = rustix::rand::GetRandomFlags::from_bits_retain(flags);
    match rustix::rand::getrandom(out, flags) {
        Ok(filled) => filled as libc::ssize_t,
        Err(error) => {
            // SAFETY: errno's address is this thread's own.
            unsafe { *libc::__errno_location() = error.raw_os_error() };
            -1
        }
    }
}

/// libc's `clock_gettime`.
///
/// # Safety
/// `out` is a valid `timespec`, as libc's contract says.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    out: *mut libc::timespec,
) -> libc::c_int {
    let (seconds, nanos) = if simulated() {
        let elapsed = ELAPSED.get();
        let base = if clock == libc::CLOCK_REALTIME {
            START_SECONDS
        } else {
            1_000_000
        };
        (
            base + (elapsed / 1_000_000_000) as i64,
            (elapsed % 1_000_000_000) as i64,
        )
    } else {
        let id = match clock {
            libc::CLOCK_REALTIME => ClockId::Realtime,
            libc::CLOCK_BOOTTIME => ClockId::Boottime,
            libc::CLOCK_PROCESS_CPUTIME_ID => ClockId::ProcessCPUTime,
            libc::CLOCK_THREAD_CPUTIME_ID => ClockId::ThreadCPUTime,
            _ => ClockId::Monotonic,
        };
        let now = rustix::time::clock_gettime(id);
        (now.tv_sec, now.tv_nsec)
    };
    // SAFETY: the caller gives a valid `timespec`.
    unsafe {
        (*out).tv_sec = seconds;
        (*out).tv_nsec = nanos;
    }
    0
}
