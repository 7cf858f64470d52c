//! What the process tells by its exit code, verb by verb.

/// The arguments cannot be meant. The same for every verb.
pub const USAGE: u8 = 2;

/// The file of `--config` cannot be meant: `EX_CONFIG` of sysexits.h.
pub const CONFIG_FILE: u8 = 78;

macro_rules! exit_codes {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $why:literal])+ $variant:ident = $code:expr,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            $($(#[doc = $why])+ $variant = $code,)+
        }

        impl From<$name> for u8 {
            fn from(code: $name) -> u8 {
                code as u8
            }
        }
    };
}

exit_codes! {
    /// How `req` ended.
    ReqExit {
        /// The reply is on standard output.
        Reply = 0,
        /// The handler said that it failed.
        HandlerFailed = 1,
        /// The arguments cannot be meant.
        Usage = USAGE,
        /// It was sent, and nothing came back in time.
        NoAnswer = 3,
        /// The broker ended it with any other status.
        Refused = 4,
        /// No connection came about.
        Unreachable = 5,
    }
}

exit_codes! {
    /// How a verb ended that talks to a running broker.
    OperatorExit {
        /// As was asked.
        Done = 0,
        /// The broker answered, and it is no.
        No = 1,
        /// The arguments cannot be meant.
        Usage = USAGE,
        /// No broker answers.
        Unreachable = 5,
    }
}

exit_codes! {
    /// How `bench` ended.
    BenchExit {
        /// No reply was wrong, lost or doubled.
        Right = 0,
        /// Some were.
        Wrong = 1,
        /// The arguments cannot be meant.
        Usage = USAGE,
        /// No connection came about.
        Unreachable = 5,
    }
}

exit_codes! {
    /// How a verb of `lock` ended. `run` ends as its command does where that has run.
    LockExit {
        /// As was asked.
        Done = 0,
        /// There is a problem with the servers.
        No = 1,
        /// The arguments cannot be meant.
        Usage = USAGE,
        /// Too few servers answer: `EX_UNAVAILABLE` of sysexits.h.
        Unavailable = 69,
        /// Somebody else holds it: `EX_TEMPFAIL`.
        Busy = 75,
        /// The lock was lost while its command ran.
        Lost = 76,
        /// As shells have it: the command is not to be executed.
        NotExecutable = 126,
        /// As shells have it: there is no such command.
        NoCommand = 127,
    }
}

exit_codes! {
    /// How `demo` ended.
    DemoExit {
        /// To its end, and nothing was lost.
        Done = 0,
        /// Something did not go as it should.
        Failed = 1,
        /// The arguments cannot be meant.
        Usage = USAGE,
        /// Somebody ended it: 128 + SIGINT, as shells have it.
        Interrupted = 130,
    }
}

exit_codes! {
    /// How `conform` ended.
    ConformExit {
        /// No check failed.
        Ok = 0,
        /// One did, or none could be tried.
        Failed = 1,
        /// The arguments cannot be meant, or the program cannot be executed.
        Usage = USAGE,
        /// Somebody ended it: 128 + SIGINT, as shells have it.
        Interrupted = 130,
    }
}

exit_codes! {
    /// How a verb ended that writes what it knows by itself.
    WriteExit {
        /// All of it is written.
        Done = 0,
        /// It cannot be written there.
        Unwritable = 1,
        /// The arguments cannot be meant.
        Usage = USAGE,
    }
}
