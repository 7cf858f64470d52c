//! Redis servers of a test's own, on loopback, in folders that go with them.
#![allow(clippy::disallowed_methods, reason = "this file is where a port is found that is free")]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::folder::Folder;
use super::process::Process;
use super::processes::{send, state_of};
use super::wait::{DEADLINE, eventually, until};

/// Nothing is kept when it ends, and nobody else can reach it.
const PLAIN: &[&str] = &["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--loglevel", "warning"];

/// One server. It is killed when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Option<Process>,
    port: u16,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    folder: Folder,
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(i64),
    /// A text.
    Text(String),
    /// Nothing.
    Nil,
    /// Several.
    Many(Vec<Value>),
    /// A complaint.
    Error(String),
}

impl RedisServer {
    /// Starts one that keeps nothing, and waits until it answers.
    pub fn start() -> Self {
        Self::with(&[], &[])
    }

    /// Starts one with these further options and variables.
    pub fn with(options: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut server = Self {
            process: None,
            port: 0,
            options: options.iter().copied().map(ToOwned::to_owned).collect(),
            variables: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            folder: Folder::new(),
        };
        server.find_port();
        server
    }

    /// Another process may take a port that was free a moment ago: then there is another.
    fn find_port(&mut self) {
        let started = (0..10).any(|_| {
            self.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            self.launch()
        });
        assert!(started, "no redis-server can be started: is it installed? (Debian: redis-server)");
    }

    /// False if it ended before it answered.
    fn launch(&mut self) -> bool {
        let port = self.port.to_string();
        let folder = self.folder.path().to_str().unwrap().to_owned();
        let mut arguments = vec!["--port", &port, "--dir", &folder];
        arguments.extend(PLAIN);
        arguments.extend(self.options.iter().map(String::as_str));
        let mut process = if self.variables.is_empty() {
            Process::start("redis-server", &arguments)
        } else {
            let variables: Vec<String> =
                self.variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let words = variables.iter().map(String::as_str).chain(["redis-server"]).chain(arguments);
            Process::start("env", &words.collect::<Vec<_>>())
        };
        let answers = until("redis-server answers", DEADLINE, || {
            if !process.is_running() {
                return Some(false);
            }
            // Another server may have the port: this one has this folder.
            let answer = self.try_ask(&["CONFIG", "GET", "dir"]);
            answer.map(|answer| format!("{answer:?}").contains(&folder)).filter(|ours| *ours)
        });
        self.process = Some(process);
        answers
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it is, for a locker.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// What a locker calls it.
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Asks one command and waits for the answer.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap_or_else(|| panic!("{} does not answer {words:?}", self.name()))
    }

    fn try_ask(&self, words: &[&str]) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            write!(command, "${}\r\n{word}\r\n", word.len()).unwrap();
        }
        stream.write_all(command.as_bytes()).ok()?;
        read(&mut BufReader::new(stream))
    }

    /// What a key holds.
    pub fn get(&self, key: &str) -> Option<String> {
        match self.ask(&["GET", key]) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again at the same port, with whatever it has kept.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.launch(), "redis-server does not start again at port {}", self.port);
    }

    /// Stops it; its connections stay.
    pub fn stop(&self) {
        let pid = self.pid();
        send(pid, Signal::SIGSTOP);
        eventually("redis-server stands still", || state_of(pid) == Some('T'));
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        send(self.pid(), Signal::SIGCONT);
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("it was killed").pid()
    }
}

fn read(stream: &mut impl BufRead) -> Option<Value> {
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let line = line.strip_suffix("\r\n")?;
    let (kind, rest) = line.split_at_checked(1)?;
    match kind {
        "+" => Some(Value::Text(rest.to_owned())),
        "-" => Some(Value::Error(rest.to_owned())),
        ":" => rest.parse().ok().map(Value::Number),
        "$" | "*" if rest.starts_with('-') => Some(Value::Nil),
        "$" => {
            let mut text = vec![0; rest.parse::<usize>().ok()? + 2];
            stream.read_exact(&mut text).ok()?;
            text.truncate(text.len() - 2);
            Some(Value::Text(String::from_utf8_lossy(&text).into_owned()))
        }
        "*" => (0..rest.parse::<usize>().ok()?).map(|_| read(stream)).collect::<Option<_>>().map(Value::Many),
        _ => None,
    }
}

/// Several servers that know nothing of each other.
#[derive(Debug)]
pub struct RedisServers(pub Vec<RedisServer>);

impl RedisServers {
    /// Starts so many.
    pub fn start(count: usize) -> Self {
        Self((0..count).map(|_| RedisServer::start()).collect())
    }

    /// Where they are.
    pub fn urls(&self) -> Vec<String> {
        self.0.iter().map(RedisServer::url).collect()
    }

    /// The same, as the command line takes it.
    pub fn list(&self) -> String {
        self.urls().join(",")
    }

    /// On how many of them a key is. All must be up.
    pub fn having(&self, key: &str) -> usize {
        self.0.iter().filter(|server| server.get(key).is_some()).count()
    }

    /// Asks all the same.
    pub fn ask(&self, words: &[&str]) {
        for server in &self.0 {
            server.ask(words);
        }
    }
}
