//! The documents about the file, and the code: each says what the other does.

use std::path::{Path, PathBuf};

use nix::unistd::Uid;

use super::document;
use super::keys::{KEYS, Scope};
use super::{CommandLine, Config, ConfigError, Configured, Environment, Surroundings, schema};

const EXAMPLE: &str = include_str!("../../../docs/hornpipe.example.toml");
const SCHEMA: &str = include_str!("../../../docs/hornpipe.schema.json");

fn surroundings() -> Surroundings {
    Surroundings { processors: 6, user: Uid::from_raw(1000), environment: Environment::of([]) }
}

fn with_file(text: &str) -> Result<Config, ConfigError> {
    let name = format!("hornpipe-file-{}-{:?}", std::process::id(), std::thread::current().id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).unwrap();
    let command_line = CommandLine { file: Some(path.clone()), ..CommandLine::default() };
    let read = Configured::read(command_line, surroundings());
    std::fs::remove_file(path).unwrap();
    read.map(|configured| configured.config)
}

fn with_ports(options: super::RawConfig) -> Configured {
    let (frontend, backend) = ("6660".parse().ok(), "6661".parse().ok());
    let command_line = CommandLine { frontend, backend, options, ..CommandLine::default() };
    Configured::read(command_line, surroundings()).unwrap()
}

/// The example's lines that are keys, commented out or not.
fn keys_of_example() -> impl Iterator<Item = (bool, String)> {
    let top = EXAMPLE.lines().take_while(|line| !line.contains("---- Services"));
    top.filter_map(|line| {
        let (commented, line) = match line.strip_prefix("# ") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        let key = line.split_once(" = ")?.0;
        KEYS.iter().any(|known| known.name == key).then(|| (commented, line.to_owned()))
    })
}

#[test]
fn the_example_as_written_is_the_defaults() {
    assert_eq!(with_file(EXAMPLE), Ok(with_ports(super::RawConfig::default()).config));
}

#[test]
fn the_example_has_every_key_once_and_what_is_commented_out_can_be_read() {
    let lines: Vec<(bool, String)> = keys_of_example().collect();
    let named: Vec<&str> = lines.iter().map(|(_, line)| line.split(' ').next().unwrap()).collect();
    assert_eq!(named, KEYS.iter().map(|key| key.name).collect::<Vec<_>>());
    for (_, line) in lines.iter().filter(|(commented, _)| *commented) {
        assert!(document::parse(Path::new("F"), line).is_ok(), "{line}");
    }
    let services: Vec<&str> = EXAMPLE.lines().skip_while(|line| !line.starts_with("# [service")).collect();
    let services = services.join("\n").replace("# ", "");
    let layer = document::parse(Path::new("F"), &services).unwrap();
    assert_eq!(layer.further.keys().collect::<Vec<_>>(), ["resize"]);
}

#[test]
fn the_schema_in_the_documents_is_the_one_that_the_code_makes() {
    let made = format!("{:#}\n", schema());
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/hornpipe.schema.json");
    assert!(
        made == SCHEMA,
        "{} is not what `hornpipe config schema` prints: write it there again",
        page.display()
    );
}

#[test]
fn the_schema_has_every_key_where_it_may_stand() {
    let schema = schema();
    let has = |place: &str, key: &str| schema.pointer(&format!("{place}/{key}")).is_some();
    for key in KEYS {
        assert!(has("/properties", key.name), "{}", key.name);
        let of_service = has("/properties/service/additionalProperties/properties", key.name);
        assert_eq!(of_service, key.scope == Scope::Service, "{}", key.name);
    }
}

#[test]
fn what_is_shown_is_a_file_that_means_the_same() {
    let raw = super::RawConfig::default;
    let second = Some(std::time::Duration::from_millis(1500));
    for options in [
        raw(),
        super::RawConfig { workers: Some(3), min: Some(2), max: Some(9), ..raw() },
        super::RawConfig { max: Some(9), min_spare_servers: Some(2), check_for_waiting: second, ..raw() },
        super::RawConfig { workers: Some(0), probe: Some("a\n\"b\"\u{7f}".into()), timeout: second, ..raw() },
        super::RawConfig { env: Some(vec!["A=b c".into()]), umask: Some(0o7), nice: Some(-3), ..raw() },
    ] {
        let configured = with_ports(options);
        let shown: Vec<String> = configured
            .settings()
            .iter()
            .filter(|setting| setting.value != super::Value::Unset)
            .map(|setting| format!("{} = {}", setting.key, setting.value))
            .collect();
        let text = shown.join("\n");
        assert_eq!(with_file(&text), Ok(configured.config), "{text}");
    }
}
