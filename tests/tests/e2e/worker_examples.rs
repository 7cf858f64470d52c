//! The workers of `worker/examples` that need no library of ours, run as their first lines say.

use std::fs;
use std::path::Path;

use hornpipe_tests::harness::{Folder, Serve, compiled_example, worker_example};

/// Starts what stands behind `hornpipe serve 6660 6661` in the example's first lines.
fn serve(name: &str) -> Serve {
    let path = worker_example(name);
    let text = fs::read_to_string(&path).unwrap();
    let command = text.lines().find_map(|line| line.split_once("hornpipe serve 6660 6661 ")).unwrap().1;
    let (options, program) = command.split_once("-- ").unwrap();
    let program = program.trim_end_matches("*/").split_whitespace();
    let here = |word: &str| if word.ends_with(name) { path.display().to_string() } else { word.to_owned() };
    let mut serve = Serve::bare(2).program(program.map(here));
    let mut words = options.split_whitespace();
    while let Some(option) = words.next() {
        serve = if option == "--framing" {
            serve.options([option, words.next().unwrap()])
        } else {
            serve.options([option])
        };
    }
    serve
}

#[test]
fn none_is_longer_than_25_lines() {
    for name in ["words.pl", "gzip.js", "reverse.c", "checksum.sh"] {
        let length = fs::read_to_string(worker_example(name)).unwrap().lines().count();
        assert!(length <= 25, "{name}: {length}");
    }
}

#[test]
fn the_perl_worker_counts_words() {
    let broker = serve("words.pl").start();
    assert_eq!(broker.ask("To be or not\nto be"), "2 be\n2 to\n1 not\n1 or\n");
    assert_eq!(broker.ask(""), "");
}

#[test]
fn the_node_worker_compresses_any_bytes() {
    let broker = serve("gzip.js").start();
    let client = broker.client();
    let all: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
    for body in [&b""[..], b"two\nlines\n", &all] {
        let reply = client.ask(body);
        assert_eq!(reply.get(..2), Some(&[0x1f, 0x8b][..]), "it is a gzip file");
        // Its last four bytes are the length of what is in it.
        let length = u32::from_le_bytes(reply[reply.len() - 4..].try_into().unwrap());
        assert_eq!(usize::try_from(length), Ok(body.len()));
        assert!(reply.len() < body.len() + 64);
    }
}

#[test]
fn the_c_worker_turns_each_frame_round() {
    let folder = Folder::new();
    let program = compiled_example("reverse.c", &folder);
    let broker = Serve::bare(2).program([Path::new(&program)]).start();
    let client = broker.client();
    assert_eq!(client.ask(b""), b"");
    client.send(&[b"abc", b"", b"12"]);
    assert_eq!(client.receive(), [&b"cba"[..], b"", b"21"]);
}

#[test]
fn the_shell_worker_sums_or_says_why_not() {
    let broker = serve("checksum.sh").start();
    let sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\n";
    assert_eq!(broker.ask("hello"), sum);
    let answer = broker.ask("");
    assert!(answer.starts_with("ERR error exit code 1: request "), "{answer}");
    assert!(answer.ends_with("has an empty body"), "{answer}");
}
