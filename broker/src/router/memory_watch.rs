//! How much memory workers hold. To sum up a process's pages can take the kernel
//! milliseconds, so it is asked from a thread of its own, the only one of ours. It
//! takes questions from a bounded channel, wakes the loop by a descriptor, and rests
//! in proportion to what it has used.
//!
//! A worker is its process and all that it has started: its descendants where the
//! kernel lists children, else its process group, which is what a kill ends.
#![expect(clippy::disallowed_methods, reason = "this file is the door of the router's one thread")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::event::{EventfdFlags, eventfd};
use tracing::{debug, warn};

use super::clock;
use super::frame::Body;
use super::setup::RouterError;
use crate::core::{Event, Footprint, MAX_WORKERS, Place};

/// Questions and findings under way, each. Beyond it they are dropped, and asked again.
const UNDER_WAY: usize = MAX_WORKERS as usize;

/// For each moment of work it rests nineteen: a twentieth of one core at most.
const REST: u32 = 19;

/// Processes of one worker that are counted.
const FAMILY_LIMIT: usize = 256;

#[derive(Debug)]
pub(super) struct MemoryWatch {
    /// What wakes the router's loop.
    wake_up: Arc<OwnedFd>,
    thread: Thread,
}

#[derive(Debug)]
enum Thread {
    /// Nobody has been measured yet.
    Unborn,
    Running {
        questions: SyncSender<Question>,
        findings: Receiver<Finding>,
    },
    /// The system has no room for one: limits of memory do not act.
    Impossible,
}

#[derive(Debug, Clone, Copy)]
struct Question {
    place: Place,
    pid: i32,
}

#[derive(Debug, Clone, Copy)]
struct Finding {
    place: Place,
    footprint: Footprint,
}

impl MemoryWatch {
    pub(super) fn new() -> Result<Self, RouterError> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake_up = eventfd(0, flags).map_err(RouterError::NoWakeUp)?;
        Ok(Self { wake_up: Arc::new(wake_up), thread: Thread::Unborn })
    }

    /// Readable when there are findings.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.wake_up.as_fd()
    }

    /// Asks for one worker. If too much is asked there is no answer.
    pub(super) fn measure(&mut self, place: Place, pid: i32) {
        if matches!(self.thread, Thread::Unborn) {
            self.thread = start(Arc::clone(&self.wake_up));
        }
        if let Thread::Running { questions, .. } = &self.thread
            && let Err(error) = questions.try_send(Question { place, pid })
        {
            debug!(slot = place.slot.0, %error, "not measured");
        }
    }

    /// What has been found since the last call.
    pub(super) fn findings(&mut self) -> impl Iterator<Item = Event<Body>> + '_ {
        // Taken back before the findings are: one that comes meanwhile wakes the loop again.
        let mut count = [0; 8];
        if let Err(error) = rustix::io::read(&self.wake_up, &mut count) {
            debug!(%error, "woken for nothing");
        }
        let findings = match &self.thread {
            Thread::Running { findings, .. } => Some(findings.try_iter()),
            Thread::Unborn | Thread::Impossible => None,
        };
        let event = |finding: Finding| Event::Measured { place: finding.place, footprint: finding.footprint };
        findings.into_iter().flatten().map(event)
    }
}

fn start(wake_up: Arc<OwnedFd>) -> Thread {
    let (questions, to_do) = sync_channel(UNDER_WAY);
    let (done, findings) = sync_channel(UNDER_WAY);
    let watch = move || watch(&to_do, &done, &wake_up);
    match std::thread::Builder::new().name("memory watch".into()).spawn(watch) {
        Ok(_detached) => Thread::Running { questions, findings },
        Err(error) => {
            warn!(%error, "no thread to measure workers: their memory has no limit");
            Thread::Impossible
        }
    }
}

/// The thread: until the router is gone.
fn watch(questions: &Receiver<Question>, findings: &SyncSender<Finding>, wake_up: &OwnedFd) {
    while let Ok(first) = questions.recv() {
        let before = clock::used_by_this_thread();
        let questions: Vec<Question> = std::iter::once(first).chain(questions.try_iter()).collect();
        for finding in measure_all(&questions) {
            if findings.try_send(finding).is_err() {
                break;
            }
        }
        // It can only fail when the loop has not read it for longer than counters count.
        rustix::io::write(wake_up, &1_u64.to_ne_bytes()).ok();
        let used = clock::used_by_this_thread().saturating_sub(before);
        std::thread::sleep(used * REST);
    }
}

/// Those that are gone have no finding.
fn measure_all(questions: &[Question]) -> Vec<Finding> {
    let groups = if kernel_lists_children() {
        BTreeMap::new()
    } else {
        groups(&questions.iter().map(|question| question.pid).collect())
    };
    let find = |question: &Question| {
        let own = footprint(question.pid)?;
        let others = groups.get(&question.pid).cloned().unwrap_or_else(|| descendants(question.pid));
        let sum = |sum: Footprint, one: Footprint| Footprint {
            private_bytes: sum.private_bytes + one.private_bytes,
            shared_bytes: sum.shared_bytes + one.shared_bytes,
            resident_bytes: sum.resident_bytes + one.resident_bytes,
        };
        let footprint = others.into_iter().filter_map(footprint).fold(own, sum);
        Some(Finding { place: question.place, footprint })
    };
    questions.iter().filter_map(find).collect()
}

/// See CONFIG_PROC_CHILDREN in proc_pid_task_tid_children(5).
fn kernel_lists_children() -> bool {
    let own = std::process::id();
    fs::exists(format!("/proc/{own}/task/{own}/children")).unwrap_or(false)
}

/// Those that the process has started, and those that they have.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let mut parents = VecDeque::from([pid]);
    while let Some(parent) = parents.pop_front() {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let children = children.unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            if found.len() < FAMILY_LIMIT {
                found.push(child);
                parents.push_back(child);
            }
        }
    }
    found
}

/// The members of these process groups but their leaders.
fn groups(leaders: &BTreeSet<i32>) -> BTreeMap<i32, Vec<i32>> {
    let mut groups: BTreeMap<i32, Vec<i32>> = leaders.iter().map(|leader| (*leader, Vec::new())).collect();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let members =
            group_of(pid).filter(|leader| *leader != pid).and_then(|leader| groups.get_mut(&leader));
        if let Some(members) = members.filter(|members| members.len() < FAMILY_LIMIT) {
            members.push(pid);
        }
    }
    groups
}

fn group_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets: what follows the last bracket is counted.
    let (_name, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(2)?.parse().ok()
}

/// One process. `None` if it is gone.
fn footprint(pid: i32) -> Option<Footprint> {
    let detailed = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
    detailed.and_then(|text| from_smaps(&text)).or_else(|| {
        // Pages of a process that has changed its user are its own business: a guess is left.
        from_statm(&fs::read_to_string(format!("/proc/{pid}/statm")).ok()?)
    })
}

fn from_smaps(text: &str) -> Option<Footprint> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    let private_bytes = bytes("Private_Clean")? + bytes("Private_Dirty")?;
    // Counted at one moment and yet not exactly: a share below nothing is nothing.
    let shared_bytes = bytes("Pss")?.saturating_sub(private_bytes);
    Some(Footprint { private_bytes, shared_bytes, resident_bytes: bytes("Rss")? })
}

/// What is resident, less what files or others may share.
fn from_statm(text: &str) -> Option<Footprint> {
    let mut pages = text.split_whitespace().skip(1).map(|pages| pages.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    let page = rustix::param::page_size() as u64;
    // One that has ended and is not reaped has nothing.
    (resident > 0).then_some(Footprint {
        private_bytes: resident.saturating_sub(shared) * page,
        shared_bytes: shared * page,
        resident_bytes: resident * page,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Incarnation, Slot};

    const ROLLUP: &str = "\
55a027e0c000-7ffc33523000 ---p 00000000 00:00 0                          [rollup]
Rss:                1760 kB
Pss:                 211 kB
Pss_Dirty:           116 kB
Shared_Clean:       1608 kB
Private_Clean:        36 kB
Private_Dirty:       116 kB
";

    #[test]
    fn the_kernels_words_are_read() {
        let expected =
            Footprint { private_bytes: 152 * 1024, shared_bytes: 59 * 1024, resident_bytes: 1760 * 1024 };
        assert_eq!(from_smaps(ROLLUP), Some(expected));
        assert_eq!(from_smaps("Rss: 1 kB"), None);
        let page = rustix::param::page_size() as u64;
        let guess =
            Footprint { private_bytes: 300 * page, shared_bytes: 100 * page, resident_bytes: 400 * page };
        assert_eq!(from_statm("900 400 100 1 0 200 0\n"), Some(guess));
        assert_eq!(from_statm("0 0 0 0 0 0 0\n"), None);
    }

    #[test]
    fn what_a_process_allocates_is_its_own() {
        let place = Place { slot: Slot(0), incarnation: Incarnation(1) };
        let own = Question { place, pid: i32::try_from(std::process::id()).unwrap() };
        let private = || measure_all(&[own]).first().unwrap().footprint.private_bytes;
        let before = private();
        let much = vec![1_u8; 32 << 20];
        assert!(private() >= before + (24 << 20), "{} bytes count as nothing", much.len());
    }

    #[test]
    fn a_process_that_is_gone_is_no_error() {
        let place = Place { slot: Slot(0), incarnation: Incarnation(1) };
        assert!(measure_all(&[Question { place, pid: i32::MAX }]).is_empty());
    }

    #[test]
    fn a_finding_wakes_the_loop() {
        let mut watch = MemoryWatch::new().unwrap();
        let place = Place { slot: Slot(3), incarnation: Incarnation(1) };
        watch.measure(place, i32::try_from(std::process::id()).unwrap());
        let mut fds = [rustix::event::PollFd::new(&watch.wake_up, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1));
        let found: Vec<_> = watch.findings().collect();
        assert!(matches!(found.as_slice(), [Event::Measured { place: of, .. }] if *of == place), "{found:?}");
        assert_eq!(watch.findings().count(), 0);
    }
}
