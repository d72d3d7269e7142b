//! `completions` and `man`: made from the definition of the command line.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;
use clap_mangen::Man as Page;

use crate::failure::{Failure, Result};

/// The options of `completions`.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn print(&self, mut parser: clap::Command) -> Result {
        let name = parser.get_name().to_owned();
        // Written at once, because the generator panics if the reader of the output has gone.
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut parser, name, &mut text);
        Ok(std::io::stdout().write_all(&text)?)
    }
}

/// The options of `man`.
#[derive(Args, Debug)]
pub(super) struct Man {
    /// Write a page for each command to this directory instead
    #[arg(long, value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
}

impl Man {
    pub(super) fn print(&self, parser: clap::Command) -> Result {
        match &self.directory {
            Some(directory) => {
                clap_mangen::generate_to(parser, directory).map_err(|error| Failure::at(directory, &error))
            }
            None => Ok(Page::new(parser).render(&mut std::io::stdout())?),
        }
    }
}
