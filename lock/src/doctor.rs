//! What is to be said about a server that holds locks: what it is, and what about it can
//! cost exclusion. No I/O; the facts are collected by `server.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::RedisResult;

use crate::guard::RestartGuard;
use crate::info::Info;

/// The drift that Redlock allows for is a hundredth of the time to live: of 30 s, 300 ms.
const CLOCK_TOLERANCE: Duration = Duration::from_millis(300);

/// The oldest server that has everything which is asked of it.
const OLDEST: (u32, u32) = (2, 8);

/// What one server says of itself. A setting is `None` where this user may not see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerReport {
    /// Its version, as `7.0.15`.
    pub version: String,
    /// Which process it is: two addresses with the same one are one server.
    pub run_id: String,
    /// `master` or `slave`, in Redis' words.
    pub role: String,
    /// `standalone`, `cluster` or `sentinel`.
    pub mode: String,
    /// How many replicas follow it.
    pub replicas: u64,
    /// How long it has been up.
    pub uptime: Duration,
    /// `yes` or `no`.
    pub appendonly: Option<String>,
    /// `always`, `everysec` or `no`.
    pub appendfsync: Option<String>,
    /// What it does when its memory is full.
    pub maxmemory_policy: Option<String>,
    /// Its memory in bytes; 0 without a limit.
    pub maxmemory: Option<String>,
    /// By how much its wall clock is ahead of ours, in milliseconds.
    pub clock_offset_ms: i64,
    /// How long it took to ask for its clock.
    pub round_trip: Duration,
}

impl ServerReport {
    pub(crate) fn of(
        info: &Info,
        mut setting: impl FnMut(&str) -> RedisResult<String>,
        clock_offset_ms: i64,
        round_trip: Duration,
    ) -> Self {
        let text = |name: &str| info.get(name).unwrap_or_default().to_owned();
        Self {
            version: text("redis_version"),
            run_id: text("run_id"),
            role: text("role"),
            mode: text("redis_mode"),
            replicas: info.get("connected_slaves").and_then(|count| count.parse().ok()).unwrap_or(0),
            uptime: info.seconds("uptime_in_seconds").unwrap_or_default(),
            appendonly: setting("appendonly").ok(),
            appendfsync: setting("appendfsync").ok(),
            maxmemory_policy: setting("maxmemory-policy").ok(),
            maxmemory: setting("maxmemory").ok(),
            clock_offset_ms,
            round_trip,
        }
    }

    fn is_durable(&self) -> bool {
        self.appendonly.as_deref() == Some("yes") && self.appendfsync.as_deref() == Some("always")
    }
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Good to know.
    Note,
    /// It can cost exclusion, or a server, under circumstances that it names.
    Warning,
    /// Locks do not work, or exclude nobody.
    Problem,
}

/// Something that whoever runs these servers should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which server; `None` for all together.
    pub server: Option<String>,
    /// How much it matters.
    pub weight: Weight,
    /// What is so, and what to do.
    pub advice: String,
}

/// One server by name, and what it says of itself or why it says nothing.
pub type Examined = (String, Result<ServerReport, String>);

/// What is to be said about these servers, if locks on them live no longer than this.
pub fn advise(servers: &[Examined], guard: RestartGuard, longest_ttl: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    if servers.is_empty() {
        return findings;
    }
    for (name, answer) in servers {
        let mut say =
            |weight, advice: String| findings.push(Finding { server: Some(name.clone()), weight, advice });
        match answer {
            Err(why) => say(Weight::Problem, format!("it does not answer: {why}")),
            Ok(report) => examine(report, guard, longest_ttl, &mut say),
        }
    }
    findings.extend(together(servers));
    findings
}

fn examine(
    report: &ServerReport,
    guard: RestartGuard,
    longest_ttl: Duration,
    say: &mut impl FnMut(Weight, String),
) {
    if report.role != "master" {
        let role = &report.role;
        say(
            Weight::Problem,
            format!("it is a {role}, which cannot be written to: name its master, or another server"),
        );
    }
    if report.mode == "sentinel" {
        say(Weight::Problem, "it is a sentinel and keeps no keys: name the server it watches".to_owned());
    }
    if report.replicas > 0 {
        say(
            Weight::Warning,
            "it has replicas: a failover to one loses the locks that were not replicated yet. Use servers of their own"
                .to_owned(),
        );
    }
    if version(&report.version).is_none_or(|version| version < OLDEST) {
        let (major, minor) = OLDEST;
        say(Weight::Problem, format!("version {:?} is older than {major}.{minor}", report.version));
    }
    persistence(report, guard, longest_ttl, say);
    memory(report, say);
    clock(report, say);
}

fn persistence(
    report: &ServerReport,
    guard: RestartGuard,
    longest_ttl: Duration,
    say: &mut impl FnMut(Weight, String),
) {
    if report.is_durable() {
        return;
    }
    let seconds = longest_ttl.as_secs() + 1;
    if guard == RestartGuard::Off {
        say(
            Weight::Warning,
            "it forgets locks when it restarts, and the restart guard is off: two may then hold one. \
             `CONFIG SET appendonly yes` and `appendfsync always`, or leave the guard on"
                .to_owned(),
        );
    } else if report.appendonly.is_none() {
        say(
            Weight::Note,
            format!(
                "its settings cannot be seen (CONFIG is not allowed), so after a restart it has no vote for {seconds} s"
            ),
        );
    } else {
        say(
            Weight::Note,
            format!(
                "it does not write every lock to its disk, so after a restart it has no vote for {seconds} s; \
                 `appendonly yes` with `appendfsync always` saves that"
            ),
        );
    }
    if guard == RestartGuard::LongestTtl && report.uptime.as_secs() < seconds {
        let (up, left) = (report.uptime.as_secs(), seconds - report.uptime.as_secs());
        say(Weight::Warning, format!("it was started {up} s ago and has no vote for another {left} s"));
    }
}

fn memory(report: &ServerReport, say: &mut impl FnMut(Weight, String)) {
    let is_limited = report.maxmemory.as_deref().is_some_and(|limit| limit != "0");
    match report.maxmemory_policy.as_deref() {
        None | Some("noeviction") => (),
        Some(policy) if is_limited => say(
            Weight::Problem,
            format!(
                "with maxmemory-policy {policy} it throws locks away when its memory is full: \
                     `CONFIG SET maxmemory-policy noeviction`"
            ),
        ),
        Some(policy) => say(
            Weight::Note,
            format!(
                "maxmemory-policy is {policy}, which would throw locks away if there were a maxmemory: \
                     `CONFIG SET maxmemory-policy noeviction`"
            ),
        ),
    }
}

fn clock(report: &ServerReport, say: &mut impl FnMut(Weight, String)) {
    let offset = report.clock_offset_ms;
    let tolerance = CLOCK_TOLERANCE + report.round_trip / 2;
    if u128::from(offset.unsigned_abs()) > tolerance.as_millis() {
        let direction = if offset > 0 { "ahead of" } else { "behind" };
        say(
            Weight::Warning,
            format!(
                "its clock is {} ms {direction} this machine's. If it is set while a lock is held, that lock ends \
                 too early or too late: have both follow NTP, by slewing",
                offset.unsigned_abs()
            ),
        );
    }
}

fn together(servers: &[Examined]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut say = |weight, advice: String| findings.push(Finding { server: None, weight, advice });
    let mut by_run_id: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, report) in
        servers.iter().filter_map(|(name, answer)| answer.as_ref().ok().map(|report| (name, report)))
    {
        if !report.run_id.is_empty() {
            by_run_id.entry(&report.run_id).or_default().push(name);
        }
    }
    for names in by_run_id.into_values().filter(|names| names.len() > 1) {
        say(Weight::Problem, format!("{} are one server, which has more than one vote", names.join(" and ")));
    }
    match servers.len() {
        1 => say(
            Weight::Note,
            "with one server there are no locks while it is down: three are usual".to_owned(),
        ),
        even if even % 2 == 0 => {
            say(
                Weight::Note,
                format!("{even} servers may miss no more of them than {}: one fewer does as well", even - 1),
            );
        }
        _ => (),
    }
    let answering = servers.iter().filter(|(_, answer)| answer.is_ok()).count();
    if answering < crate::quorum::quorum(servers.len()) {
        say(
            Weight::Problem,
            format!("{answering} of {} answer, which is no majority: nobody gets a lock", servers.len()),
        );
    }
    findings
}

fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_mins(1);

    fn good(run_id: &str) -> ServerReport {
        ServerReport {
            version: "7.0.15".to_owned(),
            run_id: run_id.to_owned(),
            role: "master".to_owned(),
            mode: "standalone".to_owned(),
            replicas: 0,
            uptime: Duration::from_hours(1),
            appendonly: Some("yes".to_owned()),
            appendfsync: Some("always".to_owned()),
            maxmemory_policy: Some("noeviction".to_owned()),
            maxmemory: Some("0".to_owned()),
            clock_offset_ms: 3,
            round_trip: Duration::from_millis(1),
        }
    }

    fn three(change: impl FnOnce(&mut ServerReport)) -> Vec<Finding> {
        let mut reports = ["a", "b", "c"].map(good);
        change(&mut reports[0]);
        let servers: Vec<Examined> =
            reports.into_iter().map(|report| (report.run_id.clone(), Ok(report))).collect();
        advise(&servers, RestartGuard::LongestTtl, TTL)
    }

    #[track_caller]
    fn expect(findings: &[Finding], weight: Weight, word: &str) {
        let found = findings.iter().any(|finding| finding.weight == weight && finding.advice.contains(word));
        assert!(found, "no {weight:?} of {word}: {findings:?}");
        assert_eq!(findings.iter().map(|finding| finding.weight).max(), Some(weight), "{findings:?}");
    }

    #[test]
    fn about_three_good_servers_there_is_nothing_to_say() {
        assert_eq!(three(|_| ()), []);
    }

    #[test]
    fn what_costs_exclusion_is_found() {
        expect(&three(|report| report.role = "slave".to_owned()), Weight::Problem, "master");
        expect(&three(|report| report.mode = "sentinel".to_owned()), Weight::Problem, "sentinel");
        expect(&three(|report| report.version = "2.6.1".to_owned()), Weight::Problem, "older");
        expect(&three(|report| report.version = "?".to_owned()), Weight::Problem, "older");
        expect(&three(|report| report.replicas = 1), Weight::Warning, "failover");
        expect(
            &three(|report| report.appendfsync = Some("everysec".to_owned())),
            Weight::Note,
            "no vote for 61 s",
        );
        expect(&three(|report| report.appendonly = None), Weight::Note, "cannot be seen");
        expect(&three(|report| report.clock_offset_ms = -400), Weight::Warning, "400 ms behind");
        let young = |report: &mut ServerReport| {
            report.appendonly = Some("no".to_owned());
            report.uptime = Duration::from_secs(20);
        };
        expect(&three(young), Weight::Warning, "another 41 s");
        let evicting = |report: &mut ServerReport| {
            report.maxmemory_policy = Some("allkeys-lru".to_owned());
            report.maxmemory = Some("1000".to_owned());
        };
        expect(&three(evicting), Weight::Problem, "noeviction");
        expect(
            &three(|report| report.maxmemory_policy = Some("allkeys-lru".to_owned())),
            Weight::Note,
            "noeviction",
        );
    }

    #[test]
    fn one_server_under_two_names_is_found() {
        expect(&three(|report| report.run_id = "b".to_owned()), Weight::Problem, "one server");
    }

    #[test]
    fn without_the_guard_a_server_that_forgets_is_a_warning() {
        let mut report = good("a");
        report.appendonly = Some("no".to_owned());
        let findings = advise(&[("a".to_owned(), Ok(report))], RestartGuard::Off, TTL);
        expect(&findings, Weight::Warning, "the restart guard is off");
    }

    #[test]
    fn too_few_that_answer_are_a_problem_and_each_is_named() {
        let dead = || Err("nobody listens there".to_owned());
        let servers = [("a".to_owned(), Ok(good("a"))), ("b".to_owned(), dead()), ("c".to_owned(), dead())];
        let findings = advise(&servers, RestartGuard::LongestTtl, TTL);
        expect(&findings, Weight::Problem, "no majority");
        assert_eq!(findings.iter().filter(|finding| finding.advice.contains("nobody listens")).count(), 2);
    }

    #[test]
    fn where_there_are_no_servers_there_is_nothing_to_say() {
        assert_eq!(advise(&[], RestartGuard::LongestTtl, TTL), []);
    }

    #[test]
    fn an_even_number_of_servers_is_told() {
        let servers = [("a".to_owned(), Ok(good("a"))), ("b".to_owned(), Ok(good("b")))];
        expect(&advise(&servers, RestartGuard::LongestTtl, TTL), Weight::Note, "one fewer");
    }
}
