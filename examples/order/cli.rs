//! The options of the command line.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::place::Place;

/// Tells the story of a shop's orders, which are events in a DynamoDB table or a PostgreSQL database.
///
/// Without options, everything runs in this process, on an embedded DynamoDB engine: it needs no AWS account and no
/// server, and stores nothing permanently. On AWS, the output includes the cost of each step.
#[derive(Debug, Parser)]
#[command(name = "order", max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(flatten)]
    pub place: Place,

    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Other commands than the story.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Operate the store: the commands of the tool `es`, with the types of this example. See `admin --help`
    #[command(disable_help_flag = true)]
    Admin {
        /// The arguments of the command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}
