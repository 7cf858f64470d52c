//! The title of this process, as `ps` and `top` show it.
//!
//! Linux has no call for it: the kernel shows the memory that held the command line,
//! so that memory is written over. The environment lies right behind it and is moved
//! away first, for more room.
#![expect(unsafe_code, reason = "the command line can only be changed in place, through raw pointers")]

use std::ffi::{CStr, CString, c_char};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::prctl;

/// The short name: what `pkill` and `top` know a process by.
const NAME: &CStr = c"hornpipe";

/// A title is shorter, its final NUL included.
const ROOM: usize = 256;

static AREA: Mutex<State> = Mutex::new(State::Untouched);

enum State {
    Untouched,
    Found(&'static [AtomicU8]),
    /// There is no /proc, or it says nothing of use: titles are a comfort, so that is all.
    Missing,
}

/// Sets the title, cut to the room there is. It costs a copy in memory, no system call.
///
/// The first call must come before the process has threads, because it moves the
/// environment, and after `std::env::args` has been read for the last time, because it
/// writes over the arguments. A forked child inherits the title and may change it.
pub fn set(title: &str) {
    let mut state = AREA.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, State::Untouched) {
        *state = find_area().map_or(State::Missing, State::Found);
        prctl::set_name(NAME).ok();
    }
    if let State::Found(area) = *state {
        write(area, title);
    }
}

/// Fills what the title leaves with NUL, and keeps one at the very end: whoever reads
/// stops there.
fn write(area: &[AtomicU8], title: &str) {
    let Some((last, room)) = area.split_last() else { return };
    let (text, rest) = room.split_at(title.len().min(room.len()));
    for (place, byte) in text.iter().zip(title.bytes()) {
        place.store(byte, Ordering::Relaxed);
    }
    // Behind the end of an earlier title there is nothing to fill.
    for place in rest.iter().take_while(|place| place.load(Ordering::Relaxed) != 0) {
        place.store(0, Ordering::Relaxed);
    }
    last.store(0, Ordering::Relaxed);
}

fn find_area() -> Option<&'static [AtomicU8]> {
    let bounds = parse_stat(&std::fs::read_to_string("/proc/self/stat").ok()?)?;
    // A program may have been told to lay them out otherwise.
    let end = if bounds.environment_start == bounds.arguments_end {
        bounds.environment_end
    } else {
        bounds.arguments_end
    };
    let length = end.checked_sub(bounds.arguments_start)?;
    move_environment();
    let start = std::ptr::with_exposed_provenance::<AtomicU8>(bounds.arguments_start);
    // SAFETY: the kernel says that this process has its arguments there, and then its
    // environment. They stay mapped and writable for its life, and nobody refers to them as
    // Rust memory: the environment was copied above, the arguments are read no more (see `set`).
    let area: &'static [AtomicU8] = unsafe { std::slice::from_raw_parts(start, length) };
    // Once for all of it: the environment may be long, and a title is set often.
    for place in area {
        place.store(0, Ordering::Relaxed);
    }
    area.get(..length.min(ROOM))
}

/// Where the kernel put arguments and environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    arguments_start: usize,
    arguments_end: usize,
    environment_start: usize,
    environment_end: usize,
}

/// Reads fields 48 to 51 of a stat line. Its second field, the name, may hold anything.
fn parse_stat(line: &str) -> Option<Bounds> {
    let (_pid_and_name, rest) = line.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(45).map(str::parse);
    let mut next = || fields.next()?.ok();
    let bounds = Bounds {
        arguments_start: next()?,
        arguments_end: next()?,
        environment_start: next()?,
        environment_end: next()?,
    };
    let is_sensible = 0 < bounds.arguments_start
        && bounds.arguments_start < bounds.arguments_end
        && bounds.environment_start <= bounds.environment_end;
    is_sensible.then_some(bounds)
}

unsafe extern "C" {
    /// The environment as the C library knows it: pointers to strings, the last one null.
    static mut environ: *mut *mut c_char;
}

/// Copies the environment to memory that is never freed.
fn move_environment() {
    let mut copies = Vec::new();
    // SAFETY: no other thread exists that could change it (see `set`).
    let mut entry = unsafe { environ };
    while !entry.is_null() {
        // SAFETY: the array ends with a null pointer, and the loop with it.
        let string = unsafe { *entry };
        if string.is_null() {
            break;
        }
        // SAFETY: every entry before the null pointer is a string that ends with NUL.
        let string = unsafe { CStr::from_ptr(string) };
        copies.push(CString::from(string).into_raw());
        // SAFETY: this was not the null pointer, so another entry follows.
        entry = unsafe { entry.add(1) };
    }
    copies.push(std::ptr::null_mut());
    let moved = copies.leak().as_mut_ptr();
    // SAFETY: as above; the new array ends with a null pointer and is never freed.
    unsafe { environ = moved };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_are_found_behind_any_name() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let line = format!("1 (a) b (c)) {}", fields.join(" "));
        let bounds = parse_stat(&line).unwrap();
        assert_eq!(
            bounds,
            Bounds { arguments_start: 48, arguments_end: 49, environment_start: 50, environment_end: 51 }
        );
    }

    #[test]
    fn a_kernel_that_hides_them_is_believed() {
        let zeros = "0 ".repeat(50);
        assert_eq!(parse_stat(&format!("1 (a) {zeros}")), None);
        assert_eq!(parse_stat("1 (a) R 1"), None);
    }

    #[test]
    fn a_title_replaces_a_longer_one_and_is_cut_to_the_room() {
        let area: Vec<AtomicU8> = (0..8).map(|_at| AtomicU8::new(b'x')).collect();
        let read = || area.iter().map(|byte| byte.load(Ordering::Relaxed)).collect::<Vec<_>>();
        write(&area, "a title too long");
        assert_eq!(read(), b"a title\0");
        write(&area, "short");
        assert_eq!(read(), b"short\0\0\0");
    }
}
