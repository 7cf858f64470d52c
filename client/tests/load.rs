//! The load generator against servers good and bad: whatever they do shows in the counts.

#![expect(clippy::unwrap_used, reason = "a test's own helpers may fail it")]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::{Frames, PATIENCE, Server, answer, free_port, read_request, reply};
use hornpipe_client::endpoint;
use hornpipe_client::load::{
    Counts, LoadError, Mix, Mode, Outcome, Plan, Progress, Shape, Until, run, run_watched,
};
use hornpipe_proto::Status;

const REQUESTS: u64 = 1000;

fn plan(server: &Server) -> Plan {
    Plan {
        endpoints: vec![endpoint(&server.endpoint).unwrap()],
        clients: 4,
        depth: 1,
        mode: Mode::Plain,
        shape: Shape::Closed,
        body_sizes: Mix::of(100),
        services: Mix::of(None),
        until: Until::Count(REQUESTS),
        timeout: PATIENCE,
        verb_prefix: Vec::new(),
    }
}

/// Runs, and checks what holds whatever the server does.
fn counted(plan: &Plan) -> Outcome {
    let outcome = run(plan).unwrap();
    let counts = &outcome.counts;
    let ended = counts.ok + counts.wrong + counts.lost + counts.errors_total();
    assert_eq!(counts.sent, ended, "{counts:?}");
    let latency = outcome.latency;
    let order = [latency.min, latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
    assert!(order.is_sorted(), "{latency:?}");
    assert_eq!(latency.min > 0.0, counts.ok > 0, "{latency:?}");
    outcome
}

/// Echoes all frames, as a DEALER worker behind a plain proxy does.
fn echo(peer: &[u8], frames: &[Vec<u8>]) -> Frames {
    let mut message = vec![peer.to_vec()];
    message.extend_from_slice(frames);
    message
}

/// Answers every request with `once`, and each `nth` with what `instead` makes of its echo.
fn odd_server(nth: u64, instead: impl Fn(Frames) -> Vec<Frames> + Send + 'static) -> Server {
    let mut heard = 0;
    Server::start(move |peer, frames| {
        heard += 1;
        let echo = echo(peer, frames);
        if heard % nth == 0 { instead(echo) } else { vec![echo] }
    })
}

fn all_ok() -> Counts {
    Counts { sent: REQUESTS, ok: REQUESTS, ..Counts::default() }
}

#[test]
fn an_honest_echo_is_flawless_in_each_mode_and_depth() {
    let server = Server::start(|peer, frames| vec![echo(peer, frames)]);
    let native = Server::start(|peer, frames| {
        let (meta, body) = read_request(frames);
        assert!(meta.timeout_ms.is_some());
        vec![reply(peer, &meta.id, body)]
    });
    for (server, mode) in [(&server, Mode::Plain), (&native, Mode::Native)] {
        for (clients, depth, body_size) in [(1, 1, 16), (1, 64, 100), (4, 1, 100_000), (20, 8, 17)] {
            let plan = Plan { clients, depth, body_sizes: Mix::of(body_size), mode, ..plan(server) };
            let outcome = counted(&plan);
            assert_eq!(outcome.counts, all_ok(), "{mode:?} {clients} {depth} {body_size}");
            assert!(outcome.counts.is_flawless());
            assert!(outcome.rate > 0.0);
        }
    }
}

#[test]
fn the_prefix_goes_to_the_server_and_the_rest_comes_back() {
    let server = Server::start(|peer, frames| {
        let mut echo = echo(peer, frames);
        let body = echo.last_mut().unwrap();
        *body = body.strip_prefix(b"echo ").unwrap().to_vec();
        vec![echo]
    });
    let plan = Plan { verb_prefix: b"echo ".to_vec(), ..plan(&server) };
    assert_eq!(counted(&plan).counts, all_ok());
}

#[test]
fn a_plain_client_of_depth_one_speaks_as_a_req_socket_does() {
    let server = Server::start(|peer, frames| {
        assert!(frames.len() == 2 && frames[0].is_empty() && frames[1].len() == 100, "{frames:?}");
        vec![echo(peer, frames)]
    });
    assert_eq!(counted(&plan(&server)).counts, all_ok());
}

#[test]
fn a_server_that_doubles_every_tenth_reply_is_caught() {
    for depth in [1, 8] {
        let server = odd_server(10, |echo| vec![echo.clone(), echo]);
        let counts = counted(&Plan { depth, ..plan(&server) }).counts;
        assert_eq!(counts, Counts { doubled: REQUESTS / 10, ..all_ok() });
        assert!(!counts.is_flawless());
    }
}

#[test]
fn a_server_that_corrupts_a_byte_is_caught_wherever_it_is() {
    for place in [0, 15, 16, 99] {
        let server = odd_server(10, move |mut echo| {
            echo.last_mut().unwrap()[place] ^= 1;
            vec![echo]
        });
        for depth in [1, 8] {
            let counts = counted(&Plan { depth, ..plan(&server) }).counts;
            let expected = Counts { ok: REQUESTS / 10 * 9, wrong: REQUESTS / 10, ..all_ok() };
            assert_eq!(counts, expected, "byte {place}, depth {depth}");
        }
    }
}

#[test]
fn a_server_that_cuts_or_adds_a_frame_is_caught() {
    let server = odd_server(2, |mut echo| {
        echo.push(b"more".to_vec());
        vec![echo]
    });
    assert_eq!(counted(&plan(&server)).counts.wrong, REQUESTS / 2);
    let server = odd_server(2, |mut echo| {
        echo.last_mut().unwrap().pop();
        vec![echo]
    });
    assert_eq!(counted(&plan(&server)).counts.wrong, REQUESTS / 2);
}

#[test]
fn a_server_that_drops_is_caught_and_its_clients_go_on() {
    for mode in [Mode::Plain, Mode::Native] {
        let mut heard = 0;
        let server = Server::start(move |peer, frames| {
            heard += 1;
            match mode {
                _ if heard % 100 == 0 => Vec::new(),
                Mode::Plain => vec![echo(peer, frames)],
                Mode::Native => {
                    let (meta, body) = read_request(frames);
                    vec![reply(peer, &meta.id, body)]
                }
            }
        });
        let plan = Plan { mode, timeout: Duration::from_secs(1), clients: 10, ..plan(&server) };
        let counts = counted(&plan).counts;
        assert_eq!(counts, Counts { ok: REQUESTS - 10, lost: 10, ..all_ok() });
    }
}

#[test]
fn a_reply_that_comes_too_late_is_late_and_not_doubled() {
    // The first request's echo goes out behind the second's.
    let mut first = None;
    let server = Server::start(move |peer, frames| match first.take() {
        None => {
            first = Some(echo(peer, frames));
            Vec::new()
        }
        Some(held) => vec![held, echo(peer, frames)],
    });
    let until = Until::Count(2);
    let plan = Plan { clients: 1, until, timeout: Duration::from_millis(300), ..plan(&server) };
    let counts = counted(&plan).counts;
    assert_eq!(counts, Counts { sent: 2, ok: 1, lost: 1, late: 1, ..Counts::default() });
}

#[test]
fn a_reply_that_reaches_the_wrong_client_is_a_stray() {
    let mut earlier: Option<Frames> = None;
    let server = Server::start(move |peer, frames| {
        let mut swapped = echo(peer, frames);
        match earlier.take() {
            None => {
                earlier = Some(swapped);
                Vec::new()
            }
            Some(mut other) => {
                std::mem::swap(&mut other[0], &mut swapped[0]);
                vec![other, swapped]
            }
        }
    });
    let plan =
        Plan { clients: 2, until: Until::Count(2), timeout: Duration::from_millis(300), ..plan(&server) };
    let counts = counted(&plan).counts;
    assert_eq!(counts, Counts { sent: 2, lost: 2, stray: 2, ..Counts::default() });
}

#[test]
fn errors_are_counted_by_their_status() {
    let mut heard = 0;
    let server = Server::start(move |peer, frames| {
        heard += 1;
        let (meta, body) = read_request(frames);
        let status = [Status::Ok, Status::Busy, Status::Ok, Status::Error][heard % 4];
        vec![answer(peer, &meta.id, status, None, body)]
    });
    let errors = BTreeMap::from([(Status::Busy, REQUESTS / 4), (Status::Error, REQUESTS / 4)]);
    let counts = counted(&Plan { mode: Mode::Native, depth: 3, ..plan(&server) }).counts;
    assert_eq!(counts, Counts { ok: REQUESTS / 2, errors, ..all_ok() });

    let server = odd_server(4, |mut echo| {
        *echo.last_mut().unwrap() = b"ERR busy the queue is full".to_vec();
        vec![echo]
    });
    for depth in [1, 3] {
        let errors = BTreeMap::from([(Status::Busy, REQUESTS / 4)]);
        let counts = counted(&Plan { depth, ..plan(&server) }).counts;
        assert_eq!(counts, Counts { ok: REQUESTS / 4 * 3, errors, ..all_ok() }, "depth {depth}");
    }
}

#[test]
fn closed_load_ends_with_its_time() {
    let server = Server::start(|peer, frames| vec![echo(peer, frames)]);
    let span = Duration::from_millis(300);
    let outcome = counted(&Plan { until: Until::Elapsed(span), ..plan(&server) });
    assert!(outcome.counts.is_flawless(), "{:?}", outcome.counts);
    assert!(span <= outcome.elapsed && outcome.elapsed < span + PATIENCE, "{:?}", outcome.elapsed);
}

#[test]
fn open_load_sends_what_its_rate_says() {
    let server = Server::start(|peer, frames| vec![echo(peer, frames)]);
    let plan = Plan {
        shape: Shape::Open { rate: 2000.0 },
        until: Until::Elapsed(Duration::from_millis(500)),
        ..plan(&server)
    };
    let outcome = counted(&plan);
    assert_eq!(outcome.counts, all_ok(), "2000 a second for half a second");
}

#[test]
fn a_server_that_stalls_cannot_hide_it_from_open_load() {
    // It takes nothing for 300 ms, then everything at once: a closed loop of
    // one client would see a single slow request.
    let mut heard = 0;
    let server = Server::start(move |peer, frames| {
        heard += 1;
        if heard == 100 {
            common::stall(Duration::from_millis(300));
        }
        vec![echo(peer, frames)]
    });
    let plan = Plan {
        clients: 1,
        shape: Shape::Open { rate: 1000.0 },
        until: Until::Count(REQUESTS),
        ..plan(&server)
    };
    let outcome = counted(&plan);
    assert_eq!(outcome.counts, all_ok());
    // About 300 of the 1000 were due in that time, the first of them 300 ms late.
    assert!(outcome.latency.p90 > 100_000.0, "{:?}", outcome.latency);
    assert!(outcome.latency.max > 290_000.0, "{:?}", outcome.latency);
}

#[test]
fn what_a_dead_server_left_unsent_is_counted() {
    let server = Server::start(|_peer, _frames| Vec::new());
    let plan = Plan {
        clients: 2,
        shape: Shape::Open { rate: 1000.0 },
        until: Until::Elapsed(Duration::from_millis(200)),
        timeout: Duration::from_millis(150),
        ..plan(&server)
    };
    let counts = counted(&plan).counts;
    assert_eq!((counts.ok, counts.sent + counts.unsent), (0, 200), "{counts:?}");
    assert!(counts.unsent > 100, "{counts:?}");
}

#[test]
fn a_server_that_restarts_costs_no_more_than_what_it_held() {
    let port = free_port();
    let place = format!("tcp://127.0.0.1:{port}");
    let (tell, told) = mpsc::channel();
    let mut heard = 0;
    let first = Server::start_at(&place, move |peer, frames| {
        heard += 1;
        if heard == 100 {
            tell.send(()).unwrap();
        }
        vec![echo(peer, frames)]
    });
    let plan = Plan {
        until: Until::Elapsed(Duration::from_secs(2)),
        timeout: Duration::from_millis(500),
        ..plan(&first)
    };
    let loading = common::start_thread(move || counted(&plan));
    told.recv_timeout(PATIENCE).unwrap();
    first.stop();
    let heard_again = Arc::new(AtomicBool::new(false));
    let second_heard = Arc::clone(&heard_again);
    let _second = Server::start_at(&place, move |peer, frames| {
        second_heard.store(true, Ordering::Relaxed);
        vec![echo(peer, frames)]
    });
    let counts = loading.join().unwrap().counts;
    let again = heard_again.load(Ordering::Relaxed);
    assert!(again, "the second server was asked");
    // Four clients with one request each lose at most those.
    assert!(counts.lost <= 4 && counts.ok > 90, "{counts:?}");
}

#[test]
fn a_server_that_is_not_there_is_unreachable() {
    let server = Server::start(|_peer, _frames| Vec::new());
    let nobody = endpoint(&free_port().to_string()).unwrap();
    let plan = Plan { endpoints: vec![nobody], timeout: Duration::from_millis(200), ..plan(&server) };
    assert!(matches!(run(&plan), Err(LoadError::Unreachable { connected: 0, .. })));
}

#[test]
fn an_impossible_plan_is_refused() {
    let server = Server::start(|_peer, _frames| Vec::new());
    for plan in [
        Plan { clients: 0, ..plan(&server) },
        Plan { clients: 1001, ..plan(&server) },
        Plan { depth: usize::MAX, ..plan(&server) },
        Plan { body_sizes: Mix::of(15), ..plan(&server) },
        Plan { shape: Shape::Open { rate: f64::NAN }, ..plan(&server) },
    ] {
        assert!(matches!(run(&plan), Err(LoadError::Plan { .. })), "{plan:?}");
    }
}

#[test]
fn servers_services_and_sizes_are_mixed_as_was_said() {
    let (tell, told) = mpsc::channel();
    let serve = |name: &'static str| {
        let tell = tell.clone();
        Server::start(move |peer, frames| {
            let (meta, body) = read_request(frames);
            tell.send((name, meta.service, body[0].len())).unwrap();
            vec![reply(peer, &meta.id, body)]
        })
    };
    let servers = [serve("a"), serve("b")];
    let plan = Plan {
        endpoints: servers.iter().map(|server| endpoint(&server.endpoint).unwrap()).collect(),
        mode: Mode::Native,
        body_sizes: Mix::weighted([(16, 3), (5000, 1)]).unwrap(),
        services: Mix::weighted([(None, 1), (Some("images".to_owned()), 1)]).unwrap(),
        ..plan(&servers[0])
    };
    let mut progress = Vec::new();
    let mut watch = |now: &Progress<'_>| progress.push((now.elapsed, now.counts.sent));
    assert_eq!(run_watched(&plan, &mut watch).unwrap().counts, all_ok());
    assert!(!progress.is_empty() && progress.is_sorted(), "{progress:?}");
    let heard: Vec<(&str, bool, bool)> = told
        .try_iter()
        .map(|(server, service, size)| (server, service.as_deref() == Some("images"), size == 5000))
        .collect();
    let first = heard.iter().filter(|(server, ..)| *server == "a").count();
    let images = heard.iter().filter(|(_, is_images, _)| *is_images).count();
    let large = heard.iter().filter(|(.., is_large)| *is_large).count();
    // Size and service are drawn apart from one another.
    let both = heard.iter().filter(|(_, is_images, is_large)| *is_images && *is_large).count();
    assert!((300..700).contains(&first) && (350..650).contains(&images), "{first} {images}");
    assert!((150..350).contains(&large) && (60..190).contains(&both), "{large} {both}");
}

#[test]
fn the_bands_hold_every_right_reply() {
    let server = Server::start(|peer, frames| vec![echo(peer, frames)]);
    let outcome = counted(&plan(&server));
    assert_eq!(outcome.bands.iter().map(|band| band.count).sum::<u64>(), REQUESTS);
    assert!(outcome.bands.windows(2).all(|pair| (pair[1].limit / pair[0].limit - 2.0).abs() < 0.01));
    let slowest = outcome.bands.last().unwrap().limit;
    assert!(outcome.latency.max <= slowest * 1.01 && outcome.latency.max > slowest / 2.1, "{outcome:?}");
}
