//! hornpipe as its users meet it: real processes, real sockets, real deaths.
//!
//! One file for each theme. `cargo build -p hornpipe` comes first, because these tests
//! run the binary. They need `python3` with pyzmq, prometheus-client and majortomo, a C compiler with libzmq's headers,
//! perl and node, and nothing else; each broker has ports and a folder of its own.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests fail by panicking"
)]

mod bursts;
mod routing;
mod versions;
mod turns;
mod prefetch;
mod keys;
mod key_journal;

mod bodies;
mod dialects;
mod majordomo;
mod paranoid;

mod closures;
mod conditions;
mod workers_each;
mod workers_lines;
mod worker_examples;
mod workers_native;

mod crew_door;
mod crews;
mod crews_brokers;
mod crews_network;

mod deaths;
mod flights;
mod halted;
mod hooks;
mod molds;
mod parent_death;
mod parts;
mod poison;
mod router_death;
mod upgrade;
mod pids;
mod timeouts;

mod fresh;
mod limits;

mod broken_link;
mod clients_leave;
mod crowds;
mod own_client;
mod own_worker;
mod slow_clients;

mod autoscale;
mod degraded;
mod reload;
mod reload_verb;
mod signals;

mod bad_input;
mod replays;
mod startup;

mod activation;
mod completions;
mod container;
mod pid_file;
mod service_manager;
mod shipped;
mod configuration;
mod services;

mod control;
mod access_log;
mod events;
mod sockets;
mod top;
mod verbs;
mod conform;
mod demo;
mod net_server;

mod chaos;
mod clock;
mod http;
mod idle;
