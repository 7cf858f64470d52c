//! `docs/TESTS.md` names tests that exist.

use std::fs;
use std::path::Path;

/// A shorter name in a table may be a file or an option.
const WORDS_IN_A_NAME: usize = 4;

#[test]
fn every_test_that_the_tables_name_exists() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/e2e", "tests/locks", "../worker/tests/worker"];
    let folders = folders.map(|folder| fs::read_dir(here.join(folder)).unwrap());
    let tests = folders.into_iter().flatten().flatten();
    let code: String = tests.map(|file| fs::read_to_string(file.path()).unwrap()).collect();
    let page = fs::read_to_string(here.join("../docs/TESTS.md")).unwrap();
    let names = page.split('`').skip(1).step_by(2).filter(|name| {
        name.split('_').count() >= WORDS_IN_A_NAME
            && name.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
    });
    let missing: Vec<&str> = names.filter(|name| !code.contains(&format!("fn {name}()"))).collect();
    assert!(missing.is_empty(), "docs/TESTS.md names tests that are not there: {missing:#?}");
}
