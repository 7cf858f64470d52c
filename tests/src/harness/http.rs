//! HTTP by hand over a TCP connection, and what Prometheus reads from `/metrics`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::broker::Broker;
use super::process::Process;
use super::programs::{python_with_prometheus_client, script};
use super::wait::{DEADLINE, until};

/// Where a broker answers HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// On 127.0.0.1.
    pub port: u16,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body.
    pub body: String,
}

/// What a parser has found in `/metrics`.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// The type of each family.
    pub types: BTreeMap<String, String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Which of the two formats is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Http {
    /// Of a broker that was given `--http`; its log says where.
    pub fn of(broker: &Broker) -> Self {
        let port = until("it tells where it answers HTTP", DEADLINE, || {
            let log = broker.log();
            let line = log.lines().find(|line| line.contains("http started"))?;
            line.rsplit(':').next()?.trim().parse().ok()
        });
        Self { port }
    }

    /// A connection that nothing has been said on.
    pub fn connect(self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Says this, and gives all that comes until the other end hangs up.
    pub fn say(self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        hear(&mut stream)
    }

    /// The same, and `None` if the connection ends without a word, as where the process
    /// has just been killed.
    fn try_say(self, bytes: &[u8]) -> Option<String> {
        let mut stream = self.connect();
        stream.write_all(bytes).ok()?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).ok()?;
        (!heard.is_empty()).then(|| String::from_utf8(heard).unwrap())
    }

    /// Asks for a page.
    pub fn get(self, path: &str) -> Answer {
        self.ask("GET", path, "")
    }

    /// Asks with this method and these lines of a head.
    pub fn ask(self, method: &str, path: &str, lines: &str) -> Answer {
        read(&self.say(question(method, path, lines).as_bytes()))
    }

    /// The same, and `None` if the connection ends without an answer, as where the process
    /// has just been killed.
    fn try_ask(self, path: &str, lines: &str) -> Option<Answer> {
        self.try_say(question("GET", path, lines).as_bytes()).map(|text| read(&text))
    }

    /// The status of a page; `None` if the connection ends without one.
    pub fn try_status(self, path: &str) -> Option<u16> {
        self.try_ask(path, "").map(|answer| answer.status)
    }

    /// Waits until a page has this status, and gives what stands on it.
    pub fn wait_for(self, path: &str, status: u16) -> String {
        until(&format!("{path} is {status}"), DEADLINE, || {
            self.try_ask(path, "").filter(|answer| answer.status == status).map(|answer| answer.body)
        })
    }

    /// What a real parser reads from `/metrics`.
    pub fn scrape(self, exposition: Exposition) -> Scrape {
        self.try_scrape(exposition).expect("an answer, and not that the router has ended")
    }

    fn try_scrape(self, exposition: Exposition) -> Option<Scrape> {
        let (word, accept) = match exposition {
            Exposition::Prometheus => ("prometheus", ""),
            Exposition::OpenMetrics => {
                ("openmetrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n")
            }
        };
        let answer = self.try_ask("/metrics", accept)?;
        // The router has ended, and another one follows.
        if answer.status == 503 {
            return None;
        }
        assert_eq!(answer.status, 200, "{}", answer.body);
        let named = answer.head.contains("openmetrics") == (exposition == Exposition::OpenMetrics);
        assert!(named, "{}", answer.head);
        let path = script("exposition.py");
        let arguments = [path.to_str().unwrap(), word];
        let ended =
            Process::start_with_input(python_with_prometheus_client(), &arguments, answer.body.as_bytes())
                .wait();
        assert_eq!(ended.code(), Some(0), "{}\n{}", ended.stderr, answer.body);
        Some(Scrape::of(&serde_json::from_str(&ended.stdout).unwrap()))
    }

    /// Scrapes until it is so. A router may die meanwhile.
    pub fn wait_until(self, what: &str, check: impl Fn(&Scrape) -> bool) -> Scrape {
        until(what, DEADLINE, || self.try_scrape(Exposition::Prometheus).filter(&check))
    }
}

fn question(method: &str, path: &str, lines: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n")
}

/// All that comes until the other end hangs up.
pub fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).unwrap();
    String::from_utf8(heard).unwrap()
}

fn read(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

impl Scrape {
    fn of(families: &serde_json::Value) -> Self {
        let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
        for family in families.as_array().unwrap() {
            let text = |key: &str| family[key].as_str().unwrap().to_owned();
            types.insert(text("name"), text("type"));
            assert!(!text("help").is_empty(), "{} says nothing of itself", text("name"));
            for sample in family["samples"].as_array().unwrap() {
                let labels = sample["labels"].as_object().unwrap();
                let labels =
                    labels.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
                let name = sample["name"].as_str().unwrap().to_owned();
                samples.push((name, labels.collect(), sample["value"].as_f64().unwrap()));
            }
        }
        Self { types, samples }
    }

    /// The names of all samples.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.samples.iter().map(|(name, _labels, _value)| name.as_str())
    }

    /// Names and values of all labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        let labels = self.samples.iter().flat_map(|(_name, labels, _value)| labels);
        labels.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The sum of all samples of that name, without `hornpipe_`, that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("hornpipe_{name}");
        let is_meant = |found: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| found.get(*label).is_some_and(|one| one == value))
        };
        let found = self.samples.iter().filter(|(one, found, _value)| *one == name && is_meant(found));
        let values: Vec<f64> = found.map(|(_name, _labels, value)| *value).collect();
        assert!(!values.is_empty(), "there is no {name} with {labels:?}");
        values.iter().sum()
    }

    /// The same of a counter or a gauge of whole numbers.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let sum = self.sum(name, labels);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{name} {labels:?} is {sum}");
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        let count = sum as u64;
        count
    }

    /// Whether there is such a sample.
    pub fn has(&self, name: &str) -> bool {
        let name = format!("hornpipe_{name}");
        self.names().any(|one| one == name)
    }
}
