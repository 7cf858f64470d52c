//! Jobs ahead of their time, for workers that announce a word to claim them in.

use hornpipe_proto::Token;
use hornpipe_proto::worker::JobMeta;

use super::bench::{Bench, Failed};
use super::checks::{Passed, not_applicable, ok};
use super::record::Offence;

/// How many jobs it is handed at once.
const JOBS: u32 = 4;

const NONE: &str = "it announces no `claims`, so it is handed one job at a time";

/// Jobs that come together are begun one after another, and each is claimed before.
pub(super) fn in_order(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    let Some(word) = bench.word() else { return not_applicable(NONE) };
    let word = word?;
    let numbers: Vec<u32> = (0..JOBS).map(|_| word.number()).collect();
    let jobs = numbers.iter().map(|number| Ok((*number, give(bench, *number)?)));
    let jobs = jobs.collect::<Result<Vec<_>, Failed>>()?;
    for (place, (number, token)) in jobs.iter().enumerate() {
        let later = || jobs.iter().skip(place + 1);
        bench.until("it did not reply to a job that it was handed ahead", |bench| {
            bench.record.reply_to(*token).is_some()
                || later().any(|(_, token)| bench.record.reply_to(*token).is_some())
        })?;
        // Several may have come since they were last looked for.
        let came = |token: &Token| bench.record.reply_to(*token).map_or(u64::MAX, |reply| reply.before);
        if later().any(|(_, later)| came(later) < came(token)) {
            return Err(
                "it answered a later job before an earlier one: run them in the order they came".into()
            );
        }
        let begun = word_of(bench)?;
        if (begun.wrapping_sub(*number)).cast_signed() < 0 {
            return Err(format!(
                "it replied to job {number} and its word says that {begun} was the last it began: \
                 claim each job by compare-and-swap before you begin it"
            ));
        }
    }
    ok(format!("{JOBS} jobs that came at once are begun in their order, and claimed"))
}

/// One that was taken back while it was on its way is not begun, and the next one is.
pub(super) fn taken_back(bench: &mut Bench) -> Result<Passed, Failed> {
    bench.be_ready()?;
    let Some(word) = bench.word() else { return not_applicable(NONE) };
    let word = word?;
    let (gone, next) = (word.number(), word.number());
    word.withdraw(gone)?;
    let withdrawn = give(bench, gone)?;
    bench.record.take_back(withdrawn);
    let token = give(bench, next)?;
    let replied = bench.reply_to(token);
    match bench.record.offences().iter().find(|one| **one == Offence::TakenBack) {
        Some(offence) => Err(offence.to_string()),
        None => replied
            .map_err(|why| format!("behind a job that was taken back, {why}"))
            .and_then(|_reply| ok("it drops what was taken back without a word, and goes on")),
    }
}

fn give(bench: &mut Bench, number: u32) -> Result<Token, Failed> {
    let body = bench.terms.body.clone();
    bench.give(&JobMeta { claim: Some(number), ..JobMeta::default() }, &[&body])
}

fn word_of(bench: &mut Bench) -> Result<u32, Failed> {
    match bench.word() {
        Some(word) => word?.begun(),
        None => Err("it announces its `claims` no more: say the same in every announcement".into()),
    }
}
