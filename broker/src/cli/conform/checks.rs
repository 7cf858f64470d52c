//! What a worker is tried for, in order. Each check is a line of the table below and a small
//! function that makes the worker do something and looks at what it says.

use std::time::Duration;

use hornpipe_proto::Token;
use hornpipe_proto::worker::{Control, JobMeta, ReplyStatus};
use nix::sys::signal::Signal;
use serde_json::json;

use super::ahead;
use super::bench::{Bench, Failed};
use super::record::Offence;

/// One line of the result.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) needs: Needs,
    pub(super) run: fn(&mut Bench) -> Result<Passed, Failed>,
}

/// What a check builds on. Without it, it is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Needs {
    Nothing,
    /// A worker that has said `waiting`.
    Registered,
    /// One whose replies can be told apart.
    Replies,
}

/// It did not fail.
pub(super) enum Passed {
    Ok(String),
    NotApplicable(String),
}

pub(super) const CHECKS: &[Check] = &[
    Check { name: "register", needs: Needs::Nothing, run: register },
    Check { name: "identity", needs: Needs::Registered, run: identity },
    Check { name: "token", needs: Needs::Registered, run: token },
    Check { name: "processing", needs: Needs::Replies, run: processing },
    Check { name: "waiting", needs: Needs::Replies, run: waiting },
    Check { name: "several frames", needs: Needs::Replies, run: several_frames },
    Check { name: "empty body", needs: Needs::Replies, run: empty_body },
    Check { name: "binary body", needs: Needs::Replies, run: binary_body },
    Check { name: "large body", needs: Needs::Replies, run: large_body },
    Check { name: "unknown keys", needs: Needs::Replies, run: unknown_keys },
    Check { name: "credits", needs: Needs::Replies, run: credits },
    Check { name: "jobs ahead", needs: Needs::Replies, run: ahead::in_order },
    Check { name: "taken back", needs: Needs::Replies, run: ahead::taken_back },
    Check { name: "cancel", needs: Needs::Replies, run: cancel },
    Check { name: "parts", needs: Needs::Replies, run: parts },
    Check { name: "idle", needs: Needs::Registered, run: idle },
    Check { name: "broker gone", needs: Needs::Registered, run: gone },
    Check { name: "broker back", needs: Needs::Replies, run: back },
    Check { name: "stop", needs: Needs::Registered, run: stop },
    Check { name: "TERM", needs: Needs::Registered, run: term },
    Check { name: "one reply", needs: Needs::Replies, run: one_reply },
    Check { name: "messages", needs: Needs::Nothing, run: messages },
];

/// To want more than this of one processor, with nothing to do, is a busy loop.
const SPINNING: f64 = 0.5;

/// How often it is looked at before it is said to spin.
const LOOKS: u32 = 4;

/// What a large body has.
pub(super) const LARGE: usize = 1024 * 1024;

#[expect(clippy::unnecessary_wraps, reason = "each check ends with one of these")]
pub(super) fn ok(why: impl Into<String>) -> Result<Passed, Failed> {
    Ok(Passed::Ok(why.into()))
}

#[expect(clippy::unnecessary_wraps, reason = "each check ends with one of these")]
pub(super) fn not_applicable(why: impl Into<String>) -> Result<Passed, Failed> {
    Ok(Passed::NotApplicable(why.into()))
}

const PLAIN: &str = "a plain worker is sent no details and no orders";

fn register(bench: &mut Bench) -> Result<Passed, Failed> {
    let registered = bench.until("it did not say `waiting`", Bench::would_take_a_job);
    if let (Err(why), Some(offence)) = (&registered, bench.record.offences().last()) {
        return Err(format!("{why}, and {offence}"));
    }
    registered?;
    let Some(announcement) = &bench.record.announcement else {
        return ok("a plain worker: it gives no details of itself");
    };
    let library = announcement.sdk.as_deref().unwrap_or("an unnamed library");
    ok(format!("with details: {library}, {} at once", announcement.credits))
}

fn identity(bench: &mut Bench) -> Result<Passed, Failed> {
    if bench.record.has_chosen_identity {
        return Err(
            "it sets a routing id: two workers with the same one are a hole that swallows messages".into()
        );
    }
    ok("its routing id is ZeroMQ's own")
}

fn token(bench: &mut Bench) -> Result<Passed, Failed> {
    let body = bench.terms.body.clone();
    let asked = bench.ask(&[&body]);
    let stray = bench.record.offences().iter().find(|one| matches!(one, Offence::WrongToken { .. }));
    if let Some(stray) = stray {
        return Err(stray.to_string());
    }
    let reply = asked?;
    match (reply.meta.status, reply.meta.message) {
        (ReplyStatus::Ok, _) => ok("a reply came under the job's token"),
        (_, message) => {
            let message = message.unwrap_or_default();
            let message = message.lines().next().unwrap_or_default();
            ok(format!(
                "a reply came under the job's token, a failure ({message}): --body BODY is one it can do"
            ))
        }
    }
}

fn processing(bench: &mut Bench) -> Result<Passed, Failed> {
    let body = bench.terms.body.clone();
    bench.ask(&[&body])?;
    if bench.record.has_begun {
        return ok("it says so when it takes a job");
    }
    Err("it did not say `processing`: the broker cannot tell a job that was read from one that was not"
        .into())
}

fn waiting(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    if bench.record.has_details() {
        return not_applicable("with details, the reply says it");
    }
    // A job of its own: the worker of the check before may be gone with its word unsaid.
    let body = bench.terms.body.clone();
    bench.ask(&[&body])?;
    bench.until("it did not say `waiting` after its reply", Bench::would_take_a_job)?;
    ok("it says so after its reply")
}

fn several_frames(bench: &mut Bench) -> Result<Passed, Failed> {
    let body = bench.terms.body.clone();
    bench.ask(&[&body, b"", b"third"]).map(|reply| answered(reply.meta.status))
}

fn empty_body(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.ask(&[b""]).map(|reply| answered(reply.meta.status))
}

fn binary_body(bench: &mut Bench) -> Result<Passed, Failed> {
    let body: Vec<u8> = (0..=u8::MAX).chain(*b"\r\n\n\0").collect();
    bench.ask(&[&body]).map(|reply| answered(reply.meta.status))
}

fn large_body(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.ask(&[&vec![b'x'; LARGE]]).map(|reply| answered(reply.meta.status))
}

fn answered(status: ReplyStatus) -> Passed {
    match status {
        ReplyStatus::Ok => Passed::Ok("answered".into()),
        ReplyStatus::Error | ReplyStatus::Retry => Passed::Ok("answered, with a failure".into()),
    }
}

fn unknown_keys(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    if !bench.record.has_details() {
        return not_applicable(PLAIN);
    }
    let meta = json!({
        "id": "conform", "attempt": 1, "timeout_ms": 60_000, "key": "k", "trace": "00-0-0-00",
        "not-yet-known": { "list": [1, "two", null] }, "flag": true,
    });
    let meta = rmp_serde::to_vec(&meta).map_err(|error| error.to_string())?;
    let order = json!({ "control": "not-yet-known", "token": "t" });
    bench.order_encoded(&rmp_serde::to_vec(&order).map_err(|error| error.to_string())?)?;
    let body = bench.terms.body.clone();
    let token = bench.give_encoded(&meta, None, &[&body])?;
    let reply = bench.reply_to(token)?;
    if reply.meta.status == ReplyStatus::Retry {
        return Err("it sent the job back: ignore keys that you do not know".into());
    }
    ok("an order and keys of a later version do no harm")
}

fn credits(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    let count = bench.record.credits();
    let body = bench.terms.body.clone();
    let mut tokens = Vec::new();
    for _ in 0..count.min(256) {
        tokens.push(bench.give(&JobMeta::default(), &[&body])?);
    }
    for token in tokens {
        bench.reply_to(token)?;
    }
    let is_about_credits =
        |one: &&Offence| matches!(one, Offence::OverCredits { .. } | Offence::Credits { .. });
    match bench.record.offences().iter().find(is_about_credits) {
        Some(offence) => Err(offence.to_string()),
        None if count == 1 => ok("one at a time, and none more asked for"),
        None => ok(format!("{count} at once are answered, and none more asked for")),
    }
}

fn cancel(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    if !bench.record.has_details() {
        return not_applicable(PLAIN);
    }
    let nobodys = Token::new(1, 0);
    bench.order(&Control::Cancel { token: nobodys.as_str().to_owned() })?;
    let slow = bench.terms.slow.clone();
    let body = slow.clone().unwrap_or_else(|| bench.terms.body.clone());
    let token = bench.give(&JobMeta::default(), &[&body])?;
    if slow.is_some() {
        bench.until("it did not say `processing`", |bench| bench.record.has_begun)?;
    }
    bench.order(&Control::Cancel { token: token.as_str().to_owned() })?;
    bench.reply_to(token).map_err(|why| format!("a cancelled job must be answered too, and {why}"))?;
    let body = bench.terms.body.clone();
    bench.ask(&[&body]).map_err(|why| format!("after a cancelled job {why}"))?;
    match slow {
        Some(_) => ok("it breaks off, replies, and takes the next"),
        None => ok("an order that comes late does no harm; --slow BODY tries one that does not"),
    }
}

fn parts(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    if !bench.record.has_details() {
        return not_applicable(PLAIN);
    }
    let body = bench.terms.parts.clone().unwrap_or_else(|| bench.terms.body.clone());
    let mut allowed = 8;
    let token = bench.give(&JobMeta { window: Some(allowed), ..JobMeta::default() }, &[&body])?;
    loop {
        bench.until("it did not reply", |bench| {
            bench.record.reply_to(token).is_some() || allowed <= bench.record.parts_of(token)
        })?;
        if let Some(reply) = bench.record.reply_to(token) {
            let too_many =
                bench.record.offences().iter().find(|one| matches!(one, Offence::PartTooMany { .. }));
            return match (too_many, reply.parts) {
                (Some(offence), _) => Err(offence.to_string()),
                (None, 0) => {
                    not_applicable("its reply came whole; --parts BODY names a request that does not")
                }
                (None, count) => ok(format!("{count} parts and an end, never more than it may send ahead")),
            };
        }
        // A part too many would come now.
        bench.within(Duration::from_millis(50), |bench| allowed < bench.record.parts_of(token));
        let parts = 4;
        allowed += parts;
        bench.record.allow(token, parts);
        bench.order(&Control::More { token: token.as_str().to_owned(), parts })?;
    }
}

fn idle(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    at_rest(bench, "with nothing to do")
}

fn at_rest(bench: &mut Bench, when: &str) -> Result<Passed, Failed> {
    judge_rest(when, || bench.load_at_rest())
}

/// What it wants of a processor when nobody wants anything of it.
pub(super) fn judge_rest(when: &str, mut load: impl FnMut() -> f64) -> Result<Passed, Failed> {
    // On a busy machine a few wakes can look like much. A busy loop is one at every look.
    match (0..LOOKS).map(|_| load()).find(|load| *load <= SPINNING) {
        Some(load) => ok(format!("it wants {} % of a processor {when}", (load * 100.0).round())),
        None => Err(format!("it wants all of a processor {when}: wait in poll, not in a loop")),
    }
}

fn gone(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    bench.close_router();
    let rest = at_rest(bench, "while there is no broker")?;
    match (bench.ending(), rest) {
        (Some(ending), _) => ok(format!("it gave up, and ended {ending}")),
        (None, Passed::Ok(why) | Passed::NotApplicable(why)) => ok(format!("it keeps trying; {why}")),
    }
}

fn back(bench: &mut Bench) -> Result<Passed, Failed> {
    if !bench.is_alive() {
        return not_applicable("it has ended with its broker, and another one is started");
    }
    if bench.has_router() {
        bench.close_router();
    }
    bench.open_router().map_err(|error| error.to_string())?;
    bench.until("it was not heard again", Bench::would_take_a_job).map_err(|why| {
        format!("{why}: say `waiting` when the connection is new, or each second while idle")
    })?;
    let body = bench.terms.body.clone();
    bench.ask(&[&body]).map_err(|why| format!("it was heard again, and {why}"))?;
    ok("the next router hears of it, and its work goes on")
}

fn stop(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    if !bench.record.has_details() {
        return not_applicable(PLAIN);
    }
    bench.order(&Control::Stop)?;
    bench.within(bench.terms.patience, |bench| !bench.is_alive() && bench.record.is_exiting);
    match (bench.ending(), bench.record.is_exiting) {
        (None, _) => Err("it did not end at the order `stop`".into()),
        (Some(ending), false) => Err(format!("it ended {ending} without a word: say `exiting` first")),
        (Some(ending), true) if ending != "with exit code 0" => {
            Err(format!("it said `exiting` and ended {ending}"))
        }
        (Some(_), true) => ok("it says `exiting` and ends with exit code 0"),
    }
}

fn term(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    bench.signal(Signal::SIGTERM);
    bench.within(bench.terms.patience, |bench| !bench.is_alive());
    match bench.ending() {
        Some(ending) => ok(format!("it ends {ending}")),
        None => Err("it did not end at SIGTERM, and a broker would kill it".into()),
    }
}

fn one_reply(bench: &mut Bench) -> Result<Passed, Failed> {
    match bench.record.offences().iter().filter(|one| **one == Offence::SecondReply).count() {
        0 => ok("no job was answered twice"),
        count => Err(format!("{} ({count} times)", Offence::SecondReply)),
    }
}

fn messages(bench: &mut Bench) -> Result<Passed, Failed> {
    let is_unreadable =
        |one: &&Offence| matches!(one, Offence::Unreadable { .. } | Offence::PartTooMany { .. });
    match bench.record.offences().iter().find(is_unreadable) {
        Some(offence) => Err(offence.to_string()),
        None => ok("all that it said can be read"),
    }
}
