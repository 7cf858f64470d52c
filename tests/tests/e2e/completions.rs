//! What shells complete and `man` shows is what the command line takes.

use std::collections::BTreeSet;
use std::fs;

use hornpipe_tests::harness::{Folder, Process, has, hornpipe};

fn stdout(words: &[&str]) -> String {
    let ended = Process::run(hornpipe(), words);
    assert_eq!(ended.code(), Some(0), "{words:?}: {}", ended.stderr);
    ended.stdout
}

/// The verbs of the first screen.
fn verbs() -> Vec<String> {
    let screen = stdout(&["--help"]);
    let names = screen.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let verbs: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert!(verbs.contains(&"serve".to_owned()), "{screen}");
    verbs
}

/// The long options that the help of a verb shows.
fn options(verb: &str) -> BTreeSet<String> {
    let screen = stdout(&[verb, "--help"]);
    // What is not indented is a sentence.
    let lines = screen.lines().filter(|line| line.starts_with("  "));
    let lines = lines.map(str::trim_start).filter(|line| line.starts_with('-'));
    let words = lines.filter_map(|line| line.split([' ', ',', '=', '[']).find(|word| word.starts_with("--")));
    words.map(str::to_owned).collect()
}

/// What bash offers for the last word of this line.
fn completed(line: &[&str]) -> BTreeSet<String> {
    let script = r#"
        source <("$0" completions bash)
        function=$(complete -p hornpipe | sed 's/.*-F \([^ ]*\).*/\1/')
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        "$function" hornpipe "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let binary = hornpipe();
    let ended = Process::run("bash", &[&["-c", script, binary.to_str().unwrap(), "hornpipe"], line].concat());
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{line:?}");
    ended.stdout.lines().filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn bash_completes_every_verb_and_every_option() {
    let offered = completed(&[""]);
    for verb in verbs() {
        assert!(offered.contains(&verb), "{verb} of {offered:?}");
        let (known, offered) = (options(&verb), completed(&[&verb, "--"]));
        assert!(known.is_subset(&offered), "{verb}: {:?}", known.difference(&offered));
    }
    assert_eq!(completed(&["sca"]), set(&["scale"]));
    assert_eq!(completed(&["serve", "--no-"]), set(&["--no-autoscale", "--no-external", "--no-mold"]));
    assert_eq!(completed(&["serve", "6660", "6661", "--log-format", ""]), set(&["json", "text"]));
    assert!(set(&["list", "show", "retry", "drop"]).is_subset(&completed(&["poison", ""])));
    assert!(completed(&["poison", "drop", "--"]).contains("--all"));
}

#[test]
fn each_shell_can_read_its_completions() {
    let folder = Folder::new();
    for (shell, first) in
        [("bash", "_hornpipe()"), ("zsh", "#compdef hornpipe"), ("fish", "# Print an optspec")]
    {
        let text = stdout(&["completions", shell]);
        assert!(text.starts_with(first), "{shell}: {}", text.lines().next().unwrap());
        let file = folder.file(shell);
        fs::write(&file, text).unwrap();
        if has(shell) {
            let ended = Process::run(shell, &["-n", file.to_str().unwrap()]);
            assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{shell}");
        }
    }
    let ended = Process::run(hornpipe(), &["completions", "tcsh"]);
    assert_eq!(ended.code(), Some(2));
    assert!(ended.stderr.contains("bash, zsh, fish"), "{}", ended.stderr);
}

/// The text of a page, from which the formatter has nothing to complain about.
fn rendered(page: &str) -> Option<String> {
    let (program, words): (_, &[&str]) = if has("groff") {
        ("groff", &["-man", "-ww", "-Tutf8", "-P-c", "-P-b", "-P-u", "-rLL=200n"])
    } else if has("mandoc") {
        ("mandoc", &["-man", "-Tutf8", "-Owidth=200"])
    } else {
        return None;
    };
    let ended = Process::run(program, &[words, &[page]].concat());
    assert_eq!((ended.code(), ended.stderr.as_str()), (Some(0), ""), "{page}");
    // A dash of the typesetter's is still a dash to whoever looks for an option.
    Some(ended.stdout.replace(['\u{2010}', '\u{2212}'], "-"))
}

#[test]
fn every_verb_has_a_page_of_the_manual_with_every_option() {
    let folder = Folder::new();
    let pages = folder.file("share").join("man1");
    assert_eq!(stdout(&["man", pages.to_str().unwrap()]), "");
    let first = pages.join("hornpipe.1");
    assert_eq!(fs::read_to_string(&first).unwrap(), stdout(&["man"]));
    let nested = fs::read_dir(&pages).unwrap().flatten();
    let nested: BTreeSet<String> = nested.filter_map(|file| file.file_name().into_string().ok()).collect();
    for page in &nested {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.is_ascii() && text.contains(".SH NAME\n") && text.contains(".SH SYNOPSIS\n"), "{page}");
        rendered(pages.join(page).to_str().unwrap());
    }
    assert!(nested.contains("hornpipe-poison-list.1"), "{nested:?}");
    let index = rendered(first.to_str().unwrap());
    for verb in verbs() {
        let name = format!("hornpipe-{verb}.1");
        let Some(text) = rendered(pages.join(&name).to_str().unwrap()) else { continue };
        for option in options(&verb) {
            assert!(text.contains(&option), "{name} has no {option}:\n{text}");
        }
        let named = format!("hornpipe-{verb}(1)");
        assert!(index.as_ref().is_some_and(|index| index.contains(&named)), "{named}: {index:?}");
    }
}

#[test]
fn examples_stand_in_the_manual_as_they_were_written() {
    let folder = Folder::new();
    stdout(&["man", folder.path().to_str().unwrap()]);
    let Some(text) = rendered(folder.file("hornpipe-serve.1").to_str().unwrap()) else { return };
    let help = stdout(&["serve", "--help"]);
    let examples: Vec<&str> = help.lines().filter(|line| line.starts_with("  hornpipe serve ")).collect();
    assert!(4 < examples.len(), "{help}");
    for line in examples {
        assert!(text.contains(line.trim()), "{line}\n{text}");
    }
    assert!(text.contains("hornpipe serve [OPTIONS] [FRONTEND] [BACKEND] [-- <PROGRAM>...]"), "{text}");
}

#[test]
fn what_cannot_be_written_is_told() {
    for words in [["man", "/dev/null/pages"], ["man", "/proc/pages"]] {
        let ended = Process::run(hornpipe(), &words);
        assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("cannot write to {}", words[1])), "{}", ended.stderr);
    }
    for command in ["completions bash", "man"] {
        let shell = format!("{} {command} > /dev/full", hornpipe().display());
        let ended = Process::run("sh", &["-c", &shell]);
        assert_eq!(ended.code(), Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("cannot write: No space left"), "{}", ended.stderr);
    }
}
