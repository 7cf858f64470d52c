//! `hornpipe man`: a page of the manual for each verb, made from what parses its arguments.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use super::exit_code::WriteExit;
use super::output;

/// Write the manual: a page for each verb
#[derive(Debug, Args)]
#[command(after_help = "\
hornpipe man /usr/local/share/man/man1
hornpipe man | man -l -

Exit codes: 0 written · 1 cannot write · 2 usage")]
pub(super) struct ManArguments {
    /// The directory of the pages, which is made if need be; without one, the first page is printed
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub(super) fn run(arguments: &ManArguments) -> WriteExit {
    let mut command = super::command();
    command.build();
    let written = match &arguments.directory {
        None => page(&command).and_then(|page| output::print(page.as_bytes())),
        Some(directory) => std::fs::create_dir_all(directory).and_then(|()| write_pages(&command, directory)),
    };
    match written {
        Ok(()) => WriteExit::Done,
        Err(error) => {
            let place = arguments.directory.as_deref().map(Path::display);
            let place = place.map(|place| format!(" to {place}")).unwrap_or_default();
            output::complain(format_args!("cannot write{place}: {error}"));
            WriteExit::Unwritable
        }
    }
}

/// The page of a verb, and those of the words that may follow it.
fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    for word in command.get_subcommands().filter(|word| !word.is_hide_set()) {
        write_pages(word, directory)?;
    }
    let file = Man::new(command.clone()).get_filename();
    std::fs::write(directory.join(file), page(command)?)
}

fn page(command: &Command) -> io::Result<String> {
    let man =
        Man::new(command.clone()).manual("Hornpipe").source(concat!("hornpipe ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    // Not each option by its name: there are fifty of some.
    let usage = command.clone().render_usage().to_string();
    page.extend(as_it_stands("SYNOPSIS", usage.trim_start_matches("Usage: ")).into_bytes());
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|word| !word.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    let last = command.get_after_long_help().or(command.get_after_help());
    page.extend(last.map(|last| as_it_stands("NOTES", &last.to_string()).into_bytes()).unwrap_or_default());
    Ok(in_ascii(&String::from_utf8_lossy(&page)))
}

/// A section of examples or tables, which must not be filled into paragraphs.
fn as_it_stands(heading: &str, text: &str) -> String {
    let mut section = format!(".SH {heading}\n.nf\n");
    for line in text.lines() {
        // A dot or an apostrophe at the beginning would be a command.
        if line.starts_with(['.', '\'']) {
            section.push_str("\\&");
        }
        section.push_str(&line.replace('\\', "\\e").replace('-', "\\-"));
        section.push('\n');
    }
    section.push_str(".fi\n");
    section
}

/// As every formatter reads it, whatever the locale.
fn in_ascii(page: &str) -> String {
    let mut ascii = String::with_capacity(page.len());
    for letter in page.chars() {
        match u32::from(letter) {
            0..=127 => ascii.push(letter),
            number => ascii.extend(format!("\\[u{number:04X}]").chars()),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_formatter_would_obey_is_text() {
        let text = ".nf\n'quote\nC:\\dir --option\nplain";
        let section = ".SH NOTES\n.nf\n\\&.nf\n\\&'quote\nC:\\edir \\-\\-option\nplain\n.fi\n";
        assert_eq!(as_it_stands("NOTES", text), section);
        assert_eq!(in_ascii("a · b"), "a \\[u00B7] b");
    }
}
