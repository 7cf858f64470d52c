//! What may go wrong in one run. Each seed turns a random part of it on: with
//! everything on at once, nothing would live long enough to meet the rare.

use std::time::Duration;

use hornpipe::core::{AutoscaleRules, Settings, SpareRules};

use super::random::Random;

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $name:ident: $most:literal,)+) => {
        /// How likely each fault is, in percent of the occasions it has.
        #[derive(Debug, Clone, Default)]
        pub(super) struct Faults {
            $($(#[doc = $doc])+ pub(super) $name: u32,)+
        }

        impl Faults {
            pub(super) fn draw(random: &mut Random) -> Self {
                let kinds = random.pick(0, &[10, 30, 60]);
                let mut draw = |most: u32| if random.percent(kinds) { random.between(1, most) } else { 0 };
                let mut faults = Self { $($name: draw($most),)+ };
                if random.percent(40) {
                    // Each of these is nothing without the others.
                    faults.parts = random.between(20, 100);
                    faults.readers = random.between(20, 100);
                    faults.slow_reader = random.pick(faults.slow_reader, &[30, 90]);
                }
                if random.percent(40) {
                    // Nor are these: only short jobs, and many at once, are handed over early, and
                    // only to workers that claim them while no other is idle.
                    faults.claims = random.pick(100, &[90, 60]);
                    faults.quick = random.between(30, 98);
                    faults.burst = random.pick(90, &[70]);
                    faults.exclusive = random.pick(0, &[0, faults.exclusive]);
                    faults.affinity = random.pick(0, &[0, faults.affinity]);
                }
                faults
            }
        }
    };
}

faults! {
    /// A process that dies is killed for lack of memory.
    out_of_memory: 50,
    /// A process cannot be forked.
    not_started: 40,
    /// A process ends before it is ready.
    boot_death: 60,
    /// Its program cannot be executed.
    not_executed: 10,
    /// It is never ready.
    never_ready: 40,
    /// It takes long to be ready.
    slow_boot: 50,
    /// It ends while it has a request.
    death: 30,
    /// A request ends every worker that has it.
    poison: 30,
    /// An operator has poison tried once more, or drops it.
    antidote: 60,
    /// It ends right after its reply, which is still in the pipe.
    death_after_reply: 30,
    /// It never replies.
    hang: 20,
    /// It ignores TERM, cancel and stop.
    deaf: 40,
    /// It replies twice.
    double: 30,
    /// It replies under a token it was never given.
    forge: 30,
    /// It sends what no worker sends.
    malformed: 10,
    /// It says `waiting` again and again while it is idle.
    repeat: 60,
    /// It forgets a request and says `waiting`.
    lose: 20,
    /// It says `exiting` with a request in hand.
    exit_in_hand: 20,
    /// It says `exiting` while idle: a request may cross it.
    exit_idle: 20,
    /// It says `exiting` and then does not end.
    silence: 50,
    /// It closes its connection, and perhaps opens another.
    disconnect: 20,
    /// It opens another connection before it closes the first.
    reopen: 50,
    /// It serves something else.
    elsewhere: 10,
    /// It changes how many requests it takes at once.
    moody: 30,
    /// The handler fails.
    error: 40,
    /// The handler asks for another worker.
    retry: 40,
    /// A probe ends in an error, in silence, in rubbish or in death.
    bad_probe: 40,
    /// Somebody stops a process by a signal.
    halt: 30,
    /// A job cannot be handed over.
    undelivered: 10,
    /// Messages are slow, in either direction.
    slow_pipe: 50,
    /// The end of a connection is seen late.
    slow_close: 50,
    /// The parent's notices are slow.
    slow_notice: 50,
    /// The clock's ticks are late.
    late_tick: 50,
    /// A worker claims its jobs, one at a time.
    claims: 30,
    /// A job is done in a moment.
    quick: 50,
    /// A worker replies in parts.
    parts: 60,
    /// And never comes to an end.
    endless: 20,
    /// It sends more of them than it may.
    too_many_parts: 10,
    /// It sends some, and may send none.
    unasked_part: 5,
    /// It leaves after some, and says that it has never had the request.
    denial: 50,
    /// It sends one behind the end.
    late_part: 20,
    /// Clients read replies in parts.
    readers: 80,
    /// A client has no room for a part at once.
    slow_reader: 60,
    /// It is gone, or so slow that it gets none any more.
    no_reader: 10,
    /// Clients leave.
    leave: 30,
    /// A client takes back what it has asked.
    cancel: 40,
    /// A client asks for many things at once.
    burst: 40,
    /// Nobody asks for anything for a while.
    hush: 40,
    /// Clients want some requests before or after others.
    classes: 60,
    /// Requests must not run beside each other.
    exclusive: 60,
    /// Requests want the worker that had the last one.
    affinity: 60,
    /// Clients send what is refused.
    improper: 20,
    /// An operator scales.
    scale: 60,
    /// An operator changes the settings.
    configure: 50,
    /// An operator reloads.
    reload: 60,
    /// An operator wants another process in some slot.
    recycle: 60,
    /// An operator pauses the pool.
    pause: 40,
    /// A job leaves memory behind.
    growth: 60,
    /// A process is not measured when it should be.
    unmeasured: 50,
    /// The router ends and another one starts.
    restart: 30,
    /// The router hands over to another one.
    hand_over: 40,
    /// The broker is stopped in the middle of everything.
    stop: 30,
}

impl Faults {
    /// How long a job takes its worker.
    pub(super) fn job_time(&self, random: &mut Random, calm: bool) -> Duration {
        if random.percent(self.quick) {
            random.millis(0, 1)
        } else if random.percent(20) && !calm {
            random.millis(0, 1200)
        } else {
            random.millis(0, 40)
        }
    }

    /// Nothing but what replaces workers, whose newcomers may fail: none that serves may be missed.
    pub(super) fn only_replacements(random: &mut Random) -> Self {
        let reload = random.pick(0, &[80]);
        let recycle = random.pick(0, &[60]);
        let pause = random.pick(0, &[20]);
        let (claims, quick, burst) = random.pick((0, 0, 0), &[(80, 70, 80)]);
        let mut faults = Self {
            reload,
            recycle,
            pause,
            claims,
            quick,
            burst,
            growth: 50,
            classes: 40,
            exclusive: 20,
            affinity: 20,
            parts: 20,
            readers: 100,
            slow_reader: 30,
            ..Self::default()
        };
        if random.percent(50) {
            faults.boot_death = 30;
            faults.never_ready = 20;
            faults.not_started = 20;
            faults.bad_probe = 30;
        }
        faults
    }
}

/// Other settings that HUP may bring: what cannot change while the broker runs stays.
pub(super) fn draw_change(random: &mut Random, settings: &Settings) -> Settings {
    let mut drawn = draw_settings(random);
    if random.percent(50) {
        let Settings { workers, min, max, .. } = drawn;
        drawn = Settings { workers, min, max, ..settings.clone() };
    }
    if settings.fresh {
        (drawn.autoscale, drawn.spares) = (None, None);
    }
    Settings {
        body_limit: settings.body_limit,
        affinity_wait: settings.affinity_wait,
        quarantine_limit: settings.quarantine_limit,
        quarantine_bytes_limit: settings.quarantine_bytes_limit,
        fresh: settings.fresh,
        tell_ends: settings.tell_ends,
        forks_after_early_deaths: settings.forks_after_early_deaths,
        ..drawn
    }
}

pub(super) fn draw_settings(random: &mut Random) -> Settings {
    let workers = random.pick(1, &[0, 2, 3, 5, 8]);
    let min = random.pick(workers.min(1), &[0, workers]);
    Settings {
        service: hornpipe::core::DEFAULT_SERVICE.into(),
        first_slot: hornpipe::core::Slot(0),
        workers,
        min,
        max: random.pick(workers.max(4), &[workers.max(1), 12]),
        attempts: random.between(1, 4),
        timeout: random.pick(None, &[Some(Duration::from_millis(150)), Some(Duration::from_secs(1))]),
        queue_timeout: random
            .pick(None, &[None, Some(Duration::from_millis(120)), Some(Duration::from_secs(2))]),
        part_timeout: random
            .pick(None, &[None, Some(Duration::from_millis(60)), Some(Duration::from_millis(500))]),
        prefetch: random.pick(
            None,
            &[
                Some(Duration::from_millis(1)),
                Some(Duration::from_millis(20)),
                Some(Duration::from_millis(200)),
            ],
        ),
        affinity_wait: random.pick(Duration::from_millis(100), &[Duration::ZERO, Duration::from_secs(1)]),
        boot_timeout: random.millis(300, 4000),
        cancel_grace: random.pick(Duration::ZERO, &[Duration::from_millis(50), Duration::from_secs(1)]),
        term_grace: random.pick(Duration::ZERO, &[Duration::from_millis(100), Duration::from_secs(5)]),
        backlog_limit: random.pick(1, &[3, 20, 10_000]),
        held_bytes_limit: random.pick(4096, &[1 << 20, 1 << 28]),
        client_backlog_limit: random.pick(None, &[None, None, Some(2)]),
        client_bytes_limit: random.pick(None, &[None, None, Some(1500)]),
        key_window: Duration::from_mins(2),
        keys_limit: 10_000,
        key_bytes_limit: 1 << 26,
        cancel_on_disconnect: random.percent(30),
        body_limit: 2048,
        drain: random.pick(Duration::ZERO, &[Duration::from_millis(300), Duration::from_secs(5)]),
        max_requests: random.pick(None, &[None, Some(1), Some(7), Some(30)]),
        quarantine_limit: random.pick(100, &[1, 3]),
        quarantine_bytes_limit: random.pick(1 << 24, &[600, 2000]),
        max_age: random
            .pick(None, &[None, None, Some(Duration::from_secs(2)), Some(Duration::from_secs(20))]),
        idle_timeout: random
            .pick(None, &[None, None, Some(Duration::from_millis(500)), Some(Duration::from_secs(5))]),
        max_memory: random.pick(None, &[None, Some(200)]),
        max_memory_hard: random.pick(None, &[None, Some(400)]),
        fresh: random.percent(12),
        surge: random.pick(1, &[1, 2, 3, 20]),
        probe_timeout: if random.percent(50) { Some(random.millis(150, 2000)) } else { None },
        autoscale: random.percent(50).then(|| AutoscaleRules {
            up_wait: random.pick(Duration::from_millis(50), &[Duration::from_millis(5)]),
            down_after: random.pick(Duration::from_secs(10), &[Duration::from_millis(300)]),
        }),
        spares: random.percent(25).then(|| {
            let min = random.between(0, 3);
            let max = random.pick(min, &[min + 2, u32::MAX]);
            SpareRules { min, max, check: random.millis(50, 3000) }
        }),
        forks_after_early_deaths: random.pick(32, &[1, 4]),
        tell_ends: random.percent(50),
        lends_workers: true,
    }
}
