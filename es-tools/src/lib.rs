//! `es`, a command-line tool that operates the event stores of [`es_core`] on Amazon DynamoDB, in embedded files, and
//! on PostgreSQL.
//!
//! ```console
//! $ cargo install es-tools
//! $ es --table orders table create
//! $ es --table orders projection list
//! $ es --table orders projection retry overview
//! $ es --postgres postgres://localhost/orders projection list
//! ```
//!
//! The commands work on any store of the framework, without the types of its events. An application that calls [`cli`]
//! with its types gets the same commands and two more: `state`, which shows the state of an aggregate at any version,
//! and `rebuild`, which rebuilds a projection and switches to the new build.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use es_core::prelude::*;
//! use es_tools::Application;
//! use serde::{Deserialize, Serialize};
//!
//! #[event]
//! pub struct Deposited { pub cents: u64 }
//!
//! #[derive(Aggregate, Default, Serialize, Deserialize)]
//! #[aggregate(name = "account", id = String, events(Deposited))]
//! pub struct Account { balance: u64 }
//!
//! #[handlers]
//! impl Account {
//!     #[apply]
//!     fn deposited(&mut self, event: &Deposited) { self.balance += event.cents; }
//! }
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     es_tools::cli(Application::new("accounts").aggregate::<Account>()).await
//! }
//! ```
//!
//! # Exit codes
//!
//! | code | meaning |
//! |---|---|
//! | 0 | the command is done |
//! | 1 | the command failed; the error is on standard error |
//! | 2 | the arguments are invalid |
//! | 3 | a check found a problem: `table verify`, `schema verify`, `feed audit`, `feed reconcile`, `projection progress --check`, `process progress --check`, `copy` |
//! | 4 | the command needs a confirmation: type it, or pass `--yes` |
//! | 130 | the command was interrupted by Ctrl-C or SIGTERM |
//!
//! # Features
//!
//! | feature | content | default |
//! |---|---|---|
//! | `explorer` | `es explore`, and [`Explorer`] | yes |
//! | `postgres` | stores on PostgreSQL: `--postgres`, and the commands `schema` | yes |
//! | `s3` | `s3://BUCKET/PREFIX` for large events, snapshots, and archives | no |
//!
//! # Modules
//!
//! | item | content |
//! |---|---|
//! | [`cli`], [`cli_from`] | the command line, with the types of an application |
//! | [`Application`] | these types, and the keyring of their personal data |
//! | [`Store`] | the store on any backend |
//! | [`explorer`] | the pages that `es explore` serves, and the router to mount in an application |
//! | [`policy`] | the permissions that parts of the framework need |

/// Compiles the snippets of the book's chapter on the stores, which needs all of them.
#[cfg(all(doctest, feature = "postgres"))]
#[doc = include_str!("../../docs/src/stores.md")]
mod book {}

mod application;
mod arguments;
mod commands;
mod consumers;
#[cfg(feature = "explorer")]
pub mod explorer;
mod failure;
mod output;
mod payloads;
pub mod policy;
#[cfg(feature = "postgres")]
mod postgres;
mod session;
mod store;

use std::ffi::OsString;
use std::process::ExitCode;

pub use application::Application;
#[cfg(feature = "explorer")]
pub use explorer::Explorer;
pub use store::Store;

/// Runs the command line of the current process, with the types of `application`, and returns its exit code.
///
/// See the [crate page](crate) for an example and for the exit codes.
pub async fn cli(application: Application) -> ExitCode {
    cli_from(application, std::env::args_os()).await
}

/// Like [`cli`], with these arguments, the first of which is the name of the program. For an application in which the
/// command line is one of several subcommands.
pub async fn cli_from<I, T>(application: Application, arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    commands::run(application, arguments.into_iter().map(Into::into).collect()).await
}
