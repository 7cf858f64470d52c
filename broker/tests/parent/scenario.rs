//! What the tested processes play: a parent with a router that talks over the link and
//! knows no sockets. Each says on stdout what it sees.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use hornpipe::link::{Place, Received, Signal, ToParent, ToRouter, WorkerSignal};
use hornpipe::parent::listeners::{Access, Port, UnixSocket};
use hornpipe::parent::{
    Conditions, Identity, Listeners, Program, Recipe, Reread, RouterProcess, Setup, WorkerProcess, title,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal as Number, kill, killpg};
use nix::unistd::Pid;

/// A worker that says it is there and stays.
const STAYING: &str = "echo up $$; exec sleep 1000";

/// Plays one, in this process, and gives its exit code.
pub(crate) fn play(name: &str, directory: &Path) -> u8 {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    println!("parent {}", std::process::id());
    let with = |program| setup(directory, program);
    match name {
        "endings" => run(with(shell(ENDINGS)), &mut |router| spawn_and_watch(router, 5)),
        "unexecutable" => run(with(Program::Exec { argv: vec!["no-such-program".into()] }), &mut spawn_one),
        "unprepared" => unprepared(with(shell("echo never"))),
        "closures" => {
            let program = Program::Fork(Box::new(|worker| closure(&worker)));
            run(with(program), &mut |router| spawn_and_watch(router, 3))
        }
        "descriptors" => descriptors(with(shell("ls -l /proc/self/fd; echo listed"))),
        "dispositions" => run(with(shell("exec grep Sig /proc/self/status")), &mut spawn_one),
        "told_first" => run(with(shell("exec sleep 1000")), &mut told_first),
        "ladder" => run(with(shell(STUBBORN)), &mut ladder),
        "leftovers" => run(with(shell("sleep 1000 & echo grandchild $!; exit 0")), &mut spawn_one),
        "stranger" => run(with(shell(STRANGER)), &mut spawn_one),
        "staying" => run(with(shell(STAYING)), &mut spawn_one),
        "nobody" => nobody(with(shell("id -u; id -g; id -G; umask; nice; pwd; echo up $$; exec sleep 1000"))),
        "restart" => run(with(shell(STAYING)), &mut restart),
        "deaths" => run(with(Program::None), &mut |_router| 9),
        "signals" => run(with(Program::None), &mut Router::watch),
        "no_program" => run(with(Program::None), &mut spawn_one),
        "used_twice" => run(with(shell(STAYING)), &mut |router| {
            router.spawn_slots(1);
            spawn_one(router)
        }),
        "stop_bounded" => {
            let setup = Setup { drain: Duration::from_mins(1), ..with(shell(STAYING)) };
            run(setup, &mut stop_bounded)
        }
        "finished" => run(with(shell(STAYING)), &mut finished),
        "dies_stopping" => run(with(shell(STAYING)), &mut dies_stopping),
        "flood" => flood(with(shell("exec yes a line that never ends to come"))),
        "threads" => threads(with(Program::None)),
        "titles" => titles(with(Program::Fork(Box::new(|worker| titled_worker(&worker))))),
        unknown => panic!("there is no scenario {unknown}"),
    }
}

const ENDINGS: &str = r#"
    case $HORNPIPE_SLOT in
        0) exit 3 ;;
        1) kill -9 $$ ;;
        2) echo one; echo two >&2; printf 'thr\033ee' ;;
        3) i=0; while [ $i -lt 30 ]; do i=$((i + 1)); echo "line $i"; done; exit 1 ;;
        4) echo "$HORNPIPE_BACKEND $HORNPIPE_SLOT $HORNPIPE_INCARNATION $HORNPIPE_GENERATION $CUSTOM" ;;
    esac
"#;

const STUBBORN: &str = r#"
    trap 'echo no' TERM
    sh -c 'echo "grandchild $$"; exec sleep 1000' &
    while :; do wait; done
"#;

const STRANGER: &str = r#"
    (setsid sh -c 'echo "stranger $$ of $PPID"; read line < "$FIFO"' &)
    exec sleep 1000
"#;

fn shell(script: &str) -> Program {
    Program::Exec { argv: ["sh", "-c", script].map(OsString::from).to_vec() }
}

fn setup(directory: &Path, program: Program) -> Setup {
    let unix = |name| UnixSocket::bind(&directory.join("sockets").join(name), Access::default()).unwrap();
    let listeners = Listeners {
        frontend: Some(Port::bind("127.0.0.1", 0).unwrap()),
        backend: Some(Port::bind("127.0.0.1", 0).unwrap()),
        crew: unix("crew"),
        control: unix("control"),
        control_read: None,
        http: None,
    };
    println!("frontend {}", listeners.frontend.as_ref().unwrap().address);
    let environment = vec![
        ("PATH".into(), std::env::var_os("PATH").unwrap_or_default()),
        ("CUSTOM".into(), "kept".into()),
        ("HORNPIPE_SLOT".into(), "nonsense".into()),
        ("FIFO".into(), directory.join("fifo").into()),
    ];
    let recipe = Recipe {
        molded: false,
        service: "default".into(),
        program: Rc::new(RefCell::new(program)),
        conditions: Conditions::default(),
        environment,
    };
    Setup {
        listeners,
        recipes: vec![recipe],
        identity: Identity::default(),
        hooks: Vec::new(),
        worker_backend: "ipc://crew".to_owned(),
        drain: Duration::ZERO,
        output: Box::new(|place, _pid, line| println!("line {}.{} {line}", place.slot, place.incarnation)),
        before_fork: Box::new(|_worker| {}),
        on_worker_exit: Box::new(|_worker, _pid, _status| {}),
        on_reopen: Box::new(|| println!("reopened")),
        on_saved: Box::new(|_saved| {}),
        on_ready: Box::new(|| println!("pool is ready")),
        http: Box::new(|_process| Ok(())),
        on_hup: Box::new(|| Reread::Same),
        config_read: None,
        settings_text: None,
        successor: None,
        supervision: None,
        pid_file: None,
        inherited: None,
    }
}

fn run(setup: Setup, body: &mut dyn FnMut(&mut Router) -> u8) -> u8 {
    let outcome = hornpipe::parent::run(setup, &mut |process| {
        println!("router {} life {}", std::process::id(), process.life);
        let groups = process.workers.iter().map(|worker| Pid::from_raw(worker.pid)).collect();
        body(&mut Router { process, groups })
    });
    match outcome {
        Ok(code) => {
            println!("code {code}");
            code
        }
        Err(error) => {
            println!("error {error}");
            1
        }
    }
}

struct Router {
    process: RouterProcess,
    groups: Vec<Pid>,
}

impl Router {
    fn order(&self, order: &ToParent) {
        while self.process.link.send(order) == Err(nix::errno::Errno::EAGAIN) {
            poll(&mut [PollFd::new(self.process.link.as_fd(), PollFlags::POLLOUT)], PollTimeout::NONE)
                .unwrap();
        }
    }

    fn spawn(&self, place: Place) {
        self.order(&ToParent::Spawn { place, generation: 7, recipe: 0 });
    }

    fn spawn_slots(&self, count: u32) {
        for slot in 0..count {
            self.spawn(Place { slot, incarnation: 1 });
        }
    }

    fn signal(&self, slot: u32, signal: WorkerSignal) {
        self.order(&ToParent::Signal { place: Place { slot, incarnation: 1 }, signal });
    }

    /// Waits for the next message, and says which it was. None when the parent is gone.
    fn next(&mut self) -> Option<ToRouter> {
        loop {
            match self.process.link.receive().unwrap() {
                Received::Message(message) => {
                    println!("told {message:?}");
                    if let ToRouter::Started { pid, .. } = message {
                        self.groups.push(Pid::from_raw(pid));
                    }
                    return Some(message);
                }
                Received::Closed => {
                    println!("lifeline ended");
                    for group in &self.groups {
                        killpg(*group, Number::SIGKILL).ok();
                    }
                    return None;
                }
                Received::Empty => {
                    poll(&mut [PollFd::new(self.process.link.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)
                        .unwrap();
                }
            }
        }
    }

    fn watch(&mut self) -> u8 {
        while self.next().is_some() {}
        0
    }
}

fn spawn_one(router: &mut Router) -> u8 {
    router.spawn_slots(1);
    router.watch()
}

fn spawn_and_watch(router: &mut Router, count: u32) -> u8 {
    router.spawn_slots(count);
    router.watch()
}

/// The router's identity is the workers', so this pool cannot have one.
fn unprepared(mut setup: Setup) -> u8 {
    setup.identity.directory = Some("/no/such/directory".into());
    run(setup, &mut spawn_one)
}

/// The parent has a descriptor that is not closed on exec.
fn descriptors(setup: Setup) -> u8 {
    use nix::fcntl::{OFlag, open};
    let leak = open("/dev/zero", OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).unwrap();
    let code = run(setup, &mut |router| {
        println!("router has {}", open_descriptors());
        spawn_one(router)
    });
    drop(leak);
    code
}

fn ladder(router: &mut Router) -> u8 {
    router.spawn_slots(1);
    while let Some(message) = router.next() {
        match message {
            ToRouter::Signal(Signal::Ttou) => router.signal(0, WorkerSignal::Term),
            ToRouter::Signal(Signal::Hup) => router.signal(0, WorkerSignal::Kill),
            _other => {}
        }
    }
    0
}

fn nobody(mut setup: Setup) -> u8 {
    setup.identity = Identity {
        user: Some(65534),
        group: Some(65533),
        supplementary_groups: Some(vec![65532]),
        chroot: None,
        directory: Some("/usr".into()),
    };
    setup.recipes[0].conditions =
        Conditions { umask: Some(0o027), niceness: Some(-3), ..Conditions::default() };
    run(setup, &mut spawn_one)
}

fn stop_bounded(router: &mut Router) -> u8 {
    router.spawn_slots(1);
    while let Some(message) = router.next() {
        if message == ToRouter::Signal(Signal::Term) {
            router.order(&ToParent::Stopping { within_ms: Some(100) });
        }
    }
    0
}

fn finished(router: &mut Router) -> u8 {
    router.spawn_slots(1);
    router.order(&ToParent::Ready);
    router.order(&ToParent::Ready);
    while router.next().is_some_and(|message| message != ToRouter::Signal(Signal::Term)) {}
    router.order(&ToParent::Finished { exit_code: 3 });
    0
}

fn dies_stopping(router: &mut Router) -> u8 {
    router.spawn_slots(1);
    while router.next().is_some_and(|message| message != ToRouter::Signal(Signal::Int)) {}
    8
}

fn flood(mut setup: Setup) -> u8 {
    let mut has_said_so = false;
    setup.output = Box::new(move |_place, _pid, _line| {
        if !std::mem::replace(&mut has_said_so, true) {
            println!("flooded");
        }
    });
    run(setup, &mut |router| spawn_and_watch(router, 3))
}

fn threads(setup: Setup) -> u8 {
    let (sender, has_begun) = std::sync::mpsc::channel();
    let busybody = move || {
        sender.send(()).unwrap();
        std::thread::park();
    };
    std::thread::Builder::new().name("busybody".to_owned()).spawn(busybody).unwrap();
    // A thread gives itself its name.
    has_begun.recv().unwrap();
    run(setup, &mut Router::watch)
}

fn titles(setup: Setup) -> u8 {
    title::set("hornpipe: parent 6660 6661, and more than the command line had room for");
    title::set("hornpipe: parent 6660 6661");
    println!("path {}", std::env::var("PATH").unwrap_or_default());
    run(setup, &mut |router| {
        title::set("hornpipe: router");
        println!("titled");
        spawn_one(router)
    })
}

fn titled_worker(worker: &WorkerProcess) -> u8 {
    title::set(&format!("hornpipe: worker {} [waiting]", worker.place.slot));
    println!("up {}", std::process::id());
    std::thread::park();
    0
}

/// Leaves the link full, so that a worker's start cannot be told.
fn told_first(router: &mut Router) -> u8 {
    router.spawn(Place { slot: 0, incarnation: 1 });
    // Each is answered, for the place is taken.
    for _order in 0..3000 {
        router.spawn(Place { slot: 0, incarnation: 1 });
    }
    router.spawn(Place { slot: 1, incarnation: 1 });
    router.order(&ToParent::Ready);
    // Until the driver has looked: the signal is not read, it waits in the full link.
    let mut byte = [0];
    println!("link is full");
    let pipe = std::fs::File::open(std::env::args().next_back().unwrap() + "/fifo").unwrap();
    std::io::Read::read(&mut &pipe, &mut byte).unwrap();
    while let Some(message) = router.next() {
        if let ToRouter::Started { place: Place { slot: 1, .. }, .. } = message {
            println!("told at last");
        }
    }
    0
}

fn restart(router: &mut Router) -> u8 {
    let RouterProcess { life, workers, used, blob, .. } = &router.process;
    let mut said = String::new();
    for worker in workers {
        write!(said, " {}.{} pid {}", worker.place.slot, worker.place.incarnation, worker.pid).unwrap();
    }
    println!("life {life} finds{said}, used {}, blob {blob:?}", used.len());
    if *life == 1 {
        router.spawn_slots(2);
    }
    while let Some(message) = router.next() {
        match message {
            ToRouter::Signal(Signal::Hup) => {
                // So that the parent finds the orders of a dead router.
                kill(Pid::from_raw(router.process.parent_pid), Number::SIGSTOP).unwrap();
                router.order(&ToParent::Remember { name: None, blob: vec![1, 2, 3] });
                router.spawn(Place { slot: 5, incarnation: 1 });
                return 9;
            }
            ToRouter::Signal(Signal::Ttou) => router.signal(0, WorkerSignal::Term),
            _other => {}
        }
    }
    0
}

fn closure(worker: &WorkerProcess) -> u8 {
    match worker.place.slot {
        0 => {
            println!("generation {} at {}", worker.generation, worker.backend);
            7
        }
        1 => panic!("the handler is broken"),
        _slot => {
            println!("worker has {}", open_descriptors());
            print!("{}", std::fs::read_to_string("/proc/self/status").unwrap());
            0
        }
    }
}

/// The open descriptors, but for the one that lists them.
fn open_descriptors() -> String {
    let mut open: Vec<u32> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| !target.ends_with("fd")))
        .map(|entry| entry.file_name().to_str().unwrap().parse().unwrap())
        .collect();
    open.sort_unstable();
    format!("{open:?}")
}
