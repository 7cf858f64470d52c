//! The options of `serve` as written, one layer of them.
//!
//! Each field is an option of the command line, a variable `HORNPIPE_...` of the
//! same name, and the line that `--help` shows. No defaults, no checks across
//! fields: both are in `resolve.rs`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::conditions::{limit, umask};
use super::hooks::hook;
use super::units::{duration, duration_or_seconds, duration_or_zero, size};
use super::{Address, Framing, PlainErrors};
use crate::logging::{Level, LogFormat};
use crate::parent::{Hook, Limit};

/// One layer of options. What it does not mention is `None`, also a switch: a higher layer
/// can turn off what a lower one has turned on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct RawConfig {
    /// Run the program once per request: body on stdin, reply from stdout
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "How the worker talks"
    )]
    pub each: Option<bool>,
    /// Keep the program: one line in, one line out
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "How the worker talks"
    )]
    pub lines: Option<bool>,
    /// How --lines tells messages apart: line; length (4 bytes, big-endian) or netstring, for any body
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        hide_possible_values = true,
        help_heading = "How the worker talks",
        hide_short_help = true
    )]
    pub framing: Option<Framing>,

    /// How many workers at the start; 0 for none of our own
    #[arg(short = 'n', long, alias = "min-servers", value_name = "N", help_heading = "Pool")]
    pub workers: Option<u32>,
    /// TTOU, `scale` and autoscaling stop at so few
    #[arg(long, value_name = "N", help_heading = "Pool", hide_short_help = true)]
    pub min: Option<u32>,
    /// TTIN, `scale` and autoscaling stop at so many
    #[arg(long, alias = "max-servers", value_name = "N", help_heading = "Pool", hide_short_help = true)]
    pub max: Option<u32>,
    /// How long a worker may take to be ready
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pool", hide_short_help = true)]
    pub boot_timeout: Option<Duration>,
    /// Replace a worker after so many requests
    #[arg(long, value_name = "N", help_heading = "Pool", hide_short_help = true)]
    pub max_requests: Option<u64>,
    /// Replace a worker that is so old
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pool", hide_short_help = true)]
    pub max_age: Option<Duration>,
    /// Replace a worker that has been idle for so long
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pool", hide_short_help = true)]
    pub idle_timeout: Option<Duration>,
    /// Replace a worker that holds more private memory, after its request
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Pool", hide_short_help = true)]
    pub max_memory: Option<u64>,
    /// Kill a worker that holds more private memory, whatever it does
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Pool", hide_short_help = true)]
    pub max_memory_hard: Option<u64>,
    /// A new process for every request
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub fresh: Option<bool>,
    /// The program is a mold: load it once, and let it fork the workers
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub mold: Option<bool>,
    /// Load the program in each worker, also one that would be a mold (python3 -m hornpipe)
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub no_mold: Option<bool>,
    /// A dead worker is noticed within this time. The kernel tells at once, so any value is met
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration_or_seconds,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub check_for_dead: Option<Duration>,
    /// How many slots a reload renews at the same time, once its first worker works
    #[arg(long, value_name = "K", help_heading = "Pool", hide_short_help = true)]
    pub surge: Option<u32>,
    /// A request that each new worker of a reload must answer first, or the old ones stay
    #[arg(long, value_name = "BODY", help_heading = "Pool", hide_short_help = true)]
    pub probe: Option<String>,
    /// How long the answer to the probe may take
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pool", hide_short_help = true)]
    pub probe_timeout: Option<Duration>,
    /// Reload when this file or directory changes, for development. May be given more than once
    #[arg(long, value_name = "PATH", help_heading = "Pool", hide_short_help = true)]
    pub reload_on: Option<Vec<PathBuf>>,
    /// Accept no workers but our own, also from this machine
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub no_external: Option<bool>,
    /// Keep the size between --min and --max that it is given
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub no_autoscale: Option<bool>,
    /// The pool grows when a request waits so long and nobody is idle
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pool", hide_short_help = true)]
    pub scale_up_wait: Option<Duration>,
    /// The pool shrinks by the workers that were idle all this time
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Pool", hide_short_help = true)]
    pub scale_down_after: Option<Duration>,
    /// Keep at least so many workers idle, up to --max
    #[arg(long, value_name = "N", help_heading = "Pool", hide_short_help = true)]
    pub min_spare_servers: Option<u32>,
    /// Let idle workers go that are more than these, down to --min
    #[arg(long, value_name = "N", help_heading = "Pool", hide_short_help = true)]
    pub max_spare_servers: Option<u32>,
    /// How often idle workers are counted that may be too many
    #[arg(
        long,
        value_name = "TIME",
        value_parser = duration_or_seconds,
        help_heading = "Pool",
        hide_short_help = true
    )]
    pub check_for_waiting: Option<Duration>,

    /// How long one attempt at a request may take
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests")]
    pub timeout: Option<Duration>,
    /// How long a request may wait for a worker
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests", hide_short_help = true)]
    pub queue_timeout: Option<Duration>,
    /// The longest silence between a part of a reply and the next
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests", hide_short_help = true)]
    pub part_timeout: Option<Duration>,
    /// How long a request waits for the worker of its affinity key while others are idle
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests", hide_short_help = true)]
    pub affinity_wait: Option<Duration>,
    /// How much work a quick worker may be handed before it asks for it, by what its last
    /// requests took; 0 for none
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero, help_heading = "Requests", hide_short_help = true)]
    pub prefetch: Option<Duration>,
    /// How long a worker has after `cancel` until it gets TERM
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests", hide_short_help = true)]
    pub cancel_grace: Option<Duration>,
    /// End a running request whose client has left
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Requests",
        hide_short_help = true
    )]
    pub cancel_on_disconnect: Option<bool>,
    /// How long a worker has after TERM until it gets KILL, and after `stop` until TERM
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests", hide_short_help = true)]
    pub term_grace: Option<Duration>,
    /// How many workers may try a request, if they die; with 1 it never runs twice
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub attempts: Option<u32>,
    /// How many requests may wait; the next one is answered `busy`
    #[arg(long, value_name = "N", help_heading = "Requests", hide_short_help = true)]
    pub queue: Option<usize>,
    /// How many bytes of requests are held, waiting or running
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Requests", hide_short_help = true)]
    pub queue_bytes: Option<u64>,
    /// How many requests of one client may wait; the next one is answered `busy`
    #[arg(long, value_name = "N", help_heading = "Requests", hide_short_help = true)]
    pub client_queue: Option<usize>,
    /// How many bytes of requests of one client are held, waiting or running
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Requests", hide_short_help = true)]
    pub client_queue_bytes: Option<u64>,
    /// How long the reply to a request with a key is kept for others of the key
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests", hide_short_help = true)]
    pub key_window: Option<Duration>,
    /// How many keys are remembered; one more is answered `busy`
    #[arg(long, value_name = "N", help_heading = "Requests", hide_short_help = true)]
    pub keys: Option<usize>,
    /// How many bytes of replies are kept for their keys
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Requests", hide_short_help = true)]
    pub key_bytes: Option<u64>,
    /// The largest body; more is answered `too_large`
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Requests", hide_short_help = true)]
    pub max_body: Option<u64>,
    /// How plain REQ clients hear of errors: text (one frame `ERR ...`) or silent
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        hide_possible_values = true,
        help_heading = "Requests",
        hide_short_help = true
    )]
    pub plain_errors: Option<PlainErrors>,
    /// How long running requests may take to finish at a stop
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Requests")]
    pub drain: Option<Duration>,

    /// Where the log goes; opened again at USR1 and HUP
    #[arg(long, value_name = "PATH", help_heading = "Observe", hide_short_help = true)]
    pub log_file: Option<PathBuf>,
    /// One line for each event: text, or a json object
    #[arg(
        long,
        value_name = "HOW",
        value_enum,
        hide_possible_values = true,
        help_heading = "Observe",
        hide_short_help = true
    )]
    pub log_format: Option<LogFormat>,
    /// How much is told: error, warn, info, debug, trace; or 0 to 4 as in Net::Server
    #[arg(long, value_name = "LEVEL", value_parser = str::parse::<Level>, help_heading = "Observe", hide_short_help = true)]
    pub log_level: Option<Level>,
    /// A line of the log for each request that has ended, at info
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Observe",
        hide_short_help = true
    )]
    pub access_log: Option<bool>,
    /// The control socket, for `status` and its like
    #[arg(long, value_name = "PATH", help_heading = "Observe", hide_short_help = true)]
    pub control: Option<PathBuf>,
    /// Another control socket, which answers questions and takes no orders
    #[arg(long, value_name = "PATH", help_heading = "Observe", hide_short_help = true)]
    pub control_read: Option<PathBuf>,
    /// Whose members may connect to that one, too
    #[arg(long, value_name = "GROUP", help_heading = "Observe", hide_short_help = true)]
    pub control_group: Option<String>,

    /// Answer HTTP here: /metrics, /livez, /readyz, /status. A port, HOST:PORT, *:PORT
    #[arg(long, value_name = "ADDR", help_heading = "Observe", hide_short_help = true)]
    pub http: Option<Address>,

    /// Run this when that happens: worker_start, worker_exit, reload_failed, degraded. Repeatable
    #[arg(long, value_name = "EVENT=COMMAND", value_parser = hook, help_heading = "Observe", hide_short_help = true)]
    pub hook: Option<Vec<Hook>>,

    /// Allow ports that other machines reach, whoever asks there
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = switch,
        help_heading = "Run as"
    )]
    pub insecure: Option<bool>,
    /// Run router and workers as this user (name or number)
    #[arg(long, value_name = "USER", help_heading = "Run as", hide_short_help = true)]
    pub user: Option<String>,
    /// Run router and workers as this group (name or number)
    #[arg(long, value_name = "GROUP", help_heading = "Run as", hide_short_help = true)]
    pub group: Option<String>,
    /// The root directory of router and workers
    #[arg(long, value_name = "DIR", help_heading = "Run as", hide_short_help = true)]
    pub chroot: Option<PathBuf>,
    /// The working directory of router and workers, inside the root directory
    #[arg(long, value_name = "DIR", help_heading = "Run as", hide_short_help = true)]
    pub chdir: Option<PathBuf>,
    /// Limit each worker, as prlimit does: nofile=1024, as=512MiB:1GiB. Repeatable
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = limit, help_heading = "Run as", hide_short_help = true)]
    pub rlimit: Option<Vec<Limit>>,
    /// The niceness of workers: -20, first in line for the processor, to 19
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(i8).range(-20..=19),
        allow_negative_numbers = true,
        help_heading = "Run as",
        hide_short_help = true
    )]
    pub nice: Option<i8>,
    /// The umask of workers, in octal
    #[arg(long, value_name = "OCTAL", value_parser = umask, help_heading = "Run as", hide_short_help = true)]
    pub umask: Option<u32>,
    /// A variable of the environment of workers and their programs. Repeatable
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Run as", hide_short_help = true)]
    pub env: Option<Vec<OsString>>,
    /// Write the process id here once the ports are bound
    #[arg(long, value_name = "PATH", help_heading = "Run as", hide_short_help = true)]
    pub pid_file: Option<PathBuf>,
}

/// What there is to be done field by field, for each of them.
macro_rules! layered {
    ($($option:ident)+) => {
        impl RawConfig {
            /// These values, where `high` says nothing else.
            #[must_use]
            pub fn overridden_by(self, high: Self) -> Self {
                Self { $($option: high.$option.or(self.$option),)+ }
            }

            /// The options that this layer mentions, by their long names.
            pub fn mentioned(&self) -> BTreeSet<String> {
                let mut names = BTreeSet::new();
                $(if self.$option.is_some() {
                    names.insert(stringify!($option).replace('_', "-"));
                })+
                names
            }
        }
    };
}

layered! {
    each lines framing
    workers min max boot_timeout max_requests max_age idle_timeout max_memory max_memory_hard fresh
    mold no_mold
    surge probe probe_timeout reload_on check_for_dead no_external min_spare_servers max_spare_servers
    no_autoscale scale_up_wait scale_down_after check_for_waiting
    timeout queue_timeout part_timeout affinity_wait prefetch cancel_grace cancel_on_disconnect term_grace
    attempts queue queue_bytes client_queue client_queue_bytes key_window keys key_bytes max_body plain_errors drain
    log_file log_format log_level access_log control control_read control_group http hook
    insecure user group chroot chdir rlimit nice umask env pid_file
}

/// A switch: `true` or `false`, in one of the spellings that are in use for it.
fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write 1 or 0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_layer_wins_where_it_says_something() {
        let low =
            RawConfig { workers: Some(2), attempts: Some(5), insecure: Some(true), ..RawConfig::default() };
        let high = RawConfig { workers: Some(4), each: Some(true), ..RawConfig::default() };
        let both = low.overridden_by(high);
        let expected = RawConfig {
            workers: Some(4),
            attempts: Some(5),
            insecure: Some(true),
            each: Some(true),
            ..RawConfig::default()
        };
        assert_eq!(both, expected);
        assert_eq!(both.mentioned(), ["attempts", "each", "insecure", "workers"].map(str::to_owned).into());
    }

    #[test]
    fn a_higher_layer_turns_a_switch_off() {
        let low = RawConfig { fresh: Some(true), ..RawConfig::default() };
        let high = RawConfig { fresh: Some(false), ..RawConfig::default() };
        assert_eq!(low.overridden_by(high).fresh, Some(false));
    }
}
