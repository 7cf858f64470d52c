//! What the service manager is told of this process, and when: sd_notify(3). Pure but for
//! the line itself. That the router lives is never taken for granted: each sign of life to
//! the watchdog is an answer that the router's loop has given.

use std::ffi::OsString;
use std::time::Duration;

use tracing::warn;

use super::notify_socket::{NotifySocket, Weight};

/// What is asked of this process by whoever has started it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supervision {
    /// The name of its socket.
    pub socket: OsString,
    /// It wants a sign of life within each such time.
    pub watchdog: Option<Duration>,
}

/// Signs of life are never more frequent.
const SHORTEST_BEAT: Duration = Duration::from_millis(10);

/// While a stop has no end in sight, the router is asked so often...
const STOP_BEAT: Duration = Duration::from_secs(10);
/// ...and more time is asked for with each answer.
const EXTENSION: Duration = Duration::from_secs(30);

/// What is left to do for this process after the deadline of a stop.
const AFTERMATH: Duration = Duration::from_secs(6);

/// More is of no use in the one line that people see.
const SENTENCE_LIMIT: usize = 256;

/// Where this process stands, as service managers understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    Starting,
    Serving,
    Reloading,
    Stopping {
        /// When everything is over, if that is known.
        by: Option<Duration>,
    },
}

/// What the router has said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pulse {
    /// The last question it has read.
    pub(super) number: u64,
    pub(super) is_reloading: bool,
    pub(super) sentence: String,
}

/// The service manager, if there is one; else all of this does nothing.
#[derive(Debug)]
pub(super) struct ServiceManager {
    line: Option<NotifySocket>,
    pid: i32,
    watchdog: Option<Duration>,
    /// What it has been told.
    told: Told,
    /// What it has been told in words.
    sentence: String,
    questions: Questions,
    /// There is a reload, or may be: the router has not answered since it was asked for.
    is_reloading: bool,
    /// The question whose answer tells whether there is still one.
    reload_asked: u64,
    /// Until when it waits for the end of a stop.
    extended_until: Duration,
}

/// What it believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Starting,
    Ready,
    Reloading,
    /// Within a time that is known.
    Stopping,
    /// However long it takes.
    Finishing,
}

/// What the router is asked, one question at a time.
#[derive(Debug, Default)]
struct Questions {
    last: u64,
    /// It is not answered yet.
    open: Option<u64>,
    ask_at: Option<Duration>,
}

impl ServiceManager {
    /// Opens a line to it.
    pub(super) fn new(supervision: Option<&Supervision>, pid: i32) -> Self {
        let open = |supervision: &Supervision| match NotifySocket::open(&supervision.socket) {
            Ok(line) => Some(line),
            Err(error) => {
                let socket = supervision.socket.display();
                warn!(%socket, %error, "the service manager cannot be told: NOTIFY_SOCKET is of no use");
                None
            }
        };
        let beat = |watchdog: Duration| (watchdog / 2).max(SHORTEST_BEAT);
        Self {
            line: supervision.and_then(open),
            pid,
            watchdog: supervision.and_then(|supervision| supervision.watchdog).map(beat),
            told: Told::Starting,
            sentence: String::new(),
            questions: Questions::default(),
            is_reloading: false,
            reload_asked: 0,
            extended_until: Duration::ZERO,
        }
    }

    /// A program of before has told it that it is being reloaded.
    pub(super) fn inherit(&mut self) {
        self.told = Told::Reloading;
        // Not before the next router has said that nothing of it is left.
        self.reload_asked = 1;
        self.is_reloading = true;
    }

    /// Whether there is, or may be, a reload.
    pub(super) fn is_reloading(&self) -> bool {
        self.is_reloading
    }

    /// A router has begun its life, and knows of no question.
    pub(super) fn router_started(&mut self, now: Duration) {
        self.questions.open = None;
        self.questions.ask_at = self.line.as_ref().map(|_line| now);
    }

    /// A reload is asked for. Gives the question that must follow it.
    pub(super) fn reload_requested(&mut self, now: Duration) -> Option<u64> {
        self.line.as_ref()?;
        self.is_reloading = true;
        if matches!(self.told, Told::Ready | Told::Reloading) {
            // Once more if it has heard of one before: it waits for a word that is later than its own.
            self.tell_of_a_reload(now);
        }
        self.reload_asked = self.questions.ask();
        Some(self.reload_asked)
    }

    /// The question that is due, if one is.
    pub(super) fn question(&mut self, now: Duration) -> Option<u64> {
        self.questions.ask_at.take_if(|at| *at <= now)?;
        self.questions.ask_at = self.beat().map(|beat| now.saturating_add(beat));
        // A router that does not answer is not asked again and again.
        self.questions.open.is_none().then(|| self.questions.ask())
    }

    /// The router has said how it is.
    pub(super) fn take(&mut self, pulse: &Pulse, now: Duration) {
        let is_answer = self.questions.open.take_if(|open| *open <= pulse.number).is_some();
        if self.reload_asked <= pulse.number {
            self.is_reloading = pulse.is_reloading;
        }
        if is_answer && self.watchdog.is_some() {
            self.say("WATCHDOG=1", Weight::May, now);
        }
        if is_answer && self.told == Told::Finishing {
            self.extend(EXTENSION, now);
        }
        self.describe(&pulse.sentence, now);
    }

    /// Tells it where this process stands, if that is news.
    pub(super) fn follow(&mut self, condition: Condition, now: Duration) {
        if self.line.is_none() {
            return;
        }
        match condition {
            Condition::Stopping { by } => self.tell_of_the_stop(by, now),
            // A stop is the last that there is to tell.
            _ if matches!(self.told, Told::Stopping | Told::Finishing) => (),
            Condition::Starting => (),
            Condition::Serving => self.tell_of_readiness(now),
            Condition::Reloading => {
                // It waits for a first word that this process is ready, and takes no other for it.
                if self.told == Told::Starting {
                    self.tell_of_readiness(now);
                }
                if self.told != Told::Reloading {
                    self.tell_of_a_reload(now);
                }
            }
        }
    }

    /// Says it in words, if they are new.
    pub(super) fn describe(&mut self, sentence: &str, now: Duration) {
        let sentence = in_one_line(sentence);
        if sentence != self.sentence && self.say(&format!("STATUS={sentence}"), Weight::May, now) {
            self.sentence = sentence;
        }
    }

    /// When something is due, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let line = self.line.as_ref()?;
        [line.next_deadline(), self.questions.ask_at].into_iter().flatten().min()
    }

    /// Says again what there was no room for.
    pub(super) fn see_to_deadlines(&mut self, now: Duration) {
        if let Some(line) = &mut self.line {
            line.see_to_deadlines(now);
        }
    }

    /// Says what there was no room for, once more before this process ends.
    pub(super) fn part(&mut self) {
        if let Some(line) = &mut self.line {
            line.say_the_rest();
        }
    }

    fn tell_of_readiness(&mut self, now: Duration) {
        if self.told == Told::Ready {
            return;
        }
        self.told = Told::Ready;
        self.say(&format!("READY=1\nMAINPID={}", self.pid), Weight::Must, now);
    }

    fn tell_of_a_reload(&mut self, now: Duration) {
        self.told = Told::Reloading;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()), Weight::Must, now);
    }

    fn tell_of_the_stop(&mut self, by: Option<Duration>, now: Duration) {
        let told = if by.is_some() { Told::Stopping } else { Told::Finishing };
        let before = std::mem::replace(&mut self.told, told);
        if !matches!(before, Told::Stopping | Told::Finishing) {
            self.say("STOPPING=1", Weight::Must, now);
        }
        match by.map(|by| by.saturating_add(AFTERMATH)) {
            // What the operator gives to running requests may be more than the unit file does.
            Some(end) if self.extended_until < end => self.extend(end.saturating_sub(now), now),
            Some(_known) => (),
            None if before == Told::Finishing => (),
            None => {
                self.extend(EXTENSION, now);
                let beat = now.saturating_add(STOP_BEAT);
                self.questions.ask_at = Some(self.questions.ask_at.map_or(beat, |at| at.min(beat)));
            }
        }
    }

    fn extend(&mut self, time: Duration, now: Duration) {
        self.extended_until = now.saturating_add(time);
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()), Weight::Must, now);
    }

    /// How often the router is asked.
    fn beat(&self) -> Option<Duration> {
        let stop = (self.told == Told::Finishing).then_some(STOP_BEAT);
        [self.watchdog, stop].into_iter().flatten().min()
    }

    fn say(&mut self, message: &str, weight: Weight, now: Duration) -> bool {
        self.line.as_mut().is_some_and(|line| line.say(message.to_owned(), weight, now))
    }
}

impl Questions {
    fn ask(&mut self) -> u64 {
        self.last = self.last.saturating_add(1);
        self.open = Some(self.last);
        self.last
    }
}

/// What others have said must not become a message of its own.
fn in_one_line(sentence: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    sentence.chars().take(SENTENCE_LIMIT).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Listener {
        socket: UnixDatagram,
        manager: ServiceManager,
    }

    impl Listener {
        fn new(name: &str, watchdog: Option<Duration>) -> Self {
            let name = format!("hornpipe-manager-{}-{name}", std::process::id());
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let supervision = Supervision { socket: format!("@{name}").into(), watchdog };
            Self { socket, manager: ServiceManager::new(Some(&supervision), 7) }
        }

        fn heard(&self) -> Vec<String> {
            let mut buffer = [0; 512];
            let mut all = Vec::new();
            while let Ok(size) = self.socket.recv(&mut buffer) {
                all.push(String::from_utf8(buffer[..size].to_vec()).unwrap());
            }
            all
        }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pulse(number: u64, is_reloading: bool) -> Pulse {
        Pulse { number, is_reloading, sentence: String::new() }
    }

    #[test]
    fn each_turn_in_a_life_is_told_once_and_a_stop_is_the_last() {
        let mut listener = Listener::new("life", None);
        let serving = |listener: &mut Listener| listener.manager.follow(Condition::Serving, at(1));
        listener.manager.follow(Condition::Starting, at(0));
        serving(&mut listener);
        serving(&mut listener);
        listener.manager.follow(Condition::Reloading, at(2));
        listener.manager.follow(Condition::Reloading, at(3));
        serving(&mut listener);
        listener.manager.follow(Condition::Stopping { by: Some(at(34)) }, at(4));
        listener.manager.follow(Condition::Stopping { by: Some(at(30)) }, at(5));
        serving(&mut listener);
        assert_eq!(
            listener.heard(),
            [
                "READY=1\nMAINPID=7",
                "RELOADING=1\nMONOTONIC_USEC=2000000",
                "READY=1\nMAINPID=7",
                "STOPPING=1",
                "EXTEND_TIMEOUT_USEC=36000000",
            ]
        );
    }

    #[test]
    fn a_reload_before_the_first_readiness_is_told_after_it() {
        let mut listener = Listener::new("early", None);
        listener.manager.router_started(at(0));
        assert_eq!(listener.manager.question(at(0)), Some(1));
        assert_eq!(listener.manager.reload_requested(at(1)), Some(2));
        assert_eq!(listener.heard(), [""; 0]);
        listener.manager.follow(Condition::Reloading, at(2));
        assert_eq!(listener.heard(), ["READY=1\nMAINPID=7", "RELOADING=1\nMONOTONIC_USEC=2000000"]);
    }

    #[test]
    fn a_reload_is_over_when_the_router_says_so_after_it_was_asked_for() {
        let mut listener = Listener::new("reload", None);
        let manager = &mut listener.manager;
        manager.router_started(at(0));
        assert_eq!(manager.question(at(0)), Some(1));
        manager.follow(Condition::Serving, at(1));
        assert_eq!(manager.reload_requested(at(2)), Some(2));
        manager.take(&pulse(1, false), at(3));
        assert!(manager.is_reloading(), "this was said before the router knew of it");
        manager.take(&pulse(2, true), at(4));
        assert!(manager.is_reloading());
        // A second one, whose sender waits for a later word.
        assert_eq!(manager.reload_requested(at(5)), Some(3));
        manager.take(&pulse(2, false), at(6));
        assert!(manager.is_reloading());
        manager.take(&pulse(3, false), at(7));
        assert!(!manager.is_reloading());
        let heard = listener.heard();
        assert_eq!(heard[1..], [2, 5].map(|at| format!("RELOADING=1\nMONOTONIC_USEC={at}000000")));
    }

    #[test]
    fn a_reload_that_a_router_took_to_its_grave_ends_with_the_word_of_the_next() {
        let mut listener = Listener::new("grave", None);
        let manager = &mut listener.manager;
        manager.router_started(at(0));
        manager.question(at(0));
        assert_eq!(manager.reload_requested(at(2)), Some(2));
        manager.router_started(at(3));
        assert_eq!(manager.question(at(3)), Some(3));
        manager.take(&pulse(3, false), at(4));
        assert!(!manager.is_reloading());
    }

    #[test]
    fn the_watchdog_gets_a_sign_of_life_for_each_answer_and_for_nothing_else() {
        let mut listener = Listener::new("watchdog", Some(SECOND * 4));
        let manager = &mut listener.manager;
        manager.router_started(at(0));
        assert_eq!(manager.question(at(0)), Some(1));
        assert_eq!(manager.next_deadline(), Some(at(2)));
        assert_eq!(manager.question(at(1)), None);
        manager.take(&pulse(1, false), at(1));
        // Said without being asked.
        manager.take(&pulse(1, false), at(1));
        assert_eq!(manager.question(at(2)), Some(2));
        // No answer comes: it is not asked again.
        for time in [4, 6, 8] {
            assert_eq!(manager.question(at(time)), None);
        }
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
        listener.manager.take(&pulse(2, false), at(9));
        assert_eq!(listener.manager.question(at(10)), Some(3));
        // Its successor has never heard of that question.
        listener.manager.router_started(at(11));
        assert_eq!(listener.manager.question(at(11)), Some(4));
        assert_eq!(listener.heard(), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_stop_without_a_limit_asks_for_time_as_long_as_the_router_answers() {
        let mut listener = Listener::new("finish", None);
        let manager = &mut listener.manager;
        manager.router_started(at(0));
        manager.question(at(0));
        manager.take(&pulse(1, false), at(0));
        assert_eq!(manager.next_deadline(), None, "nobody is asked while nobody wants to know");
        manager.follow(Condition::Stopping { by: None }, at(1));
        assert_eq!(manager.question(at(11)), Some(2));
        manager.take(&pulse(2, false), at(11));
        assert_eq!(manager.question(at(21)), Some(3));
        assert_eq!(manager.question(at(31)), None);
        manager.follow(Condition::Stopping { by: Some(at(65)) }, at(40));
        let more = "EXTEND_TIMEOUT_USEC=30000000";
        assert_eq!(listener.heard(), ["STOPPING=1", more, more, "EXTEND_TIMEOUT_USEC=31000000"]);
    }

    #[test]
    fn a_sentence_is_told_when_it_is_new_and_is_one_line() {
        let mut listener = Listener::new("sentence", None);
        for sentence in ["8 workers", "8 workers", "died of \"x\nREADY=1\"", &"y".repeat(1000)] {
            listener.manager.describe(sentence, at(1));
        }
        let long = format!("STATUS={}", "y".repeat(SENTENCE_LIMIT));
        assert_eq!(listener.heard(), ["STATUS=8 workers", "STATUS=died of \"x READY=1\"", &long]);
    }

    #[test]
    fn a_program_that_takes_over_is_ready_when_its_router_says_so() {
        let mut listener = Listener::new("inherit", None);
        let manager = &mut listener.manager;
        manager.inherit();
        manager.router_started(at(0));
        assert_eq!(manager.question(at(0)), Some(1));
        assert!(manager.is_reloading());
        manager.follow(Condition::Reloading, at(1));
        manager.take(&pulse(1, false), at(2));
        assert!(!manager.is_reloading());
        manager.follow(Condition::Serving, at(2));
        assert_eq!(listener.heard(), ["READY=1\nMAINPID=7"]);
    }

    #[test]
    fn without_a_service_manager_nobody_is_asked_anything() {
        let mut manager = ServiceManager::new(None, 7);
        manager.router_started(at(0));
        manager.follow(Condition::Serving, at(0));
        assert_eq!(manager.question(at(0)), None);
        assert_eq!(manager.reload_requested(at(0)), None);
        assert_eq!(manager.next_deadline(), None);
        assert!(!manager.is_reloading());
    }
}
