//! `hornpipe scale`: another number of workers.

use std::str::FromStr;

use clap::Args;
use hornpipe_proto::control::{ControlRequest, ControlResponse, Scale, ServiceRequest};

use super::exit_code::OperatorExit;
use super::operator::{self, Service, Target};
use super::output;

/// Set or change the number of workers, of the default service unless --service names another
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 done · 1 no such service · 2 usage · 5 no broker answers")]
pub(super) struct ScaleArguments {
    #[command(flatten)]
    target: Target,
    /// So many workers; with a sign, so many more or fewer
    #[arg(value_name = "N|+N|-N", allow_hyphen_values = true)]
    size: Size,
    #[command(flatten)]
    service: Service,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size(Scale);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write a number of workers, or a change like +2 or -1";
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong);
        }
        let size = if digits == text { text.parse().map(Scale::To) } else { text.parse().map(Scale::By) };
        size.map(Self).map_err(|_beyond| wrong)
    }
}

pub(super) fn run(arguments: &ScaleArguments) -> OperatorExit {
    let Size(scale) = arguments.size;
    let request = arguments.service.request(ControlRequest::Scale(scale), ServiceRequest::Scale(scale));
    arguments.target.ask(&request, |response, _| match response {
        ControlResponse::Scaled { from, to } => report(scale, from, to),
        _ => operator::misunderstood(),
    })
}

fn report(scale: Scale, from: u32, to: u32) -> OperatorExit {
    let wanted = match scale {
        Scale::To(size) => i64::from(size),
        Scale::By(change) => i64::from(from) + i64::from(change),
    };
    if wanted != i64::from(to) {
        output::complain(format_args!("{wanted} is outside the limits of this pool (--min and --max)"));
    }
    match output::print(format!("workers: {from} -> {to}\n").as_bytes()) {
        Ok(()) => OperatorExit::Done,
        Err(error) => {
            output::complain(format_args!("cannot write: {error}"));
            OperatorExit::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_makes_it_a_change() {
        assert_eq!("4".parse(), Ok(Size(Scale::To(4))));
        assert_eq!("+2".parse(), Ok(Size(Scale::By(2))));
        assert_eq!("-1".parse(), Ok(Size(Scale::By(-1))));
        for text in ["", "+", "-", "four", "1.5", "--1", "99999999999"] {
            assert!(text.parse::<Size>().is_err(), "{text:?}");
        }
    }
}
