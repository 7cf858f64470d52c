//! `hornpipe completions`: what a shell needs to complete our command line.

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use super::exit_code::WriteExit;
use super::output;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "\
bash  hornpipe completions bash > /usr/share/bash-completion/completions/hornpipe
zsh   hornpipe completions zsh > /usr/share/zsh/site-functions/_hornpipe
fish  hornpipe completions fish > /usr/share/fish/vendor_completions.d/hornpipe.fish
For one session of bash: source <(hornpipe completions bash)

Exit codes: 0 written · 1 cannot write · 2 usage")]
pub(super) struct CompletionsArguments {
    /// Whose
    #[arg(value_enum)]
    shell: KnownShell,
}

/// Those whose completions are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(arguments: &CompletionsArguments) -> WriteExit {
    let shell = match arguments.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut text = Vec::new();
    generate(shell, &mut super::command(), "hornpipe", &mut text);
    match output::print(&text) {
        Ok(()) => WriteExit::Done,
        Err(error) => {
            output::complain(format_args!("cannot write: {error}"));
            WriteExit::Unwritable
        }
    }
}
