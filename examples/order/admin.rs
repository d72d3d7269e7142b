//! The command line of the operators: that of `es`, with the types of the domain.

use std::ffi::OsString;
use std::process::ExitCode;

use es_tools::Application;

use crate::domain::{Order, Stock, Wallet};
use crate::overview::Overview;

/// Runs a command, such as `state order 1001` or `rebuild overview`.
pub async fn run(arguments: Vec<OsString>) -> ExitCode {
    let application = Application::new("order-admin")
        .aggregate::<Order>()
        .aggregate::<Stock>()
        .aggregate::<Wallet>()
        .projection(Overview::new);
    let program = OsString::from("order-admin");
    es_tools::cli_from(application, std::iter::once(program).chain(arguments)).await
}
