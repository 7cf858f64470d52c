//! Every broker with every worker and every client: those of today, and those of `tests/python/frozen`, which
//! speak the protocol's first form or one that is yet to come.

use std::path::PathBuf;

use hornpipe_client::{AskError, Client, Request};
use hornpipe_tests::harness::{Broker, DEADLINE, Process, Serve, hornpipe, python, script, source, until};

/// A service for each kind of worker, and whether that can answer in parts.
const WORKERS: [(&str, Kind); 4] =
    [("first", Kind::Frozen), ("later", Kind::Frozen), ("rust", Kind::Today), ("python", Kind::Today)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Today,
    Frozen,
}

/// A broker of whatever time.
#[derive(Debug)]
enum Place {
    Ours(Box<Broker>),
    Frozen(Process),
}

impl Place {
    fn frozen(name: &str) -> Self {
        let broker = Process::start(python(), &[frozen(name).to_str().unwrap()]);
        until("it has told its endpoints", DEADLINE, || broker.stdout().contains('\n').then_some(()));
        Self::Frozen(broker)
    }

    fn endpoints(&self) -> (String, String) {
        match self {
            Self::Ours(broker) => (broker.frontend().to_owned(), broker.backend().to_owned()),
            Self::Frozen(broker) => {
                let told = broker.stdout();
                let (frontend, backend) = told.lines().next().unwrap().split_once(' ').unwrap();
                (frontend.to_owned(), backend.to_owned())
            }
        }
    }

    /// Waits until every worker is known.
    fn wait_for_workers(&self, workers: &[Process]) {
        let known = || match self {
            Self::Ours(broker) => {
                let report = broker.status();
                report.external.iter().filter(|worker| worker.state == "waiting").count()
            }
            Self::Frozen(broker) => broker.stdout().lines().skip(1).count(),
        };
        let said: String = workers.iter().map(Process::stderr).collect();
        let what = format!("{} workers are known: {said}", WORKERS.len());
        until(&what, DEADLINE, || (known() == WORKERS.len()).then_some(()));
    }
}

fn frozen(name: &str) -> PathBuf {
    script(&format!("frozen/{name}.py"))
}

/// The Python package, as it stands in this repository.
fn package_path() -> String {
    format!("PYTHONPATH={}", source("../python/src").display())
}

fn start_worker(service: &str, backend: &str) -> Process {
    let python = python();
    let python = python.to_str().unwrap();
    match service {
        "rust" => Process::start(hornpipe(), &["worker", "demo", "--backend", backend, "--service", service]),
        // Its program names its service itself.
        "python" => {
            let program = script("package_worker.py");
            let package = [python, "-m", "hornpipe", "--backend", backend, program.to_str().unwrap()];
            Process::start("env", &[&[package_path().as_str()], &package[..]].concat())
        }
        frozen_one => {
            let program = frozen(&format!("{frozen_one}_worker"));
            Process::start(python, &[program.to_str().unwrap(), backend, service])
        }
    }
}

/// What is asked of a worker, and what a client is to hear: the status, and the body or the sentence.
/// `between` stands between two parts.
fn questions((service, kind): (&str, Kind), between: &str) -> Vec<(String, String)> {
    let question = |body: &str, answer: &str| (format!("{service}/{body}"), answer.to_owned());
    let mut questions = vec![
        question("echo here", "ok here"),
        question("upper ahoy", "ok AHOY"),
        question("fail because", "error because"),
    ];
    if kind == Kind::Today {
        let parts = ["part 1", "part 2", "part 3", "3 parts"];
        questions.push(question("parts 3 0", &format!("ok {}", parts.join(between))));
    }
    questions
}

fn all_questions(between: &str) -> Vec<(String, String)> {
    let mut questions: Vec<_> = WORKERS.into_iter().flat_map(|worker| questions(worker, between)).collect();
    questions.push(("nobody/echo x".into(), "no_service ".into()));
    questions
}

/// Compares what a client has printed, `rounds` times the answers to these questions.
fn check(who: &str, printed: &str, questions: &[(String, String)], rounds: usize) {
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines.len(), questions.len() * rounds, "{who}: {printed}");
    for (line, (question, answer)) in lines.iter().zip(questions.iter().cycle()) {
        // The sentence is each broker's own.
        let is_right = if answer.ends_with(' ') { line.starts_with(answer) } else { line == answer };
        assert!(is_right, "{who} asked {question:?} and heard {line:?}, not {answer:?}");
    }
}

fn check_program(
    (who, program): (&str, PathBuf),
    frontend: &str,
    questions: &[(String, String)],
    rounds: usize,
) {
    let (package, python) = (package_path(), python());
    let mut words = vec![&package, python.to_str().unwrap(), program.to_str().unwrap(), frontend];
    words.extend(questions.iter().map(|(question, _answer)| question.as_str()));
    let ended = Process::run("env", &words);
    assert_eq!(ended.code(), Some(0), "{who}: {}", ended.stderr);
    check(who, &ended.stdout, questions, rounds);
}

/// Both clients of the Python package.
fn check_package(frontend: &str, questions: &[(String, String)]) {
    check_program(("the Python package", script("package_client.py")), frontend, questions, 2);
}

/// Our own client's words on one question, in the same form.
fn ask(client: &Client, question: &str, between: &str) -> String {
    let (service, body) = question.split_once('/').unwrap();
    let request = Request::new(body).service(service);
    let parts: Result<Vec<Vec<u8>>, AskError> =
        client.parts(request).unwrap().map(|part| Ok(part?.concat())).collect();
    match parts {
        Ok(parts) => format!("ok {}", String::from_utf8(parts.join(between.as_bytes())).unwrap()),
        Err(AskError::Handler { message, .. }) => format!("error {message}"),
        Err(AskError::Refused { status, message, .. }) => format!("{status} {message}"),
        Err(other) => panic!("{question}: {other}"),
    }
}

/// All workers and all clients with this broker, which passes parts on or does not.
fn play(place: &Place, between: &str) -> Client {
    let (frontend, backend) = place.endpoints();
    let workers = WORKERS.map(|(service, _kind)| start_worker(service, &backend));
    place.wait_for_workers(&workers);
    // Who knows no parts hears one reply.
    let whole = all_questions("");
    for name in ["first_client", "later_client"] {
        check_program((name, frozen(name)), &frontend, &whole, 1);
    }
    let in_parts = all_questions(between);
    check_package(&frontend, &in_parts);

    let client = Client::connect(&frontend).unwrap();
    let heard: Vec<String> = in_parts.iter().map(|(question, _)| ask(&client, question, between)).collect();
    check("our own client", &heard.join("\n"), &in_parts, 1);
    // Nobody waits any more, and whether or not the broker understands that, the next one is served.
    drop(client.send(Request::new("sleep 200").service("rust")).unwrap());
    assert_eq!(ask(&client, "rust/echo next", ""), "ok next");
    client
}

#[test]
fn todays_broker_serves_with_workers_and_clients_of_every_time() {
    let place = Place::Ours(Box::new(Serve::bare(0).start()));
    play(&place, "|");
    let Place::Ours(broker) = place else { return };
    let report = broker.wait_until("all are seen to", |report| report.requests.in_flight == 0);
    // The one state that nobody knows.
    assert_eq!(report.noise.malformed_workers, 1, "{report:#?}");
    broker.check_counters();
}

#[test]
fn todays_workers_and_clients_serve_with_a_broker_of_the_first_form() {
    play(&Place::frozen("first_broker"), "");
}

#[test]
fn todays_workers_and_clients_serve_with_a_broker_yet_to_come() {
    let place = Place::frozen("later_broker");
    let client = play(&place, "|");
    assert_eq!(ask(&client, "rust/shelve", ""), "error shelved: come back on Monday");
    let questions = [("rust/shelve".to_owned(), "shelved come back on Monday".to_owned())];
    check_package(&place.endpoints().0, &questions);
}
