//! The file of `--config` as a JSON Schema, for editors and for checks before a deployment.
//! It is made of the options themselves, so that it says what `--help` says.

use clap::Arg;
use serde_json::{Map, Value, json};

use super::keys::{KEYS, Key, Scope};
use super::reading::{Kind, OptionReader};

/// A number and its unit.
const DURATION: &str = r"^[0-9]+(\.[0-9]{1,9})? *(ms|s|m|h)$";
const SIZE: &str = r"^[0-9]+(\.[0-9]{1,9})? *(B|KB|kB|KiB|MB|MiB|GB|GiB)$";

/// Numbers and text that name a port, or an address and a port.
const ADDRESS: &str = r"^(tcp://)?([^ /]*:)?[0-9]{1,5}$";

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let reader = OptionReader::default();
    let properties = |wanted: &dyn Fn(&Key) -> bool| -> Map<String, Value> {
        let keys = KEYS.iter().filter(|key| wanted(key));
        keys.flat_map(|key| spellings(key, &reader).map(|name| (name, property(key, &reader)))).collect()
    };
    let mut top = properties(&|_key| true);
    top.insert(
        "service".into(),
        json!({
            "description": "Further services, each with its own program, pool and limits",
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9._-]{1,64}$" },
            "additionalProperties": {
                "type": "object",
                "properties": properties(&|key| key.scope == Scope::Service),
                "additionalProperties": false
            }
        }),
    );
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "hornpipe.toml",
        "description": "The file of hornpipe serve --config. Underscores in keys are read as dashes.",
        "type": "object",
        "properties": top,
        "additionalProperties": false
    })
}

/// The key's name, and its names in Net::Server.
fn spellings<'a>(key: &'a Key, reader: &'a OptionReader) -> impl Iterator<Item = String> + use<'a> {
    let others = reader.find(key.name).and_then(Arg::get_all_aliases).unwrap_or_default();
    std::iter::once(key.name).chain(others).map(ToOwned::to_owned)
}

fn property(key: &Key, reader: &OptionReader) -> Value {
    let Some(option) = reader.find(key.name) else { return placed(key.name) };
    let mut property = match reader.kind(key.name).unwrap_or(Kind::Text) {
        Kind::Switch => json!({ "type": "boolean" }),
        Kind::Number if key.name == "nice" => json!({ "type": "integer", "minimum": -20, "maximum": 19 }),
        Kind::Number => json!({ "type": "integer", "minimum": 0 }),
        Kind::Duration => json!({ "type": "string", "pattern": DURATION }),
        Kind::Size => json!({ "type": "string", "pattern": SIZE }),
        Kind::Choice => json!({ "type": "string", "enum": choices(option) }),
        Kind::Text => json!({ "type": "string" }),
        Kind::List => json!({ "type": "array", "minItems": 1, "items": { "type": "string" } }),
    };
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some(fields) = property.as_object_mut() {
        fields.insert("description".into(), json!(help));
    }
    property
}

/// What has a place of its own on the command line.
fn placed(name: &str) -> Value {
    match name {
        "program" => json!({
            "description": "A worker program and its arguments; without one, workers reply what they get",
            "type": "array", "minItems": 1, "items": { "type": "string" }
        }),
        _ => json!({
            "description": match name {
                "frontend" => "Where clients connect: 6660 (this machine), \"*:6660\" (all)",
                _ => "Where workers connect that this broker does not start",
            },
            "oneOf": [
                { "type": "integer", "minimum": 0, "maximum": 65535 },
                { "type": "string", "pattern": ADDRESS }
            ]
        }),
    }
}

fn choices(option: &Arg) -> Vec<String> {
    option.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect()
}
