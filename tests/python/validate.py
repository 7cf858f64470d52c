"""Whether a TOML file fits a JSON Schema: validate.py SCHEMA FILE. Exit code 1 if it does not."""

import json
import sys
import tomllib

import jsonschema

with open(sys.argv[1], encoding="utf-8") as schema_file:
    schema = json.load(schema_file)
with open(sys.argv[2], "rb") as toml_file:
    document = tomllib.load(toml_file)
jsonschema.Draft202012Validator.check_schema(schema)
errors = list(jsonschema.Draft202012Validator(schema).iter_errors(document))
for error in errors:
    print(f"{error.json_path}: {error.message}", file=sys.stderr)
sys.exit(bool(errors))
