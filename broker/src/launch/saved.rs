//! What a mold saves, in words for the start-up screen.

use std::io::Write;

use tracing::warn;

use crate::parent::Saved;

/// The last line of the start-up screen, when workers of a mold have come to rest.
pub(super) fn print(saved: &Saved) {
    let mut stdout = std::io::stdout().lock();
    if writeln!(stdout, "  memory {}", in_words(saved)).and_then(|()| stdout.flush()).is_err() {
        warn!("nobody reads the start-up screen");
    }
}

/// What a mold saves, in numbers for a person: of a thousand, like those of disks.
fn in_words(saved: &Saved) -> String {
    let Saved { workers, shared_kib, private_kib, alone_kib } = *saved;
    let apart = alone_kib.saturating_mul(workers as u64);
    let [shared, private, all, apart] =
        [shared_kib, private_kib, shared_kib.saturating_add(private_kib), apart].map(|kib| {
            match kib.saturating_mul(1024) {
                bytes @ ..1_000_000_000 => format!("{} MB", bytes.div_ceil(1_000_000)),
                bytes => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
            }
        });
    let copies =
        if workers == 1 { "one separate copy".to_owned() } else { format!("{workers} separate copies") };
    format!("{shared} shared once + {private} private = {all}; {copies}: {apart}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mold_saves_is_told_in_words() {
        let saved = Saved { workers: 8, shared_kib: 304_000, private_kib: 77_000, alone_kib: 310_000 };
        let expected = "312 MB shared once + 79 MB private = 391 MB; 8 separate copies: 2.5 GB";
        assert_eq!(in_words(&saved), expected);
        let one = Saved { workers: 1, shared_kib: 1, private_kib: 0, alone_kib: 1 };
        assert_eq!(in_words(&one), "1 MB shared once + 0 MB private = 1 MB; one separate copy: 1 MB");
    }
}
