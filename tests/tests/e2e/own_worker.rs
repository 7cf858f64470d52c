//! Our own worker library in a program of its own, at the backend port of a broker that did not start it.
#![expect(clippy::disallowed_methods, reason = "a worker's loop blocks, so a test runs it in a thread")]

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hornpipe_client::Request;
use hornpipe_tests::harness::{Broker, Client, DEADLINE, Serve, eventually, send};
use hornpipe_worker::{
    AsyncContext, Context, Failure, Job, Reply, ServeError, Settings, StopHandle, Stopped, serve, serve_async,
};
use nix::sys::signal::Signal::SIGKILL;
use tokio::sync::{Barrier, Notify};

/// A worker in a thread, and how to stop it.
struct Worker {
    stop: StopHandle,
    result: Receiver<Result<Stopped, ServeError>>,
}

impl Worker {
    fn start(
        broker: &Broker,
        work: impl FnOnce(&Settings) -> Result<Stopped, ServeError> + Send + 'static,
    ) -> Self {
        let stop = StopHandle::new().unwrap();
        let settings = Settings { stop: Some(stop.clone()), credits: 4, ..Settings::new(broker.backend()) };
        let (sender, result) = channel();
        std::thread::spawn(move || sender.send(work(&settings)));
        eventually("the worker is known", || broker.status().external.len() == 1);
        Self { stop, result }
    }

    fn result(&self) -> Result<Stopped, ServeError> {
        self.result.recv_timeout(DEADLINE).expect("the worker ends in time")
    }
}

/// The bodies whose work has begun. Until then a request may be on its way, though the broker has given it:
/// a worker that is stopped before it has read it leaves it to others.
static BEGUN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn wait_until_begun(body: &str) {
    eventually("it has begun", || BEGUN.lock().unwrap().contains(body));
}

fn demo(job: &Job, context: &mut Context<'_>) -> Result<String, Failure> {
    let body = String::from_utf8_lossy(&job.body()).into_owned();
    BEGUN.lock().unwrap().insert(body.clone());
    match body.split_once(' ') {
        Some(("sleep", milliseconds)) => {
            let cancelled = context.wait(Duration::from_millis(milliseconds.parse().unwrap()));
            Ok(format!("cancelled: {cancelled}"))
        }
        Some(("fail", why)) => Err(Failure::new(why)),
        _ => Ok(body.to_uppercase()),
    }
}

fn blocking(broker: &Broker) -> Worker {
    Worker::start(broker, |settings| serve(settings, demo, |_state| ()))
}

#[test]
fn a_worker_serves_a_broker_that_did_not_start_it_until_its_program_stops_it() {
    let broker = Serve::bare(0).start();
    let worker = blocking(&broker);
    assert_eq!(broker.ask("hello"), "HELLO");
    assert_eq!(broker.ask("fail on purpose"), "ERR error on purpose");
    let client = broker.client();
    client.send(&[b"sleep 300"]);
    wait_until_begun("sleep 300");
    worker.stop.stop();
    assert_eq!(client.receive(), [b"cancelled: false"]);
    assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
    eventually("it is gone", || broker.status().external.is_empty());
}

#[test]
fn an_idle_worker_and_one_without_a_broker_stop_too() {
    let broker = Serve::bare(0).start();
    let worker = blocking(&broker);
    let endpoint = broker.backend().to_owned();
    worker.stop.stop();
    assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
    drop(broker);
    let stop = StopHandle::new().unwrap();
    let settings = Settings { stop: Some(stop.clone()), ..Settings::new(endpoint) };
    let (sender, result) = channel();
    std::thread::spawn(move || sender.send(serve(&settings, demo, |_state| ())));
    stop.stop();
    assert_eq!(result.recv_timeout(DEADLINE).unwrap().unwrap(), Stopped::ByProgram);
}

#[test]
fn it_finds_the_next_router() {
    let broker = Serve::bare(0).start();
    let worker = blocking(&broker);
    send(broker.router_pid(), SIGKILL);
    eventually("it is known again", || {
        let report = broker.status();
        report.router_life == 2 && report.external.len() == 1
    });
    assert_eq!(broker.ask("again"), "AGAIN");
    worker.stop.stop();
    assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
}

/// Runs as many at once as the barrier wants, and tells when it holds a request, until the gate opens for it.
async fn work(
    job: Job,
    context: AsyncContext,
    (barrier, begun, gate): (Arc<Barrier>, Sender<()>, Arc<Notify>),
) -> Result<Reply, Failure> {
    let body = String::from_utf8_lossy(&job.body()).into_owned();
    match body.as_str() {
        "meet" => {
            barrier.wait().await;
            Ok("met".into())
        }
        "parts" => {
            for part in ["one", "two", "three"] {
                context.send_part(part).await?;
            }
            Ok("end".into())
        }
        "endless" => {
            context.cancelled().await;
            Err("cancelled".into())
        }
        "panic" => panic!("out of luck"),
        "fail" => Err(Failure::new("on purpose")),
        "hold" => {
            begun.send(()).ok();
            gate.notified().await;
            Ok(format!("{} held", job.attempt()).into())
        }
        _ => Ok(format!("{} {}", job.attempt(), body).into()),
    }
}

fn asynchronous(broker: &Broker) -> (Worker, Receiver<()>, Arc<Notify>) {
    let (sender, begun) = channel();
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let worker = Worker::start(broker, |settings| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let barrier = Arc::new(Barrier::new(4));
        let handler =
            move |job, context| work(job, context, (Arc::clone(&barrier), sender.clone(), Arc::clone(&gate)));
        runtime.block_on(serve_async(settings, handler))
    });
    (worker, begun, opened)
}

#[test]
fn an_asynchronous_worker_runs_as_many_requests_at_once_as_it_has_credits() {
    let broker = Serve::bare(0).start();
    let (worker, begun, gate) = asynchronous(&broker);
    let client = Client::dealer(broker.frontend());
    for _ in 0..4 {
        client.send(&[b"", b"meet"]);
    }
    for _ in 0..4 {
        assert_eq!(client.receive(), [b"".to_vec(), b"met".to_vec()]);
    }
    let other = broker.client();
    other.send(&[b"parts"]);
    assert_eq!(other.receive(), ["one", "two", "three", "end"].map(|part| part.as_bytes().to_vec()));
    assert_eq!(broker.ask("fail"), "ERR error on purpose");
    assert_eq!(broker.ask("panic"), "ERR error the handler panicked: out of luck");
    // What is in hand is finished; and then it says goodbye.
    client.send(&[b"", b"hold"]);
    begun.recv_timeout(DEADLINE).expect("the work begins");
    worker.stop.stop();
    gate.notify_one();
    assert_eq!(client.receive(), [b"".to_vec(), b"1 held".to_vec()]);
    assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
}

/// All that a handler is told beside the body.
fn told(job: &Job, context: &Context<'_>) -> String {
    let headers: Vec<_> = job.headers().into_iter().collect();
    let limited =
        context.remaining().is_some_and(|left| Duration::ZERO < left && left <= Duration::from_mins(1));
    format!("{} {} {:?} {:?} {headers:?} {limited}", job.id(), job.attempt(), job.key(), context.trace())
}

/// The same from a task that has the context alone.
async fn told_to_a_task(_job: Job, context: AsyncContext) -> Result<String, Failure> {
    let task = tokio::spawn(async move {
        let headers: Vec<_> = context.headers().into_iter().collect();
        let limited =
            context.remaining().is_some_and(|left| Duration::ZERO < left && left <= Duration::from_mins(1));
        let (id, attempt) = (context.request_id(), context.attempt());
        format!("{id} {attempt} {:?} {:?} {headers:?} {limited}", context.key(), context.trace())
    });
    task.await.map_err(|error| error.to_string().into())
}

/// What a worker's thread does.
type Work = fn(&Settings) -> Result<Stopped, ServeError>;

#[test]
fn a_handler_is_told_what_the_client_says_beside_the_body() {
    let request = || {
        let request = Request::new("x").timeout(Duration::from_mins(1)).key("pay-7").trace("00-1-2-01");
        request.header("tenant", "acme")
    };
    let said = r#" 1 Some("pay-7") Some("00-1-2-01") [("tenant", [97, 99, 109, 101])] true"#;
    let works: [Work; 2] = [
        |settings| serve(settings, |job: &Job, context: &mut Context<'_>| Ok(told(job, context)), |_| ()),
        |settings| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve_async(settings, told_to_a_task))
        },
    ];
    for work in works {
        let broker = Serve::bare(0).start();
        let worker = Worker::start(&broker, work);
        let client = hornpipe_client::Client::connect(broker.frontend()).unwrap();
        let reply = client.send(request()).unwrap().wait().unwrap();
        let text = String::from_utf8(reply.bytes()).unwrap();
        assert!(text.ends_with(said) && text.len() > said.len(), "the id and then: {text}");
        worker.stop.stop();
        assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
    }
}

#[test]
fn an_asynchronous_handler_hears_that_nobody_waits_any_more() {
    let broker = Serve::bare(0).options(["--timeout", "300ms", "--attempts", "1"]).start();
    let (worker, _begun, _gate) = asynchronous(&broker);
    assert!(broker.ask("endless").starts_with("ERR timeout"));
    // It is free again.
    assert_eq!(broker.ask("fail"), "ERR error on purpose");
    worker.stop.stop();
    assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
}

#[test]
fn an_asynchronous_worker_finds_the_next_router_with_requests_in_hand() {
    let broker = Serve::bare(0).start();
    let (worker, begun, gate) = asynchronous(&broker);
    let client = broker.client();
    client.send(&[b"hold"]);
    begun.recv_timeout(DEADLINE).expect("the work begins");
    send(broker.router_pid(), SIGKILL);
    eventually("it is known again", || {
        let report = broker.status();
        report.router_life == 2 && report.external.len() == 1
    });
    gate.notify_one();
    assert_eq!(broker.ask("y"), "1 y");
    worker.stop.stop();
    assert_eq!(worker.result().unwrap(), Stopped::ByProgram);
}
