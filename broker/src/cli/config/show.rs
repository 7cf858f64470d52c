//! `hornpipe config show`: every key, what holds for it, and who says so.

use std::fmt::Write;

use clap::Args;
use serde_json::json;

use super::super::output;
use super::super::serve;
use super::SettingsArguments;
use crate::config::{Change, CrewPlan, Origin, Setting, Value};

/// Every setting as it would hold, in the form of the file
#[derive(Debug, Args)]
#[command(
    after_help = "What is printed can be used as a file for --config. A line with # is a key that is not set.

Examples:
  hornpipe config show 6660 6661 -n 4 -- python3 worker.py > hornpipe.toml
  hornpipe config show --config hornpipe.toml --origin
  hornpipe config show --connect tcp://broker:6661 --insecure --config crew.toml"
)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    settings: SettingsArguments,
    /// Who says so: the command line, a variable, a line of the file, or nobody
    #[arg(long, help_heading = "Show")]
    origin: bool,
    /// For programs: one JSON object for each key, with its origin
    #[arg(long, help_heading = "Show")]
    json: bool,
}

pub(super) fn run(arguments: ShowArguments) -> u8 {
    let ShowArguments { settings, origin, json } = arguments;
    match settings.resolve() {
        Ok(configured) => {
            let settings = configured.settings();
            let crew = configured.config.crew.as_ref().map(heading).unwrap_or_default();
            super::print(&if json { as_json(&settings) } else { crew + &as_toml(&settings, origin) })
        }
        Err(error) => {
            output::complain(&error);
            serve::exit_code(&error)
        }
    }
}

/// What makes it a crew, which is said on its command line and in no file.
fn heading(crew: &CrewPlan) -> String {
    let CrewPlan { brokers, name, service, .. } = crew;
    let service = service.as_ref().map_or_else(String::new, |service| format!(" --service {service}"));
    format!("# hornpipe worker --connect {} --name {name}{service}\n", brokers.join(","))
}

fn as_toml(settings: &[Setting], with_origins: bool) -> String {
    let mut page = String::new();
    let mut service = &None;
    let lines: Vec<String> = settings.iter().map(line).collect();
    let width = lines.iter().map(|line| line.chars().count()).filter(|width| *width <= 40).max().unwrap_or(0);
    for (setting, line) in settings.iter().zip(lines) {
        if setting.service != *service {
            service = &setting.service;
            writeln!(page, "\n[service.{}]", service.as_deref().map(quoted).unwrap_or_default()).ok();
        }
        if with_origins {
            writeln!(page, "{line:width$}  # {}", output::harmless(&setting.origin.to_string())).ok();
        } else {
            writeln!(page, "{line}").ok();
        }
    }
    page
}

/// A dot in a bare key would be two keys.
fn quoted(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

fn line(setting: &Setting) -> String {
    match &setting.value {
        Value::Unset => format!("# {} =", setting.key),
        value => format!("{} = {value}", setting.key),
    }
}

fn as_json(settings: &[Setting]) -> String {
    let objects: Vec<_> = settings
        .iter()
        .map(|setting| {
            json!({
                "service": setting.service.as_deref().unwrap_or("default"),
                "key": setting.key,
                "value": setting.value.to_json(),
                "origin": origin(&setting.origin),
                "reload": match setting.change {
                    Change::AtOnce => "hup",
                    Change::Upgrade => "upgrade",
                    Change::Restart => "restart",
                },
            })
        })
        .collect();
    format!("{:#}\n", json!(objects))
}

fn origin(origin: &Origin) -> serde_json::Value {
    match origin {
        Origin::CommandLine => json!({ "from": "command line" }),
        Origin::Variable(name) => json!({ "from": "environment", "variable": name }),
        Origin::File(path, line) => {
            json!({ "from": "file", "path": path.display().to_string(), "line": line })
        }
        Origin::Default => json!({ "from": "default" }),
    }
}
