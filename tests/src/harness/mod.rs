//! Real processes for tests: brokers, clients, workers, and what they leave behind.
//!
//! A test starts everything through here, so that everything is ended here, by its
//! process id, and a process that survives its broker fails the test.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the harness tells of a failure by panicking, as tests do"
)]

mod broker;
mod control;

mod client;
mod raw;
mod redis;
mod worker;

mod breakable;
mod chaos;
mod crowd;
mod fairness;
mod halts;
mod keyed_load;
mod killer;
pub mod network;
mod link_breaks;
mod lock_chaos;
mod lossy_link;
mod router_kills;
mod slow_client;

mod elsewhere;
mod folder;
mod http;
mod pids_limit;
mod process;
mod processes;
mod processor_limit;
mod programs;
mod service_manager;
mod shifted_time;
mod skipped;
mod times;
mod wait;

pub use breakable::Breakable;
pub use broker::{Broker, Outcome, Serve};
pub use chaos::{Chaos, Figures};
pub use client::{Client, OUTCOME_DEADLINE};
pub use control::{ask as ask_control, refused, status_of};
pub use crowd::{Crowd, Vanished};
pub use elsewhere::Elsewhere;
pub use fairness::Fairness;
pub use folder::Folder;
pub use halts::{HALT_TIMEOUT, Halts};
pub use http::{Answer, Exposition, Http, Scrape, hear};
pub use keyed_load::{KeyFigures, KeyedLoad};
pub use killer::Kills;
pub use link_breaks::LinkBreaks;
pub use lock_chaos::{LockChaos, LockFigures};
pub use lossy_link::LossyLink;
pub use network::Network;
pub use pids_limit::PidsLimit;
pub use process::{Ended, Process};
pub use processes::{Session, cpu_time, descriptors, is_alive, resident, send, state_of};
pub use processor_limit::ProcessorLimit;
pub use programs::{
    c_program, compiled_example, hornpipe, python, python_with_gunicorn, python_with_majortomo,
    python_with_prometheus_client, script, source, worker_example,
};
pub use raw::{Zmtp, speak, speak_at};
pub use redis::{RedisServer, RedisServers, Value};
pub use router_kills::RouterKills;
pub use service_manager::{Message, ServiceManager};
pub use shifted_time::ShiftedTime;
pub use skipped::{faketime, has, unshare};
pub use slow_client::SlowClient;
pub use times::{in_words, rank};
pub use wait::{DEADLINE, Deadline, eventually, let_pass, until};
pub use worker::{NativeWorker, PlainWorker, ReqWorker};
