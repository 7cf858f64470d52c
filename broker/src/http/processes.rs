//! What `/proc` says of parent, router and this process. Inside a root directory without
//! `/proc`, nothing.

use std::fs;

/// One process as the kernel sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) threads: u64,
    /// Seconds since 1970.
    pub(super) started: f64,
    /// Those of another user are not shown to everybody.
    pub(super) open_descriptors: Option<u64>,
    pub(super) descriptors_limit: Option<u64>,
}

pub(super) fn read(pid: i32) -> Option<Figures> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let figures = parse(&stat, &boot, rustix::param::clock_ticks_per_second())?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok();
    Some(Figures {
        open_descriptors: open.map(|open| u64::try_from(open.count()).unwrap_or(u64::MAX)),
        descriptors_limit: soft_limit(&limits),
        ..figures
    })
}

#[expect(clippy::cast_precision_loss, reason = "a counter of ticks is far below 2^53")]
fn parse(stat: &str, boot: &str, ticks_per_second: u64) -> Option<Figures> {
    // The name may hold spaces and brackets: what follows the last bracket is counted.
    let (_name, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number.checked_sub(3)?)?.parse::<u64>().ok();
    let ticks = ticks_per_second as f64;
    let booted: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Figures {
        cpu_seconds: (field(14)? + field(15)?) as f64 / ticks,
        threads: field(20)?,
        started: booted as f64 + field(22)? as f64 / ticks,
        resident_bytes: field(24)?.saturating_mul(rustix::param::page_size() as u64),
        open_descriptors: None,
        descriptors_limit: None,
    })
}

fn soft_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_read() {
        let fields: Vec<String> = (3..=52).map(|field| field.to_string()).collect();
        let stat = format!("1 (a) b (c)) {}", fields.join(" "));
        let figures = parse(&stat, "cpu 1\nbtime 1000\n", 100).unwrap();
        let page = rustix::param::page_size() as u64;
        assert!((figures.cpu_seconds - 0.29).abs() < 1e-9 && (figures.started - 1000.22).abs() < 1e-9);
        assert_eq!((figures.threads, figures.resident_bytes), (20, 24 * page));
        assert_eq!(soft_limit("Max open files            1024                 4096  files\n"), Some(1024));
        assert_eq!(parse("1 (a) S", "btime 1", 100), None);
    }

    #[test]
    fn this_process_is_seen_and_no_other() {
        let own = read(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(own.resident_bytes > 0 && own.open_descriptors.is_some());
        assert_eq!(read(-1), None);
    }
}
