//! What a process does at this moment, by the kernel's word.

use std::fs;

/// In words: `running`, `stopped`, `sleeping in do_sys_poll (system call 7)`.
pub(super) fn in_words(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    describe(&read("stat"), &read("wchan"), &read("syscall"))
}

/// `wchan` and `syscall` are not shown to everybody, nor by every kernel.
fn describe(stat: &str, wchan: &str, syscall: &str) -> String {
    // The name, in brackets, may hold spaces and brackets itself.
    let state = stat.rsplit_once(')').and_then(|(_name, fields)| fields.trim_start().chars().next());
    let state = match state {
        Some('R') => return "running".to_owned(),
        Some('S') => "sleeping",
        Some('D') => "sleeping undisturbably",
        Some('T') => return "stopped".to_owned(),
        Some('t') => return "stopped by a debugger".to_owned(),
        Some('Z' | 'X') | None => return "gone".to_owned(),
        Some(other) => return format!("in state {other}"),
    };
    let place = Some(wchan.trim()).filter(|place| !matches!(*place, "" | "0"));
    let place = place.map(|place| format!(" in {place}")).unwrap_or_default();
    let call = syscall.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
    let call = call.map(|number| format!(" (system call {number})")).unwrap_or_default();
    format!("{state}{place}{call}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_said_as_far_as_it_is_known() {
        let sleeping = "12 (a (b) c) S 1 12 12 0";
        assert_eq!(describe(sleeping, "do_sys_poll", "7 0x1 0x2"), "sleeping in do_sys_poll (system call 7)");
        assert_eq!(describe(sleeping, "0", "running"), "sleeping");
        assert_eq!(describe(sleeping, "", ""), "sleeping");
        assert_eq!(describe("12 (x) R 1", "0", "running"), "running");
        assert_eq!(describe("12 (x) T 1", "do_signal_stop", "0"), "stopped");
        assert_eq!(describe("12 (x) Z 1", "", ""), "gone");
        assert_eq!(describe("", "", ""), "gone");
    }

    #[test]
    fn this_process_is_there_and_no_process_is_gone() {
        assert_ne!(in_words(i32::try_from(std::process::id()).unwrap()), "gone");
        assert_eq!(in_words(-1), "gone");
    }
}
